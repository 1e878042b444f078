"""Which addresses to try for a host, in which order (qmail-remote(8), RFC 5321 5.1, RFC 7505).

Pure given the resolver's answers: `candidates` is a generator that yields lists of questions and is sent the list of
their answers, so the one-shot program may ask one after the other and the resident all at once.

As in qmail: an artificial route or a literal needs no MX; a host without MX is its own exchanger; exchangers of equal
preference are tried in random order, the addresses of one host in the order of the answer. Beyond qmail: AAAA (after
the A addresses of the same host), `[IPv6:...]`, and an exchanger named `.`, which says that a host takes no mail.
"""

import socket

from notqmail.unix.resolver import ADDRESSES, FOUND, HARD, MX, SOFT
from notqmail.wire.reports import permanent, temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator

    from notqmail.control.remote_settings import Relay, RemoteSettings
    from notqmail.unix.resolver import Answer
    from notqmail.wire.reports import Report

    Question = tuple[bytes, bytes]
    Asking = Generator[list[Question], list[Answer], list["Candidate"]]

SMTP_PORT = 25
EXCHANGERS_MAX = 20  # of one host that are looked up, the best ones: an answer may name some thousand
ADDRESSES_MAX = 100  # that are tried; each may cost the connect time-out
NO_ADDRESS_YET = temporary(b"Sorry, I couldn't find any host by that name. (#4.1.2)\n")
NO_EXCHANGER = permanent(b"Sorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n")
QMTPS_PORT = 6209
NO_QMTPS = temporary(b"A route says port 6209, which is QMTP over TLS, and that is not spoken here. (#4.3.0)\n")
AMBIGUOUS = permanent(
    b"Sorry. Although I'm listed as a best-preference MX or A for that host,\n"
    b"it isn't in my control/locals file, so I don't treat it as local. (#5.4.6)\n"
)


class Candidate:
    """One address to connect to: textual `address`, `port`, the exchanger's `preference` and name; `by_qmtp`: speak
    QMTP there, not SMTP."""

    __slots__ = ("address", "by_qmtp", "host", "port", "preference")

    def __init__(
        self, address: bytes, *, port: int = SMTP_PORT, preference: int = 0, host: bytes = b"", by_qmtp: bool = False
    ) -> None:
        self.address, self.port, self.preference, self.host = address, port, preference, host
        self.by_qmtp = by_qmtp

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Candidate) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(self.address)

    def __repr__(self) -> str:
        more = ", by_qmtp=True" if self.by_qmtp else ""
        return f"Candidate({self.address!r}, port={self.port}, preference={self.preference}, host={self.host!r}{more})"


class NoRoute(Exception):
    """There is nowhere to connect to; `report` says why and for how long."""

    def __init__(self, report: "Report") -> None:
        super().__init__(report)
        self.report = report


def candidates(
    host: bytes, settings: "RemoteSettings", *, own: "Collection[bytes]", draw: "Callable[[], float]"
) -> "Asking":
    """The addresses to try for `host`. Raises NoRoute.

    `own` are this machine's addresses: exchangers no better than ourselves are never tried, or mail would loop; an
    artificial route is obeyed even so. `draw` gives a random number for each exchanger.
    """
    relay = settings.relay_for(host)
    if relay is not None:
        return (yield from by_relay(relay))
    ranked = yield from _by_exchangers(host, draw)
    mine = min((one.preference for one in ranked if one.address in own), default=None)
    if mine is not None:
        ranked = [one for one in ranked if one.preference < mine]
        if not ranked:
            raise NoRoute(AMBIGUOUS)
    return ranked[:ADDRESSES_MAX]


def by_relay(relay: "Relay") -> "Asking":
    """The addresses of an artificial route. Raises NoRoute."""
    if relay.by_qmtp and relay.port == QMTPS_PORT:
        raise NoRoute(NO_QMTPS)  # never in clear what was meant to be encrypted
    found = yield from _addresses_of(relay.host)
    return [
        Candidate(address, port=relay.port, host=relay.host, by_qmtp=relay.by_qmtp)
        for address in found[:ADDRESSES_MAX]
    ]  # fmt: skip


def _by_exchangers(host: bytes, draw: "Callable[[], float]") -> "Asking":
    literal = parse_literal(host)
    if literal is not None:
        return [Candidate(literal, host=host)]
    [answer] = yield [(MX, host)]
    if answer.kind == SOFT:
        raise NoRoute(NO_ADDRESS_YET)
    if answer.kind == HARD:
        found = yield from _addresses_of(host)
        return [Candidate(address, host=host) for address in found]
    exchangers: list[tuple[int, bytes]] = list(answer.values)
    if all(name in (b".", b"") for _, name in exchangers):
        raise NoRoute(permanent(b"Sorry, %b does not accept mail. (#5.1.10)\n" % printable(host)))
    in_order = sorted(exchangers, key=lambda exchanger: (exchanger[0], draw()))[:EXCHANGERS_MAX]
    return (yield from _addresses_of_all(in_order))


def _addresses_of_all(exchangers: "list[tuple[int, bytes]]") -> "Asking":
    """All addresses of all exchangers. One whose look-up fails is passed over while another has an address."""
    literals = {name: parse_literal(name) for _, name in exchangers}
    asked = [name for name in dict.fromkeys(name for _, name in exchangers) if literals[name] is None]
    answers = dict(zip(asked, (yield [(ADDRESSES, name) for name in asked]), strict=True)) if asked else {}
    found = []
    for preference, name in exchangers:
        literal = literals[name]
        if literal is not None:  # an address where a name belongs: wrong, common, and clear
            found.append(Candidate(literal, preference=preference, host=name))
        elif answers[name].kind == FOUND:
            for address in answers[name].values:
                found.append(Candidate(address, preference=preference, host=name))
    if not found:
        soft = any(answer.kind == SOFT for answer in answers.values())
        raise NoRoute(NO_ADDRESS_YET if soft else NO_EXCHANGER)
    return found


def _addresses_of(host: bytes) -> "Generator[list[Question], list[Answer], list[bytes]]":
    literal = parse_literal(host)
    if literal is not None:
        return [literal]
    [answer] = yield [(ADDRESSES, host)]
    if answer.kind == SOFT:
        raise NoRoute(NO_ADDRESS_YET)
    if answer.kind == HARD:
        raise NoRoute(permanent(b"Sorry, I couldn't find any host named %b. (#5.1.2)\n" % printable(host)))
    return list(answer.values)


def parse_literal(host: bytes) -> bytes | None:
    """`1.2.3.4`, `[1.2.3.4]` or `[IPv6:2001:db8::1]` -> the address in its one textual form; else None."""
    inside = host[1:-1] if host.startswith(b"[") and host.endswith(b"]") else None
    if inside is not None and inside[:5].lower() == b"ipv6:":
        return _canonical_ipv6(inside[5:])
    parts = (host if inside is None else inside).split(b".")
    if len(parts) != 4 or not all(part.isdigit() and len(part) <= 3 and int(part) <= 255 for part in parts):
        return None
    return b"%d.%d.%d.%d" % tuple(int(part) for part in parts)


def _canonical_ipv6(text: bytes) -> bytes | None:
    try:
        packed = socket.inet_pton(socket.AF_INET6, text.decode("ascii"))
    except (OSError, UnicodeDecodeError, ValueError):
        return None  # no IPv6 address
    return socket.inet_ntop(socket.AF_INET6, packed).encode()


def printable(host: bytes) -> bytes:
    """A stranger's host name, fit for a report: whatever is not visible ASCII becomes `?`."""
    return bytes(byte if 33 <= byte <= 126 else 63 for byte in host)
