"""qmail-pop3d(8): the Maildir named by the argument, to a reader on descriptors 0 and 1 who has logged in."""

import os
import sys

from notqmail.fetch import pop3d
from notqmail.unix.clock import Clock
from notqmail.unix.durable import Disk
from notqmail.unix.mains import complain, run
from notqmail.unix.peer import Peer

USAGE = "usage: qmail-pop3d MAILDIR    one reader on descriptors 0 and 1\n"


def main() -> int:
    """0 however the session ends; 1 as root, who has no mail of its own."""
    if sys.argv[1:] == ["--help"]:
        sys.stdout.write(USAGE)
        return 0
    if os.getuid() == 0:
        complain("qmail-pop3d invoked as uid 0, terminating")
        return 1
    peer = Peer(0, 1, pop3d.TIMEOUT_S)
    try:
        os.chdir(sys.argv[1])
    except (IndexError, OSError):
        pop3d.refuse(peer)
        return 0
    pop3d.serve(Disk(), Clock(), peer)
    return 0


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
