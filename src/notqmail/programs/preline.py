"""preline(1), for `.qmail` lines: a program gets the message with UFLINE, RPLINE and DTLINE on top."""

import os
import sys

from notqmail.deliver.commands.preline import preline
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import run

USAGE = "usage: preline [ -frdFRD ] program [ arg ... ]\n"


def main() -> int:
    """Exits as the program does, or 100 or 111."""
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if words == [b"--help"]:
        sys.stdout.write(USAGE)
        return 0
    try:
        return preline(words, environ=os.environb)
    except Leaving as leaving:
        return leaving.told()


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
