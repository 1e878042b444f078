"""qbiff(1), for `.qmail` lines: tells the recipient's terminals about new mail. Exits 0 whatever happens."""

import os
import sys

from notqmail.deliver.commands.qbiff import READ_SIZE, qbiff
from notqmail.unix.mains import run
from notqmail.unix.sessions import UTMP_PATH, logged_in, record_bytes

USAGE = "usage: qbiff    message on descriptor 0; USER, SENDER and LOCAL in the environment\n"


def main() -> int:
    """Always 0: a terminal that cannot be told is no reason to deliver again."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    try:
        with open(UTMP_PATH, "rb", buffering=0) as file:
            sessions = logged_in(file.readall(), record_bytes(os.uname().machine))
    except OSError:
        return 0  # nobody knows who is logged in
    qbiff(os.environb, sessions, read_more=lambda: os.read(0, READ_SIZE), uid=os.getuid())
    return 0


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main, uncaught=0)


if __name__ == "__main__":
    start()
