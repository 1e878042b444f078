"""datemail(1): sendmail, with a Date field in the local zone on top of the message."""

import os
import sys

from notqmail.programs.predate import zone_s
from notqmail.receive.datemail import datemail
from notqmail.unix.clock import Clock
from notqmail.unix.home import home_directory
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import run

USAGE = "usage: datemail [sendmail's options] [recipient ...]    message on descriptor 0\n"


def main() -> int:
    """Exits as sendmail does, or 111."""
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if words == [b"--help"]:
        sys.stdout.write(USAGE)
        return 0
    home = home_directory(os.environb)
    try:
        return datemail(words, home=home, environ=os.environb, clock=Clock(), zone_s=zone_s)
    except Leaving as leaving:
        return leaving.told()


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
