"""qmail-qmtpd(8): a QMTP client on descriptors 0 and 1, or, with --listen, many of them on ports of our own."""

import sys

from notqmail.receive import qmtpd_faces
from notqmail.receive.faces import LISTEN_USAGE, show
from notqmail.unix.mains import run

USAGE = LISTEN_USAGE.format("qmail-qmtpd")


def main() -> int:
    """Both faces have the same session."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    return show("qmail-qmtpd", sys.argv[1:], once=qmtpd_faces.once, listen=qmtpd_faces.listen)


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
