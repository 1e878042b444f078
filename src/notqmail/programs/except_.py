"""except(1), for `.qmail` lines: a program's yes becomes no, its no yes. (The name without _ is Python's own.)"""

import os
import sys

from notqmail.deliver.commands.except_ import except_
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import run

USAGE = "usage: except program [ arg ... ]\n"


def main() -> int:
    """Exits 100, 0 or 111."""
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if words == [b"--help"]:
        sys.stdout.write(USAGE)
        return 0
    try:
        return except_(words, environ=os.environb)
    except Leaving as leaving:
        return leaving.told()


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
