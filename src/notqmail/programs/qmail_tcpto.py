"""qmail-tcpto(8): prints which addresses let connections time out lately."""

import fcntl
import os
import sys

from notqmail.deliver.tcpto import TABLE_BYTES, timeouts
from notqmail.unix.clock import Clock
from notqmail.unix.errors import error_text
from notqmail.unix.home import home_directory
from notqmail.unix.mains import TEMPORARY, run
from notqmail.unix.processes import write_all

USAGE = "usage: qmail-tcpto    prints the table of time-outs\n"


class Failed(Exception):
    """`line` is for descriptor 1, where this program has always complained."""

    def __init__(self, text: bytes, error: OSError) -> None:
        super().__init__(text)
        self.line = b"fatal: " + text + b": " + error_text(error) + b"\n"


def main() -> int:
    """One line for each address."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    try:
        table = read_table()
    except Failed as failed:
        write_all(1, failed.line)
        return TEMPORARY
    write_all(1, listing(table, Clock().now_s()))
    return 0


def read_table() -> bytes:
    """The table, read under its lock. Raises Failed."""
    try:
        os.chdir(os.path.join(home_directory(os.environb), b"queue/lock"))
    except OSError as error:
        raise Failed(b"unable to chdir", error) from None
    try:
        descriptor = os.open(b"tcpto", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Failed(b"unable to open tcpto", error) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise Failed(b"unable to lock tcpto", error) from None
        try:
            return os.pread(descriptor, TABLE_BYTES, 0)
        except OSError as error:
            raise Failed(b"unable to read tcpto", error) from None
    finally:
        os.close(descriptor)


def listing(table: bytes, now_s: int) -> bytes:
    """The lines. One that is later than now, since the clock was put back, was 0 seconds ago."""
    return b"".join(
        b"%b timed out %d seconds ago; # recent timeouts: %d\n" % (address, max(now_s - last_s, 0), count)
        for address, count, last_s in timeouts(table)
    )


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
