"""predate(1): runs a program with the message on descriptor 0, a Date field in the local zone on top."""

import os
import sys
import time

from notqmail.receive.predate import predate
from notqmail.unix.clock import Clock
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import run

USAGE = "usage: predate program [ arg ... ]\n"


def main() -> int:
    """Exits as the program does, or 100 or 111."""
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if words == [b"--help"]:
        sys.stdout.write(USAGE)
        return 0
    try:
        return predate(words, environ=os.environb, clock=Clock(), zone_s=zone_s)
    except Leaving as leaving:
        return leaving.told()


def zone_s(now_s: int) -> int:
    """How far east of Greenwich the local zone ($TZ) is, in seconds."""
    return time.localtime(now_s).tm_gmtoff


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
