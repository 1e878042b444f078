"""A mail package read piece by piece: what the server's side of QMTP and of QMQP share.

A grammar (`wire.qmtp.packages`, `wire.qmqp_net.package`) is a generator over a `Stream`: it yields an event as soon as
that is known, and None when it needs more bytes. So a message is never whole in memory here, and who reads the events
decides how far ahead bytes are looked at. Nothing depends on how the network cuts the bytes.
"""

from notqmail.wire.netstring import LENGTH_MAX, BadNetstring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    Event = tuple[int, bytes | None]
    Events = Generator[Event | None, None, None]
    Waiting = Generator[None, None, None]

FIELD_MAX = 999  # bytes of an address in these protocols (qmail-qmtpd(8), qmail-qmqpd(8))

BEGIN, TEXT, SENDER, RECIPIENT, END = range(5)
"""Kinds of events: a message begins; bytes of it, lines ended by LF; its sender; one recipient; the package is whole.
An address longer than FIELD_MAX comes as None."""

_COLON, _COMMA, _ZERO = 0x3A, 0x2C, 0x30


class TooLong(BadNetstring):
    """A length above netstring.LENGTH_MAX with more digits to come."""


class Stream:
    """Bytes that came and were not read yet. `left`: how many more the netstring around may have; None: no bound."""

    __slots__ = ("_buffer", "_start", "left")

    def __init__(self, left: int | None = None) -> None:
        self._buffer, self._start = bytearray(), 0
        self.left = left

    def __len__(self) -> int:
        return len(self._buffer) - self._start

    def receive(self, data: bytes) -> None:
        """More bytes of the peer."""
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    def take(self, most: int) -> bytes:
        """Up to `most` bytes, of those that are there. Raises BadNetstring at the end of the netstring around."""
        if self.left is not None:
            if not self.left:
                raise BadNetstring("longer than the netstring around it")
            most = min(most, self.left)
        piece = bytes(self._buffer[self._start : self._start + most])
        self._start += len(piece)
        if self.left is not None:
            self.left -= len(piece)
        return piece

    def whole_field(self) -> bytes | None:
        """The address that comes next, where all of it is there and nothing about it is odd; else None, and nothing is
        taken. Most are read so, in a tenth of the time; `length` and `field` say what is wrong with the others."""
        start = self._start
        colon = self._buffer.find(b":", start, start + 4)
        digits = self._buffer[start:colon] if colon > start else b""
        if not digits.isdigit():
            return None
        end = colon + 1 + int(digits)
        size = end + 1 - start
        if end >= len(self._buffer) or self._buffer[end] != _COMMA or (self.left is not None and size > self.left):
            return None
        self._start += size
        if self.left is not None:
            self.left -= size
        return bytes(self._buffer[colon + 1 : end])

    def length(self) -> "Generator[None, None, int]":
        """A netstring's length and its colon. Raises BadNetstring, TooLong."""
        found = 0
        while True:
            while not (byte := self.take(1)):
                yield
            if byte[0] == _COLON:
                return found
            if found > LENGTH_MAX:
                raise TooLong("length")
            if not byte.isdigit():
                raise BadNetstring("length is not a number")
            found = found * 10 + byte[0] - _ZERO

    def byte(self) -> "Generator[None, None, int]":
        """The next byte."""
        while not (byte := self.take(1)):
            yield
        return byte[0]

    def comma(self) -> "Waiting":
        """The end of a netstring. Raises BadNetstring."""
        if (yield from self.byte()) != _COMMA:
            raise BadNetstring("no comma")

    def field(self, length: int) -> "Generator[None, None, bytes | None]":
        """So many bytes and the comma; None for more than FIELD_MAX, which are passed over. Raises BadNetstring."""
        parts = []
        left = length
        while left:
            piece = self.take(left)
            if not piece:
                yield
                continue
            left -= len(piece)
            if length <= FIELD_MAX:
                parts.append(piece)
        yield from self.comma()
        return b"".join(parts) if length <= FIELD_MAX else None
