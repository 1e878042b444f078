"""`joe@[192.0.2.1]` where that is our own address becomes `joe@localiphost` (RFC 1123 5.2.17, qmail-smtpd(8))."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    OwnAddresses = Callable[[], frozenset[bytes]]


def without_own_literal(address: bytes, local_ip_host: bytes, own_addresses: "OwnAddresses") -> bytes:
    """The address, its host replaced where that is one of our own in brackets. Raises what `own_addresses` does."""
    box, at, host = address.rpartition(b"@")
    if not at or host[:1] != b"[" or host[-1:] != b"]":
        return address
    literal = canonical_ip(host[1:-1])
    if literal is None or literal not in own_addresses():
        return address
    return box + b"@" + local_ip_host


def canonical_ip(literal: bytes) -> bytes | None:
    """The inside of a literal in the one form in which addresses are compared, or None when it is none.

    IPv4 as qmail reads it: four decimal numbers of any length, each taken modulo 256. IPv6 with the tag
    `IPv6:` (RFC 5321 4.1.3).
    """
    if literal[:5].upper() == b"IPV6:":
        import socket  # rarely needed, and dear for a one-shot program

        try:
            packed = socket.inet_pton(socket.AF_INET6, literal[5:].decode("ascii"))
        except (OSError, ValueError):  # ValueError: not ASCII, or a NUL
            return None
        return socket.inet_ntop(socket.AF_INET6, packed).encode()
    parts = literal.split(b".")
    if len(parts) != 4 or not all(part.isdigit() for part in parts):
        return None
    return b".".join(b"%d" % (int(part[-20:]) % 256) for part in parts)
