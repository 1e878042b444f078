"""qmail-send(8): delivers what is in the queue."""

import os
import sys

from notqmail.send.main import serve
from notqmail.unix.clock import Clock
from notqmail.unix.home import home_directory
from notqmail.unix.mains import run

USAGE = "usage: qmail-send    started by qmail-start, with descriptors 0 to 6\n"


def main() -> int:
    """Descriptors 0 to 6 and HOME -> send.main."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    return serve(home_directory(os.environb), os.environb, Clock())


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
