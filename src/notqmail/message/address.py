"""Addresses as bytes: box and host, and the quoted form that headers and SMTP carry (RFC 5321 4.1.2, RFC 822).

Inside qmail an address is unquoted: `joe smith@example.org` is what the queue stores, `"joe smith"@example.org`
is what the network sees.
"""

_PLAIN = frozenset(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~."
)  # atom characters of RFC 5321, and the dot
_ESCAPED = (b"\r"[0], b"\n"[0], b'"'[0], b"\\"[0])


def needs_quotes(box: bytes) -> bool:
    """Whether a box must be quoted: empty, an odd byte, or dots that are not between atoms."""
    if not box or box[:1] == b"." or box[-1:] == b"." or b".." in box:
        return True
    return not _PLAIN.issuperset(box)


def quote_box(box: bytes) -> bytes:
    """A box as a quoted-string where it needs to be; CR, LF, quote and backslash get a backslash."""
    if not needs_quotes(box):
        return box
    quoted = bytearray(b'"')
    for byte in box:
        if byte in _ESCAPED:
            quoted.append(0x5C)
        quoted.append(byte)
    quoted += b'"'
    return bytes(quoted)


def quote_address(address: bytes) -> bytes:
    """The address with its box quoted where needed; one without @ is all box; the empty address stays empty."""
    if not address:
        return b""
    box, at, host = address.rpartition(b"@")
    return quote_box(box) + b"@" + host if at else quote_box(address)
