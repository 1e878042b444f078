"""qmail-smtpd(8): an SMTP client on descriptors 0 and 1, or, with --listen, many of them on ports of our own."""

import os
import sys

from notqmail.unix.clock import Clock
from notqmail.unix.home import home_directory
from notqmail.unix.mains import PERMANENT, complain, run

USAGE = """usage: qmail-smtpd    one client on descriptors 0 and 1
       qmail-smtpd --listen ADDRESS:PORT [--listen ...] [--rules FILE.cdb] [--limit N]
                   [--limit-per-address N] [--backlog N] [--memory MB] [--user NAME]
"""


def main() -> int:
    """Arguments that do not begin with `--` are ignored, as they always were (AUTH patches take some)."""
    home = home_directory(os.environb)
    arguments = sys.argv[1:]
    if not arguments or not arguments[0].startswith("--"):
        from notqmail.receive import smtpd_once

        return smtpd_once.run(home, os.environb, Clock())
    if arguments == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    from notqmail.receive import smtpd_listen
    from notqmail.receive.listen_options import BadOptions, listen_options

    try:
        options = listen_options(arguments)
    except BadOptions as error:
        complain(f"qmail-smtpd: usage: {error}")
        return PERMANENT
    return smtpd_listen.run(home, os.environb, Clock(), options)


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
