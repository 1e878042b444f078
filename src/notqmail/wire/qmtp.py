"""QMTP (cr.yp.to/proto/qmtp.txt): message, sender, recipients as three netstrings, an answer for each recipient.

The server's ear (`packages`) and the client's mouth and ear (`client_package`, `AnswerReader`). A message begins with a
byte that says how its lines end: LF as they are, or CR for CRLF, which become LF here. Pure.
"""

from notqmail.wire import netstring
from notqmail.wire.netstring import BadNetstring
from notqmail.wire.package_stream import BEGIN, END, RECIPIENT, SENDER, TEXT, Stream
from notqmail.wire.reports import PERMANENT, SUCCESS, TEMPORARY, Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from notqmail.wire.package_stream import Events

QMTP_PORT = 209
ANSWER_MAX = 65_536  # bytes of one recipient's answer; qmail's have some ninety

_LF, _CR = 0x0A, 0x0D


class CrlfDecoder:
    """CRLF -> LF, whatever the pieces; every other CR stays."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes, *, last: bool) -> bytes:
        """The lines so far; a CR at the end waits for what follows, unless nothing will."""
        piece = self._held + piece
        self._held = b"\r" if piece.endswith(b"\r") and not last else b""
        return piece[: len(piece) - len(self._held)].replace(b"\r\n", b"\n")


def packages(stream: Stream) -> "Events":
    """What a client sends, package after package, as events; never ends. Raises BadNetstring.

    BEGIN comes when the message's first byte is there, END after the last comma.
    """
    while True:
        left = yield from stream.length()
        if not left:
            raise BadNetstring("no byte that says how lines end")
        encoding = yield from stream.byte()
        if encoding not in (_LF, _CR):
            raise BadNetstring("neither LF nor CR")
        yield BEGIN, None
        decoder = CrlfDecoder() if encoding == _CR else None
        left -= 1
        while left:
            piece = stream.take(left)
            if not piece:
                yield None
                continue
            left -= len(piece)
            text = piece if decoder is None else decoder.feed(piece, last=not left)
            if text:
                yield TEXT, text
        yield from stream.comma()
        sender = yield from stream.field((yield from stream.length()))
        yield SENDER, sender
        stream.left = yield from stream.length()
        while stream.left:
            recipient = stream.whole_field()
            if recipient is None:
                length = yield from stream.length()
                if length >= stream.left:  # its comma has to fit, too
                    raise BadNetstring("recipient longer than the list")
                recipient = yield from stream.field(length)
            yield RECIPIENT, recipient
        stream.left = None
        yield from stream.comma()
        yield END, None


def package_head(size: int) -> bytes:
    """What goes before the `size` bytes of a message with LF lines."""
    return b"%d:\n" % (size + 1)


def package_tail(sender: bytes, recipients: "Sequence[bytes]") -> bytes:
    """What goes after them."""
    everybody = b"".join(map(netstring.encode, recipients))
    return b",%b%b" % (netstring.encode(sender), netstring.encode(everybody))


class AnswerReader:
    """The client's ear: bytes in, one Report for each recipient out, in the order of the package."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def __len__(self) -> int:
        """Bytes of answers that are not complete."""
        return len(self._buffer)

    def receive(self, data: bytes) -> None:
        """More bytes of the server."""
        self._buffer += data

    def next_answer(self) -> Report | None:
        """The next answer, or None while it is not all there.

        Raises BadNetstring for broken framing, an answer over ANSWER_MAX, and one that begins with none of K, Z, D:
        then nobody knows what became of the recipients that are left.
        """
        header = netstring.header_at(self._buffer, 0) if self._buffer else None
        if header is None:
            return None
        begin, end = header
        if end - begin > ANSWER_MAX:
            raise BadNetstring("answer too long")
        if end >= len(self._buffer):
            return None
        kind, text = bytes(self._buffer[begin : begin + 1]), bytes(self._buffer[begin + 1 : end])
        if self._buffer[end] != 0x2C or kind not in (SUCCESS, TEMPORARY, PERMANENT) or begin == end:
            raise BadNetstring("not an answer")
        del self._buffer[: end + 1]
        return Report(kind, text)
