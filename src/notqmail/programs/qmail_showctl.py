"""qmail-showctl(8): how this mail system is set up, on descriptor 1."""

import os
import sys

from notqmail.admin.showctl import CannotShow, report
from notqmail.unix.accounts import MissingAccount, accounts_for
from notqmail.unix.controls import control_reader
from notqmail.unix.home import home_directory
from notqmail.unix.mains import TEMPORARY, complain, run

USAGE = "usage: qmail-showctl    shows what the control files say\n"


def main() -> int:
    """Shows the home that QMAILHOME names."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    home = home_directory(os.environb)
    try:
        accounts = accounts_for(home)
    except MissingAccount as missing:
        complain(str(missing))
        return TEMPORARY
    try:
        for piece in report(home, accounts, control_reader(home)):
            sys.stdout.buffer.write(piece)
    except CannotShow as trouble:
        sys.stdout.buffer.write(trouble.text)
        return TEMPORARY
    return 0


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
