"""qmail-newmrh(8): makes control/morercpthosts.cdb of control/morercpthosts, whole or not at all."""

import os
import sys

from notqmail.unix.cdb import build_cdb
from notqmail.unix.durable import Disk, WriteFailed
from notqmail.unix.errors import error_text
from notqmail.unix.home import home_directory
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import TEMPORARY, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

USAGE = "usage: qmail-newmrh    makes control/morercpthosts.cdb of control/morercpthosts\n"
_TEXT, _NEW, _CURRENT = b"control/morercpthosts", b"control/morercpthosts.tmp", b"control/morercpthosts.cdb"


def main() -> int:
    """Reads control/morercpthosts of the home, replaces the cdb."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    os.umask(0o033)
    home = home_directory(os.environb)
    try:
        try:
            os.chdir(home)
        except OSError as error:
            raise _failed(b"unable to chdir to " + home, error) from None
        rebuild(Disk())
    except Leaving as leaving:
        return leaving.told()
    return 0


def rebuild(disk: Disk) -> None:
    """control/morercpthosts -> control/morercpthosts.cdb under the disk's root. Raises Leaving."""
    try:
        text = disk.read(_TEXT)
    except OSError as error:
        raise _failed(b"unable to read " + _TEXT, error) from None
    try:
        disk.discard(_NEW)
        disk.create(_NEW, [build_cdb((key, b"") for key in hosts(text))], 0o644)
        disk.sync([_NEW])
    except (OSError, WriteFailed) as error:
        raise _failed(b"unable to write to " + _NEW, error) from None
    try:
        disk.rename(_NEW, _CURRENT)
        disk.sync([b"control"])
    except (OSError, WriteFailed) as error:
        raise _failed(b"unable to move " + _NEW + b" to " + _CURRENT, error) from None


def hosts(text: bytes) -> "Iterator[bytes]":
    """The keys: each line in small letters without trailing blanks; empty lines and `#` comments are none."""
    for line in text.lower().split(b"\n"):
        line = line.rstrip(b" \t")
        if line and not line.startswith(b"#"):
            yield line


def _failed(text: bytes, error: Exception) -> Leaving:
    why = error_text(error) if isinstance(error, OSError) else b"unknown error"
    return Leaving(TEMPORARY, b"qmail-newmrh: fatal: " + text + b": " + why)


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
