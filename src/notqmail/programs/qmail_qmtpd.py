"""qmail-qmtpd(8): a QMTP client on descriptors 0 and 1, or, with --listen, many of them on ports of our own."""

import os
import sys

from notqmail.receive import qmtpd_faces
from notqmail.receive.faces import LISTEN_USAGE, choose
from notqmail.unix.clock import Clock
from notqmail.unix.home import home_directory
from notqmail.unix.mains import run

USAGE = LISTEN_USAGE.format("qmail-qmtpd")


def main() -> int:
    """Both faces have the same session."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    home, clock = home_directory(os.environb), Clock()
    return choose(
        "qmail-qmtpd", sys.argv[1:],
        once=lambda: qmtpd_faces.once(home, os.environb, clock),
        listen=lambda options: qmtpd_faces.listen(home, os.environb, clock, options),
    )  # fmt: skip


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
