"""qmail-smtpd(8): an SMTP client on descriptors 0 and 1, or, with --listen, many of them on ports of our own."""

import sys

from notqmail.receive.faces import LISTEN_USAGE, show
from notqmail.unix.mains import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from notqmail.receive.listen_options import ListenOptions
    from notqmail.unix.clock import Clock

USAGE = LISTEN_USAGE.format("qmail-smtpd")


def main() -> int:
    """Both faces have the same session; neither imports what only the other one needs."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    return show("qmail-smtpd", sys.argv[1:], once=_once, listen=_listen)


def _once(home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock") -> int:
    from notqmail.receive import smtpd_once

    return smtpd_once.run(home, environ, clock)


def _listen(home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock", options: "ListenOptions") -> int:
    from notqmail.receive import smtpd_listen

    return smtpd_listen.run(home, environ, clock, options)


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
