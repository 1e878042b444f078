"""tcpserver's rules: may this address connect, and with which environment? (tcprules(1), tcprulescheck(1))

A rules file is a cdb. A key is an address, a prefix of one that ends in a dot (in a colon for IPv6), `=host`,
`=.suffix`, `=`, an address or `=host` with `info@` in front, or empty. The value is `D` NUL for "deny"
and any number of `+NAME=value` NUL. The first key found decides alone; nothing is merged.
"""

from notqmail.unix.cdb import Cdb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Verdict:
    """What the rules say of one client: `denied`, or the variables to set."""

    __slots__ = ("denied", "environment")

    def __init__(self, denied: bool, environment: dict[bytes, bytes]) -> None:
        self.denied, self.environment = denied, environment


def rule_keys(address: bytes, host: bytes | None = None, info: bytes | None = None) -> "Iterator[bytes]":
    """The keys for a client in the order in which tcpserver tries them. `host` and `info` are None when not known."""
    if info is not None:
        yield info + b"@" + address
        if host is not None:
            yield info + b"@=" + host
    yield address
    if host is not None:
        yield b"=" + host
    for end in range(len(address) - 1, 0, -1):
        if address[end - 1 : end] in (b".", b":"):
            yield address[:end]
    if host is not None:
        dot = host.find(b".")
        while dot >= 0:
            yield b"=" + host[dot:]
            dot = host.find(b".", dot + 1)
        yield b"="
    yield b""


def decode_rule(data: bytes) -> Verdict:
    """A rule's value. What is neither `D` nor `+NAME=value` is skipped, as tcpserver does."""
    denied, environment = False, {}
    for entry in data.split(b"\0")[:-1]:
        if entry[:1] == b"D":
            denied = True
        elif entry[:1] == b"+":
            name, equals, value = entry[1:].partition(b"=")
            if equals:
                environment[name] = value
    return Verdict(denied, environment)


def look_up(path: bytes, address: bytes, host: bytes | None = None, info: bytes | None = None) -> Verdict:
    """What the rules in this cdb say; no matching rule allows. Raises OSError and cdb.Damaged."""
    with Cdb(path) as rules:
        for key in rule_keys(address, host, info):
            data = rules.get(key)
            if data is not None:
                return decode_rule(data)
    return Verdict(False, {})
