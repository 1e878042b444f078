"""bouncesaying(1), for `.qmail` lines: the message bounces with a text, always or when a program says so."""

import os
import sys

from notqmail.deliver.commands.bouncesaying import bouncesaying
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import run


def main() -> int:
    """Exits 100 (bounce), 0 (not) or 111. No --help: the first argument is a text, whatever it looks like."""
    try:
        bouncesaying([os.fsencode(word) for word in sys.argv[1:]], environ=os.environb)
    except Leaving as leaving:
        return leaving.told()
    return 0


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
