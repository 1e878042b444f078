"""qmail-lspawn(8): commands on fd 0, reports on fd 1; the argument is the default delivery."""

import os
import signal
import sys

from notqmail.deliver.lspawn import LocalSpawner
from notqmail.deliver.lspawn_children import Settings
from notqmail.unix.accounts import MissingAccount, accounts_for
from notqmail.unix.clock import Clock
from notqmail.unix.home import home_directory
from notqmail.unix.mains import PERMANENT, TEMPORARY, complain, open_standard_error, run

USAGE = "usage: qmail-lspawn defaultdelivery    started by qmail-start\n"


def main() -> int:
    """Spawns local deliveries until qmail-send closes the command pipe."""
    if len(sys.argv) < 2:
        complain(USAGE.rstrip())
        return PERMANENT
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    open_standard_error()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored by a careless parent, the dead could not be waited for
    home = home_directory(os.environb)
    messages = os.path.join(home, b"queue", b"mess")
    try:
        os.chdir(messages)
        accounts = accounts_for(home)
    except OSError as error:
        complain(f"qmail-lspawn: fatal: cannot enter {os.fsdecode(messages)}: {error.strerror}")
        return TEMPORARY
    except MissingAccount as missing:
        complain(str(missing))
        return TEMPORARY
    LocalSpawner(Settings(home, os.fsencode(sys.argv[1]), accounts, os.environb), Clock()).run()
    return 0


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
