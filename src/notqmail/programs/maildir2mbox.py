"""maildir2mbox(1): moves the messages of $MAILDIR to the mbox $MAIL by way of $MAILTMP."""

import os
import sys

from notqmail.fetch import maildir2mbox
from notqmail.unix.clock import Clock
from notqmail.unix.durable import Disk
from notqmail.unix.errors import error_text
from notqmail.unix.mains import TEMPORARY, complain, run

USAGE = "usage: maildir2mbox    moves the messages of $MAILDIR to the mbox $MAIL by way of $MAILTMP\n"


def main() -> int:
    """Arguments are ignored, as they always were, but for --help."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    os.umask(0o077)
    mbox, new_mbox = os.environb.get(b"MAIL"), os.environb.get(b"MAILTMP")
    maildir = os.environb.get(b"MAILDIR")
    if mbox is None or new_mbox is None or maildir is None:
        name = "MAIL" if mbox is None else "MAILTMP" if new_mbox is None else "MAILDIR"
        return _fatal(name.encode() + b" not set")
    try:
        os.chdir(maildir)
    except OSError as error:
        return _fatal(b"unable to chdir to " + maildir + b": " + error_text(error))
    try:
        maildir2mbox.move(Disk(), Clock().now_s(), mbox, new_mbox, maildir2mbox.lock_file, _warn)
    except maildir2mbox.Failed as failed:
        return _fatal(failed.text)
    return 0


def _fatal(text: bytes) -> int:
    complain(b"maildir2mbox: fatal: " + text)
    return TEMPORARY


def _warn(text: bytes) -> None:
    complain(b"maildir2mbox: warning: " + text)


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
