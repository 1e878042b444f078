"""qmail-getpw(8): which account receives an address; six fields on fd 1, each ended by NUL."""

import os
import sys

from notqmail.deliver.users import LookupFailed, find_account
from notqmail.unix.mains import PERMANENT, run
from notqmail.unix.processes import write_all


def main() -> int:
    """Looks up one address. No --help: the argument is an address, whatever it looks like."""
    if len(sys.argv) == 1:
        return PERMANENT
    try:
        write_all(1, find_account(os.fsencode(sys.argv[1])).encode())
    except LookupFailed as failed:
        return failed.code
    return 0


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
