"""qmail-popup(8): reads a POP3 name and password on descriptor 0 and runs a program that judges them."""

import os
import sys

from notqmail.fetch import popup
from notqmail.unix.clock import Clock
from notqmail.unix.mains import run
from notqmail.unix.peer import Gone, Peer, Silent
from notqmail.wire import pop3

USAGE = "usage: qmail-popup HOSTNAME SUBPROGRAM [ARGUMENT ...]    one client on descriptors 0 and 1\n"


def main() -> int:
    """1 however it ends; the client hears the rest."""
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if words == [b"--help"]:
        sys.stdout.write(USAGE)
        return 0
    peer = Peer(0, 1, popup.TIMEOUT_S)
    if len(words) < 2:
        try:
            peer.write(pop3.refused(b"usage: popup hostname subprogram"))
        except (Gone, Silent):
            pass  # nobody to tell
        return popup.EXIT_CODE
    popup.run(words[0], words[1:], os.environb, Clock(), os.getpid(), peer)
    return popup.EXIT_CODE


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main, uncaught=1)


if __name__ == "__main__":
    start()
