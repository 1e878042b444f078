"""mailsubj(1): sends the text on descriptor 0 with a given subject to the recipients on the command line."""

import os
import sys

from notqmail.receive.mailsubj import mailsubj
from notqmail.unix.clock import Clock
from notqmail.unix.home import home_directory
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import run

USAGE = "usage: mailsubj subject recipient ...    text on descriptor 0\n"


def main() -> int:
    """Exits as qmail-inject does: 0, 100 or 111."""
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if words == [b"--help"]:
        sys.stdout.write(USAGE)
        return 0
    try:
        return mailsubj(words, home=home_directory(os.environb), environ=os.environb, clock=Clock())
    except Leaving as leaving:
        return leaving.told()


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
