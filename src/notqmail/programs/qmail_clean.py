"""qmail-clean(8): removes queue files for qmail-send."""

import os
import sys

from notqmail.queue.layout import queue_directory
from notqmail.send.clean import Cleaner, serve
from notqmail.unix.clock import Clock
from notqmail.unix.durable import Disk
from notqmail.unix.home import home_directory
from notqmail.unix.mains import TEMPORARY, complain, run

USAGE = "usage: qmail-clean    commands on descriptor 0, replies on 1; started by qmail-start\n"


def main() -> int:
    """Commands on descriptor 0 -> send.clean -> replies on descriptor 1."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    home = home_directory(os.environb)
    try:
        os.chdir(queue_directory(home))
    except OSError as error:
        complain(f"qmail-clean: fatal: cannot enter the queue: {error.strerror}")
        return TEMPORARY
    return serve(Cleaner(Disk(), Clock()))


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
