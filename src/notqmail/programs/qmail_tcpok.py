"""qmail-tcpok(8): forgets which addresses let connections time out lately, so that all are tried again."""

import fcntl
import os
import sys

from notqmail.deliver.tcpto import TABLE_BYTES
from notqmail.unix.errors import error_text
from notqmail.unix.home import home_directory
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import TEMPORARY, run

USAGE = "usage: qmail-tcpok    clears the table of time-outs\n"


def main() -> int:
    """Clears queue/lock/tcpto under its lock."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    try:
        clear(home_directory(os.environb))
    except Leaving as leaving:
        return leaving.told()
    return 0


def clear(home: bytes) -> None:
    """Raises Leaving."""
    for directory in (home, home + b"/queue/lock"):
        try:
            os.chdir(directory)
        except OSError as error:
            raise _failed(b"chdir to " + directory, error) from None
    path = home + b"/queue/lock/tcpto"
    try:
        descriptor = os.open(b"tcpto", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(b"write " + path, error) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise _failed(b"lock " + path, error) from None
        try:
            os.pwrite(descriptor, bytes(TABLE_BYTES), 0)
        except OSError as error:
            raise _failed(b"clear " + path, error) from None
    finally:
        os.close(descriptor)


def _failed(what: bytes, error: OSError) -> Leaving:
    return Leaving(TEMPORARY, b"qmail-tcpok: fatal: unable to " + what + b": " + error_text(error))


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
