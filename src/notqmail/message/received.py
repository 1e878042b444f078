"""Received lines (RFC 5321 4.4), in qmail's own two forms."""

from notqmail.message.dates import header_date

_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.@%+/=:-[]")


def received_by_queue(pid: int, who: bytes, now_s: int) -> bytes:
    """What qmail-queue puts on top; `who` is `by alias`, `from network`, `for bounce` or `by uid N`."""
    return b"Received: (qmail %d invoked %b); %b\n" % (pid, who, header_date(now_s))


def _safe(text: bytes) -> bytes:
    """What a stranger told us, without anything that could look like structure."""
    return text if _SAFE.issuperset(text) else bytes(byte if byte in _SAFE else 0x3F for byte in text)


def received_from_network(
    protocol: bytes, remote_host: bytes, remote_ip: bytes, remote_info: bytes | None, local_host: bytes,
    helo: bytes | None, now_s: int,
) -> bytes:  # fmt: skip
    """What qmail-smtpd and its like put on top. The HELO name shows only where it is not the host's own name."""
    line = b"Received: from " + _safe(remote_host)
    if helo is not None and helo.lower() != remote_host.lower():
        line += b" (HELO " + _safe(helo) + b")"
    info = b"" if remote_info is None else _safe(remote_info) + b"@"
    return b"%b (%b%b)\n  by %b with %b; %b\n" % (
        line, info, _safe(remote_ip), _safe(local_host), protocol, header_date(now_s)
    )  # fmt: skip
