"""condredirect(1), for `.qmail` lines: another address gets the message when a program says so."""

import os
import sys

from notqmail.deliver.commands.condredirect import REDIRECTED, condredirect
from notqmail.unix.home import home_directory
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import complain, run

USAGE = "usage: condredirect newaddress program [ arg ... ]\n"


def main() -> int:
    """Exits 99 (redirected), 0 (not), 100 or 111."""
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if words == [b"--help"]:
        sys.stdout.write(USAGE)
        return 0
    try:
        qp = condredirect(words, home=home_directory(os.environb), environ=os.environb)
    except Leaving as leaving:
        return leaving.told()
    if qp is None:
        return 0
    complain(f"condredirect: qp {qp}")
    return REDIRECTED


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
