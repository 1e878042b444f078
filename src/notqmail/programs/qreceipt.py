"""qreceipt(1), for `.qmail` lines: answers a sender's request for a delivery notice."""

import os
import sys

from notqmail.deliver.commands.qreceipt import qreceipt
from notqmail.unix.home import home_directory
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import run


def main() -> int:
    """Exits 0, 100 or 111. No --help: the argument is an address, whatever it looks like."""
    words = [os.fsencode(word) for word in sys.argv[1:]]
    try:
        qreceipt(words, home=home_directory(os.environb), environ=os.environb)
    except Leaving as leaving:
        return leaving.told()
    return 0


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
