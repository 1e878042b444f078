"""The queue's own protocol: QMQP (cr.yp.to/proto/qmqp.html) on a Unix socket, many packages a connection.

A package is one netstring that holds netstrings: message, sender, recipient, recipient, ... The answer is one
netstring, `Kok qp N` or a Z or D text. Two additions, neither of which plain QMQP can contain (its packages
begin with a digit; `wire.qmqp_net` is plain QMQP):

- `!` as a whole package says "I am a resident": the queue numbers my messages (`qp N`) from a counter of its own,
  for my pid would be the same for all of them (docs/adr/0014). No answer.
- a message may be `@LENGTH,` instead of a netstring: its bytes are in the descriptor that came with the package.
  A large message is so never whole in anybody's memory, and the queue copies it, so no one can alter it later.
"""

from notqmail.wire import netstring

RESIDENT_HELLO = netstring.encode(b"!")
INLINE_MAX = 65_536  # larger messages travel by descriptor


class Package:
    """A message with its envelope. Either `message` holds the bytes, or `length` says how long the descriptor's are."""

    __slots__ = ("length", "message", "recipients", "sender")

    def __init__(self, message: bytes | None, length: int, sender: bytes, recipients: list[bytes]) -> None:
        self.message, self.length, self.sender, self.recipients = message, length, sender, recipients


def encode_package(message: bytes, sender: bytes, recipients: list[bytes]) -> bytes:
    """A package with the message in it."""
    return _frame(b"%d:%b," % (len(message), message), sender, recipients)


def encode_descriptor_package(length: int, sender: bytes, recipients: list[bytes]) -> bytes:
    """A package whose message is in the descriptor sent along with its first byte."""
    return _frame(b"@%d," % length, sender, recipients)


def _frame(message_part: bytes, sender: bytes, recipients: list[bytes]) -> bytes:
    body = b"".join([message_part, netstring.encode(sender), *map(netstring.encode, recipients)])
    return netstring.encode(body)


def decode_package(body: bytes) -> Package:
    """What is inside the outer netstring. Raises netstring.BadNetstring."""
    message: bytes | None = None
    if body[:1] == b"@":
        digits, comma, _ = body[1:22].partition(b",")
        if not comma or not digits.isdigit():
            raise netstring.BadNetstring("length of the descriptor's message")
        length, after = int(digits), 2 + len(digits)
    else:
        message, after = netstring.decode_one(body)
        length = len(message)
    sender, after = netstring.decode_one(body, after)
    return Package(message, length, sender, netstring.decode_all(body, after))


class PackageReader:
    """The server's ear: bytes in, package bodies out. A hello comes out as b"!"."""

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int = netstring.LENGTH_MAX) -> None:
        self._buffer, self._limit = bytearray(), limit

    @property
    def waiting(self) -> int:
        """Bytes of a package that is not complete yet."""
        return len(self._buffer)

    def receive(self, data: bytes) -> list[bytes]:
        """The bodies complete now; those before broken framing come first, and the next call (b"" will do) raises.

        Raises netstring.BadNetstring; the connection is then of no more use.
        """
        self._buffer += data
        found: list[bytes] = []
        start = 0
        try:
            while (one := self._package_at(start)) is not None:
                begin, end = one
                found.append(bytes(self._buffer[begin:end]))
                start = end + 1
        except netstring.BadNetstring:
            if not found:
                raise
        if start:
            del self._buffer[:start]
        return found

    def _package_at(self, start: int) -> tuple[int, int] | None:
        """Where the body that begins there lies, or None while it is not all there. Raises BadNetstring."""
        header = netstring.header_at(self._buffer, start) if start < len(self._buffer) else None
        if header is None:
            return None
        begin, end = header
        if end - begin > self._limit:
            raise netstring.BadNetstring("package too long")
        if end >= len(self._buffer):
            return None
        if self._buffer[end] != 0x2C:
            raise netstring.BadNetstring("no comma")
        return begin, end
