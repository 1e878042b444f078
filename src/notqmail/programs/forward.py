"""forward(1), for `.qmail` lines: the message on descriptor 0 goes on to the addresses on the command line."""

import os
import sys

from notqmail.deliver.commands.forward import forward
from notqmail.unix.home import home_directory
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import complain, run


def main() -> int:
    """Exits 0, 100 or 111. No --help: an argument is an address, whatever it looks like."""
    recipients = [os.fsencode(word) for word in sys.argv[1:]]
    try:
        qp = forward(recipients, home=home_directory(os.environb), environ=os.environb)
    except Leaving as leaving:
        return leaving.told()
    complain(f"forward: qp {qp}")
    return 0


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
