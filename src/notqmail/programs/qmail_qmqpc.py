"""qmail-qmqpc(8): in qmail-queue's place; message on descriptor 0, envelope on 1, both go to a QMQP server."""

import os
import sys

from notqmail.receive.qmqpc import from_descriptors
from notqmail.unix.home import home_directory
from notqmail.unix.mains import run
from notqmail.wire import queue_exit

USAGE = "usage: qmail-qmqpc    message on descriptor 0, envelope on 1; the exit code is the answer\n"


def main() -> int:
    """Arguments are ignored, as they always were."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    try:
        return from_descriptors(home_directory(os.environb))
    except MemoryError:
        return queue_exit.OUT_OF_MEMORY


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main, uncaught=queue_exit.BUG)


if __name__ == "__main__":
    start()
