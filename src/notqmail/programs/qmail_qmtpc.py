"""qmail-qmtpc(8): HOST SENDER RECIPIENT... - the message on descriptor 0 by QMTP, reports as of qmail-remote, exit 0."""

from notqmail.deliver.qmtp_dialogue import qmtp_candidates
from notqmail.programs.qmail_remote import run_attempt
from notqmail.unix.mains import run

USAGE = "usage: qmail-qmtpc HOST SENDER RECIPIENT...    message on descriptor 0, reports on 1\n"


def main() -> int:
    """The exit code says nothing; the last report does."""
    return run_attempt(USAGE, qmtp_candidates)


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
