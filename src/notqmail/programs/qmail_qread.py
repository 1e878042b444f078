"""qmail-qread(8): the preprocessed messages in the queue and their recipients, on descriptor 1."""

import os
import sys

from notqmail.admin.qread import Fatal, listing
from notqmail.queue.layout import queue_directory
from notqmail.unix.durable import Disk
from notqmail.unix.errors import error_text
from notqmail.unix.home import home_directory
from notqmail.unix.mains import TEMPORARY, run

USAGE = "usage: qmail-qread    lists the messages in the queue and who waits for them\n"


def main() -> int:
    """Lists the queue of the home that QMAILHOME names."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    out = sys.stdout.buffer
    try:
        os.chdir(queue_directory(home_directory(os.environb)))
    except OSError as error:
        out.write(b"fatal: unable to chdir: %b\n" % error_text(error))
        return TEMPORARY
    try:
        for line in listing(Disk()):
            out.write(line)
    except Fatal as fatal:
        out.write(fatal.text)
        return TEMPORARY
    return 0


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
