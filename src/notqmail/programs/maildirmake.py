"""maildirmake(1): a new Maildir."""

import os
import sys

from notqmail.fetch import maildir
from notqmail.unix.errors import error_text
from notqmail.unix.mains import PERMANENT, TEMPORARY, complain, run

USAGE = "usage: maildirmake NAME    makes the Maildir NAME, which must not exist\n"


def main() -> int:
    """Words after the first are ignored, as they always were."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    os.umask(0o077)
    if len(sys.argv) < 2:
        complain("maildirmake: usage: maildirmake name")
        return PERMANENT
    try:
        maildir.make(os.fsencode(sys.argv[1]))
    except maildir.CannotMake as failed:
        complain(b"maildirmake: fatal: unable to " + failed.step + b": " + error_text(failed.error))
        return TEMPORARY
    return 0


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
