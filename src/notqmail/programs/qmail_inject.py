"""qmail-inject(8): completes a user's message and queues it. Exits 0, 100 (refused) or 111 (try again)."""

import os
import sys

from notqmail.receive.inject import USAGE, Refused, inject
from notqmail.unix.clock import Clock
from notqmail.unix.home import home_directory
from notqmail.unix.mains import run
from notqmail.unix.processes import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def main() -> int:
    """Arguments and environment as in qmail-inject(8); the message is on descriptor 0."""
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if words == [b"--help"]:
        sys.stdout.write(USAGE)
        return 0
    return submit(words, os.environb)


def submit(words: "Sequence[bytes]", environ: "Mapping[bytes, bytes]") -> int:
    """One submission; a refusal is told on descriptor 2. Returns the exit code."""
    try:
        inject(words, home=home_directory(environ), environ=environ, clock=Clock())
    except Refused as refused:
        try:
            write_all(2, b"qmail-inject: " + refused.text.removesuffix(b"\n") + b"\n")
        except OSError:
            pass  # nobody listens: the exit code still tells
        return refused.code
    return 0


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
