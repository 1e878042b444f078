"""mailsubj(1): a message from a subject, recipients and the text on descriptor 0, handed to qmail-inject."""

import os

from notqmail.unix.feeding import feed
from notqmail.unix.launchers import is_ours
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import PERMANENT, TEMPORARY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from notqmail.unix.clock import Clock

USAGE = b"mailsubj: usage: mailsubj subject recipient ..."
READ_SIZE = 65_536


def header(words: "Sequence[bytes]") -> bytes:
    """The header and the blank line. A line end in an argument becomes a blank: it must not begin a field of its own.

    Raises Leaving.
    """
    if not words:
        raise Leaving(PERMANENT, USAGE)
    subject, *recipients = [word.replace(b"\r", b" ").replace(b"\n", b" ") for word in words]
    return b"Subject: " + subject + b"\n" + b" ".join([b"To:", *recipients]) + b"\n\n"


def mailsubj(words: "Sequence[bytes]", *, home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock") -> int:
    """The exit code of qmail-inject. One of somebody else's in HOME/bin is run. Raises Leaving."""
    head = header(words)
    program = os.path.join(home, b"bin/qmail-inject")
    if os.path.exists(program) and not is_ours(program):
        return feed(
            [program], environ, lambda: head, fatal=b"mailsubj: fatal: ", code_when_not_run=lambda _error: TEMPORARY
        )
    from notqmail.receive.inject import Refused, inject  # the same code without a second start of the interpreter

    try:
        inject([], home=home, environ=environ, clock=clock, read_more=_after(head))
    except Refused as refused:
        raise Leaving(refused.code, b"qmail-inject: " + refused.text.removesuffix(b"\n")) from None
    return 0


def _after(head: bytes) -> "Callable[[], bytes]":
    """Reads `head` first and then descriptor 0."""
    left = [head]
    return lambda: left.pop() if left else os.read(0, READ_SIZE)
