"""qmail-rspawn(8): qmail-send's remote deliveries; commands on descriptor 0, reports on descriptor 1."""

import os
import sys

from notqmail.unix.accounts import MissingAccount, accounts_for
from notqmail.unix.clock import Clock
from notqmail.unix.home import home_directory
from notqmail.unix.mains import TEMPORARY, complain, open_standard_error, run
from notqmail.unix.own_addresses import own_addresses

USAGE = "usage: qmail-rspawn    commands on descriptor 0, reports on 1; started by qmail-start\n"


def main() -> int:
    """0 when the commands ended; 111 when it cannot even begin."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    open_standard_error()
    home = home_directory(os.environb)
    messages = os.path.join(home, b"queue", b"mess")
    try:
        os.chdir(messages)
        queue_uid = accounts_for(home).uids["queue"]
    except OSError as error:
        complain(f"qmail-rspawn: fatal: cannot enter {os.fsdecode(messages)}: {error.strerror}")
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
    from notqmail.unix.memory import RESIDENT_BYTES, limit_memory
    from notqmail.unix.open_files import allow_many_open_files
    from notqmail.unix.resolver import configured_servers
    from notqmail.unix.resolver_async import AsyncDnsResolver

    limit_memory(RESIDENT_BYTES)
    clock = Clock()
    timeouts = TimeoutTable(home, now_s=clock.now_s, jitter=os.getpid())
    try:
        timeouts.clear()
    except OSError:
        pass  # no file: the feature is off; no right: old time-outs count a while longer
    spawner = Rspawn(
        home, queue_uid, dict(os.environb), timeouts=timeouts, own_addresses=own_addresses,
        open_files=allow_many_open_files(),
        resolver=AsyncDnsResolver(configured_servers(os.environb), steady_s=clock.steady_s),
    )  # fmt: skip
    run_spawner(spawner)


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
