"""qmail-rspawn(8): qmail-send's remote deliveries; commands on descriptor 0, reports on descriptor 1."""

import os
import sys

from notqmail.unix.accounts import MissingAccount, accounts_for
from notqmail.unix.clock import Clock
from notqmail.unix.home import home_directory
from notqmail.unix.mains import TEMPORARY, complain, run
from notqmail.unix.own_addresses import own_addresses
from notqmail.unix.processes import write_all

USAGE = b"usage: qmail-rspawn   (started by qmail-start; see qmail-rspawn(8))\n"


def main() -> int:
    """0 when the commands ended; 111 when it cannot even begin."""
    if sys.argv[1:] == ["--help"]:
        write_all(1, USAGE)
        return 0
    home = home_directory(os.environb)
    try:
        os.chdir(home + b"/queue/mess")
        queue_uid = accounts_for(home).uids["queue"]
    except OSError:
        return TEMPORARY
    except MissingAccount as missing:
        complain(str(missing))
        return TEMPORARY
    serve(home, queue_uid)
    return 0


def serve(home: bytes, queue_uid: int) -> None:
    """Clears the memory of time-outs, then works until the commands end."""
    from notqmail.deliver.rspawn import Rspawn
    from notqmail.deliver.rspawn import run as run_spawner
    from notqmail.deliver.tcpto import TimeoutTable
    from notqmail.unix.resolver import configured_servers
    from notqmail.unix.resolver_async import AsyncDnsResolver

    clock = Clock()
    timeouts = TimeoutTable(home, now_s=clock.now_s, jitter=os.getpid())
    try:
        timeouts.clear()
    except OSError:
        pass  # no file: the feature is off; no right: old time-outs count a while longer
    spawner = Rspawn(
        home, queue_uid, dict(os.environb), timeouts=timeouts, own_addresses=own_addresses,
        resolver=AsyncDnsResolver(configured_servers(os.environb), steady_s=clock.steady_s),
    )  # fmt: skip
    run_spawner(spawner)


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
