"""qmail-newu(8): makes users/cdb of users/assign; readers see the old file or the new one, never a part."""

import os
import sys

from notqmail.control import assign
from notqmail.unix.cdb import build_cdb
from notqmail.unix.durable import Disk, WriteFailed
from notqmail.unix.home import home_directory
from notqmail.unix.mains import TEMPORARY, complain, run

USAGE = "usage: qmail-newu    makes users/cdb of users/assign\n"
_NEW, _CURRENT = b"users/cdb.tmp", b"users/cdb"


class Failed(Exception):
    """Nothing was replaced; str() is the reason."""


def main() -> int:
    """Reads users/assign of the home, replaces users/cdb."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    os.umask(0o033)
    try:
        os.chdir(home_directory(os.environb))
    except OSError:
        complain("qmail-newu: fatal: unable to chdir")
        return TEMPORARY
    try:
        rebuild(Disk())
    except Failed as failed:
        complain(f"qmail-newu: fatal: {failed}")
        return TEMPORARY
    return 0


def rebuild(disk: Disk) -> None:
    """users/assign -> users/cdb under the disk's root. Raises Failed."""
    try:
        text = disk.read(b"users/assign")
    except FileNotFoundError as error:
        raise Failed("unable to open users/assign") from error
    except OSError as error:
        raise Failed("unable to read users/assign") from error
    try:
        data = build_cdb(assign.records(text))
    except assign.BadFormat as bad:
        raise Failed(f"bad format in users/assign: line {bad.line}") from bad
    try:
        disk.discard(_NEW)
        disk.create(_NEW, [data], 0o644)
        disk.sync([_NEW])
    except WriteFailed as error:
        raise Failed("unable to write users/cdb.tmp") from error
    except OSError as error:
        raise Failed("unable to open users/cdb.tmp") from error
    try:
        disk.rename(_NEW, _CURRENT)
        disk.sync([b"users"])
    except OSError as error:
        raise Failed("unable to move users/cdb.tmp to users/cdb") from error


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
