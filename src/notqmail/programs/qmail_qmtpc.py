"""qmail-qmtpc(8): HOST SENDER RECIPIENT... - the message on descriptor 0 by QMTP; reports as qmail-remote."""

import sys

from notqmail.deliver.qmtp_dialogue import qmtp_candidates
from notqmail.programs.qmail_remote import run_attempt
from notqmail.unix.mains import run

USAGE = "usage: qmail-qmtpc HOST SENDER RECIPIENT...    message on descriptor 0, reports on 1\n"


def main() -> int:
    """The exit code says nothing; the last report does."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    return run_attempt(qmtp_candidates)


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
