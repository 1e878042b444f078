"""qmail-rfilter(8): in qmail-remote's place; the message goes through control/remotefilters first."""

import os
import sys

from notqmail.deliver.filters import REMOTE, filter_and_become, remote_delivery
from notqmail.unix.clock import Clock
from notqmail.unix.home import home_directory
from notqmail.unix.mains import run
from notqmail.unix.processes import write_all

USAGE = "usage: qmail-rfilter HOST SENDER RECIPIENT...    message on descriptor 0, reports on 1\n"


def main() -> int:
    """Returns when qmail-remote is not run: the report says why, and the exit code is 0, as qmail-remote's is."""
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if words == [b"--help"]:
        sys.stdout.write(USAGE)
        return 0
    report = filter_and_become(
        REMOTE, words, remote_delivery(words), home_directory(os.environb), os.environb, Clock()
    )  # fmt: skip
    write_all(1, report.encode() + b"\0")
    return 0


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
