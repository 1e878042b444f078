"""qmail-qfilter(1): in qmail-queue's place; `qmail-qfilter f1 a b -- f2` sends the message through f1, then f2."""

import os
import sys

from notqmail.receive.qfilter import from_descriptors
from notqmail.unix.clock import Clock
from notqmail.unix.home import home_directory
from notqmail.unix.mains import run
from notqmail.wire import queue_exit

USAGE = """usage: qmail-qfilter [ filter [ arg ... ] [ -- filter [ arg ... ] ] ... ]
       message on descriptor 0, envelope on 1; the exit code is the answer
"""


def main() -> int:
    """Returns when nothing was queued."""
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if words == [b"--help"]:
        sys.stdout.write(USAGE)
        return 0
    try:
        return from_descriptors(words, home_directory(os.environb), os.environb, Clock())
    except MemoryError:
        return queue_exit.OUT_OF_MEMORY


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main, uncaught=queue_exit.BUG)


if __name__ == "__main__":
    start()
