"""QMQP as it is spoken over a network (cr.yp.to/proto/qmqp.html; qmail-qmqpd(8), qmail-qmqpc(8)). Pure.

One package a connection: a netstring that holds netstrings, which are message, sender, recipient, recipient, ... The
answer is one netstring that begins with K, Z or D. (`wire.qmqp` is the queue's own dialect.)
"""

from notqmail.wire import netstring
from notqmail.wire.package_stream import BEGIN, END, RECIPIENT, SENDER, TEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from notqmail.wire.package_stream import Events, Stream

_OUTER_LENGTH_BYTES = 100  # that a client may spend on the length of its package, as in qmail


def package(stream: "Stream") -> "Events":
    """What a client sends, as events. Raises BadNetstring.

    BEGIN comes when the message's length is known, END with the last comma; then the generator ends.
    """
    stream.left = _OUTER_LENGTH_BYTES
    stream.left = yield from stream.length()
    left = yield from stream.length()
    yield BEGIN, None
    while left:
        piece = stream.take(left)
        if not piece:
            yield None
            continue
        left -= len(piece)
        yield TEXT, piece
    yield from stream.comma()
    sender = yield from stream.field((yield from stream.length()))
    yield SENDER, sender
    while stream.left:
        recipient = stream.whole_field()
        if recipient is None:
            recipient = yield from stream.field((yield from stream.length()))
        yield RECIPIENT, recipient
    stream.left = None
    yield from stream.comma()
    yield END, None


def client_package(
    length: int, chunks: "Iterable[bytes]", sender: bytes, recipients: "Sequence[bytes]"
) -> "Iterator[bytes]":
    """A package for a server, in pieces; `chunks` are the message, `length` bytes together."""
    head = b"%d:" % length
    tail = b"".join([b",", netstring.encode(sender), *map(netstring.encode, recipients)])
    yield b"%d:%b" % (len(head) + length + len(tail), head)
    yield from chunks
    yield tail + b","


def verdict(data: bytes) -> bytes | None:
    """K, Z or D, whichever comes first in what the server said so far, framing and all; None: neither yet.

    So qmail-qmqpc reads answers, and so it understands servers that get the framing wrong.
    """
    for byte in data:
        if byte in b"KZD":
            return b"%c" % byte
    return None
