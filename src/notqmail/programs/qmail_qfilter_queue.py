"""qmail-qfilter-queue(8): in qmail-queue's place; the message goes through the filters that a control file lists."""

import os
import sys

from notqmail.receive.qfilter import filter_queue
from notqmail.unix.clock import Clock
from notqmail.unix.home import home_directory
from notqmail.unix.mains import run
from notqmail.wire import queue_exit

USAGE = "usage: qmail-qfilter-queue    message on descriptor 0, envelope on 1; the exit code is the answer\n"


def main() -> int:
    """Arguments are ignored, as qmail-queue ignores them. Returns when nothing was queued."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    try:
        return filter_queue(home_directory(os.environb), os.environb, Clock())
    except MemoryError:
        return queue_exit.OUT_OF_MEMORY


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main, uncaught=queue_exit.BUG)


if __name__ == "__main__":
    start()
