"""control/qmqpservers -> addresses (qmail-qmqpc(8)). Pure: `read` is passed in.

As in qmail a line begins with an IPv4 address, and what follows that is no concern. Beyond qmail: `:port` after it, and
`[IPv6]` or `[IPv6]:port`. Lines of another kind, names among them, are passed over.
"""

from notqmail.control.files import entries, leading_digits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.control.files import ReadControl

QMQP_PORT = 628
_PORT_MAX = 65_535


def qmqp_servers(read: "ReadControl") -> list[tuple[str, int]] | None:
    """(address, port) of each server in order, or None when there is no file. Raises what `read` raises."""
    lines = entries(read, "qmqpservers")
    return None if lines is None else [server for server in map(parse_server, lines) if server is not None]


def parse_server(line: bytes) -> tuple[str, int] | None:
    """One line's address and port, or None. An IPv6 address is as written: connecting will tell."""
    if line.startswith(b"["):
        address, bracket, rest = line[1:].partition(b"]")
        if not bracket or b":" not in address:
            return None
        return address.decode("ascii", "replace"), _port(rest)
    numbers = []
    rest = line
    for mark in (b".", b".", b".", b""):
        digits = rest[: len(rest) - len(rest.lstrip(b"0123456789"))]
        rest = rest[len(digits) :]
        if not digits or len(digits) > 9 or int(digits) > 255 or not rest.startswith(mark):
            return None
        numbers.append(int(digits))
        rest = rest[len(mark) :]
    return ".".join(map(str, numbers)), _port(rest)


def _port(rest: bytes) -> int:
    """What follows an address: a colon and a port, or nothing of interest."""
    port = leading_digits(rest[1:]) if rest.startswith(b":") else None
    return port if port is not None and 0 < port <= _PORT_MAX else QMQP_PORT
