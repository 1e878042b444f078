"""Netstrings (cr.yp.to/proto/netstrings.txt): `5:hello,`. The framing of QMTP, QMQP and our queue socket."""

LENGTH_MAX = 200_000_000  # as in qmail: more is somebody's mistake


class BadNetstring(Exception):
    """The peer broke the framing; nothing after it can be read."""


def encode(data: bytes) -> bytes:
    """One netstring."""
    return b"%d:%b," % (len(data), data)


def decode_one(data: bytes, start: int = 0) -> tuple[bytes, int]:
    """The netstring that begins at `start` of complete data, and where the next begins. Raises BadNetstring."""
    header = header_at(data, start)
    if header is None:
        raise BadNetstring("cut short")
    begin, end = header
    if end >= len(data):
        raise BadNetstring("cut short")
    if data[end] != 0x2C:
        raise BadNetstring("no comma")
    return bytes(data[begin:end]), end + 1


def decode_all(data: bytes, start: int = 0) -> list[bytes]:
    """All netstrings from `start` to the end of complete data. Raises BadNetstring."""
    found = []
    while start < len(data):
        one, start = decode_one(data, start)
        found.append(one)
    return found


def header_at(data: "bytes | bytearray", start: int) -> tuple[int, int] | None:
    """Where the bytes of the netstring at `start` begin and end, or None while its length is not all there.

    Raises BadNetstring for anything but digits and a colon, and for a length over LENGTH_MAX.
    """
    colon = data.find(b":", start, start + 11)
    digits = data[start : colon if colon >= 0 else start + 11]
    if (digits and not digits.isdigit()) or (colon < 0 and len(digits) > 10):
        raise BadNetstring("length is not a number")
    if colon < 0:
        return None
    if not digits:
        raise BadNetstring("no length")
    length = int(digits)
    if length > LENGTH_MAX:
        raise BadNetstring("too long")
    return colon + 1, colon + 1 + length
