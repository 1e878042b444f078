"""qmail-qstat(8): how many messages are in the queue, in two lines on descriptor 1."""

import os
import sys

from notqmail.admin.qstat import report
from notqmail.queue.layout import queue_directory
from notqmail.unix.errors import error_text
from notqmail.unix.home import home_directory
from notqmail.unix.mains import complain, run

USAGE = "usage: qmail-qstat    counts the messages in the queue\n"


def main() -> int:
    """Counts in the home that QMAILHOME names. Exit code 0 even where nothing could be read, as C's."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    sys.stdout.buffer.write(report(queue_directory(home_directory(os.environb)), _say))
    return 0


def _say(error: OSError) -> None:
    complain(b"qmail-qstat: unable to read %b: %b" % (os.fsencode(error.filename or b"queue"), error_text(error)))


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
