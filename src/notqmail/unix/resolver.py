"""The seam to the DNS: who needs a name asks a `Resolver`; this one asks the configured servers and waits.

An `Answer` is FOUND with its values, HARD (there is no such thing: NXDOMAIN, or a name without that kind of record)
or SOFT (nobody could tell: time-out, SERVFAIL, nonsense). Waiting is the only cure for SOFT, so when in doubt an
answer is SOFT. CNAME chains are followed by the server, as resolv.conf's servers are expected to do.

Strategy: one query is one datagram from a fresh socket (its port and the query's id are the kernel's chance) connected
to one server; what does not answer exactly our question is ignored, for it may be forged; a truncated answer is asked
for again over TCP; a server that fails or says nothing gives way to the next. dnspython does the wire format and is
imported at the first question only, since a route to an address literal needs none.

Not tried: recursion, search lists, /etc/hosts.
"""

import os
import socket

from notqmail.unix.clock import Clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, Protocol

    class Resolver(Protocol):
        """What an agent needs from the DNS. Never raises."""

        def mx(self, host: bytes) -> "Answer": ...
        def addresses(self, host: bytes) -> "Answer": ...

    Server = tuple[str, int]

FOUND, HARD, SOFT = "found", "hard", "soft"
MX, ADDRESSES = b"MX", b"ADDRESSES"  # kinds of question
SERVER_VARIABLE = b"DNSCACHEIP"  # djbdns's name for it: servers instead of resolv.conf's; ours may carry a port
DNS_PORT = 53
TRY_S = 5.0  # as the C library: 5 seconds, twice round
ROUNDS = 2
SERVERS_MAX = 3  # as the C library
_ANSWER_MAX = 65_535
_TTL_MAX_S = 24 * 60 * 60
_NEGATIVE_TTL_MAX_S = 15 * 60


class Answer:
    """`kind` FOUND, HARD or SOFT. `values` of an MX question are (preference, host) pairs, of an addresses question
    textual addresses, A before AAAA; of a pointers question names. `ttl_s`: how long it may be remembered."""

    __slots__ = ("kind", "ttl_s", "values")

    def __init__(self, kind: str, values: "Sequence[Any]" = (), ttl_s: int = 0) -> None:
        assert (kind == FOUND) == bool(values)
        self.kind, self.values, self.ttl_s = kind, tuple(values), ttl_s

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Answer) and (self.kind, self.values) == (other.kind, other.values)

    def __hash__(self) -> int:
        return hash((self.kind, self.values))

    def __repr__(self) -> str:
        return f"Answer({self.kind!r}, {self.values!r}, ttl_s={self.ttl_s})"


def found(*values: object, ttl_s: int = 60) -> Answer:
    """An answer with values."""
    return Answer(FOUND, values, ttl_s)


def both_families(four: Answer, six: Answer) -> Answer:
    """A and AAAA answers as one: what was found counts, then a doubt, and only two clear noes are a no."""
    values = four.values + six.values
    if values:
        return Answer(FOUND, values, min(one.ttl_s for one in (four, six) if one.values))
    if SOFT in (four.kind, six.kind):
        return Answer(SOFT)
    return Answer(HARD, ttl_s=min(four.ttl_s, six.ttl_s))


class Truncated(Exception):
    """The answer did not fit a datagram; ask again over TCP."""


class ServerFailed(Exception):
    """This server answered, and could not help."""


class Query:
    """One question to the DNS and how to read what comes back. No socket here: both resolvers use it."""

    __slots__ = ("_edns_wire", "_message", "_plain_wire", "_type")

    def __init__(self, host: bytes, record_type: str) -> None:
        """`record_type`: "MX", "A", "AAAA" or "PTR". Raises ValueError for a name the DNS cannot hold."""
        import dns.exception
        import dns.message
        import dns.name
        import dns.rdatatype

        try:
            labels = host.removesuffix(b".").split(b".") if host not in (b"", b".") else []
            name = dns.name.Name([*labels, b""])
        except dns.exception.DNSException as error:
            raise ValueError(f"not a host name: {error}") from error
        self._type = dns.rdatatype.from_text(record_type)
        self._message = dns.message.make_query(name, self._type)
        self._message.id = int.from_bytes(os.urandom(2), "big")
        self._plain_wire = self._message.to_wire()
        self._edns_wire = self._plain_wire[:11] + b"\x01" + self._plain_wire[12:] + _EDNS_RECORD

    def wire(self, *, edns: bool) -> bytes:
        """The datagram to send. With EDNS the answer may have 1232 bytes; an old server may refuse it."""
        return self._edns_wire if edns else self._plain_wire

    def read(self, wire: bytes, *, by_tcp: bool = False) -> Answer | None:
        """The answer, or None when these bytes do not answer this question. Raises Truncated, ServerFailed."""
        import dns.exception
        import dns.flags
        import dns.message
        import dns.rcode

        if len(wire) < 12 or wire[:2] != self._plain_wire[:2]:
            return None
        try:
            response = dns.message.from_wire(wire, ignore_trailing=True, raise_on_truncation=False)
            if not isinstance(response, dns.message.QueryMessage) or not self._message.is_response(response):
                return None
            if response.flags & dns.flags.TC and not by_tcp:
                raise Truncated
            rcode = response.rcode()
            if rcode == dns.rcode.NXDOMAIN:
                return Answer(HARD, ttl_s=min(_negative_ttl(response), _NEGATIVE_TTL_MAX_S))
            if rcode != dns.rcode.NOERROR:
                raise ServerFailed(dns.rcode.to_text(rcode))
            chain = response.resolve_chaining()
        except (dns.exception.DNSException, ValueError, IndexError) as error:
            if isinstance(error, dns.message.Truncated):  # a cut so bad that the parser gave up first
                raise Truncated from None
            return None  # cannot be read: as good as no answer
        if chain.answer is None:
            return Answer(HARD, ttl_s=min(_negative_ttl(response), _NEGATIVE_TTL_MAX_S))
        return Answer(FOUND, [_value(record) for record in chain.answer], min(chain.minimum_ttl, _TTL_MAX_S))


_EDNS_RECORD = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"  # root, OPT, 1232 bytes, no flags, no options (RFC 6891 6.1.2)


def _negative_ttl(response: "Any") -> int:
    """How long a no may be remembered (RFC 2308): the SOA's minimum and TTL; without SOA, not at all."""
    for rrset in response.authority:
        if rrset.rdtype == 6:
            return int(min(rrset.ttl, rrset[0].minimum))
    return 0


def _value(record: "Any") -> object:
    if hasattr(record, "exchange"):
        labels = record.exchange.labels
        return int(record.preference), b".".join(labels[:-1]) or b"."
    if hasattr(record, "target"):
        return str(record.target.to_text(omit_final_dot=True)).encode()  # a NUL or blank in it is escaped
    return str(record.address).encode()


class DnsResolver:
    """Asks and waits; for one-shot programs. Remembers nothing, for it lives for one message."""

    __slots__ = ("_clock", "_servers", "_try_s")

    def __init__(self, servers: "Sequence[Server]", *, try_s: float = TRY_S, clock: Clock | None = None) -> None:
        self._servers, self._try_s, self._clock = list(servers), try_s, clock or Clock()

    def mx(self, host: bytes) -> Answer:
        """The mail exchangers of a host."""
        return self._ask(host, "MX")

    def addresses(self, host: bytes) -> Answer:
        """The addresses of a host, of both families."""
        return both_families(self._ask(host, "A"), self._ask(host, "AAAA"))

    def pointers(self, reverse_name: bytes) -> Answer:
        """The names that a name under in-addr.arpa or ip6.arpa points to."""
        return self._ask(reverse_name, "PTR")

    def _ask(self, host: bytes, record_type: str) -> Answer:
        try:
            query = Query(host, record_type)
        except ValueError:
            return Answer(HARD)
        for server, edns in tries(self._servers):
            try:
                answer = self._ask_server(server, query, edns=edns)
            except (OSError, ServerFailed):
                continue  # refused, unreachable, timed out or no help: perhaps the next one
            if answer is not None:
                return answer
        return Answer(SOFT)

    def _ask_server(self, server: "Server", query: Query, *, edns: bool) -> Answer | None:
        with socket.socket(family_of(server), socket.SOCK_DGRAM) as link:
            link.connect(server)
            link.send(query.wire(edns=edns))
            give_up_s = self._clock.steady_s() + self._try_s
            while (left_s := give_up_s - self._clock.steady_s()) > 0:
                link.settimeout(left_s)
                try:
                    answer = query.read(link.recv(_ANSWER_MAX))
                except Truncated:
                    return self._ask_by_tcp(server, query)
                if answer is not None:
                    return answer
        return None

    def _ask_by_tcp(self, server: "Server", query: Query) -> Answer | None:
        with socket.create_connection(server, timeout=self._try_s) as link:
            wire = query.wire(edns=False)
            link.sendall(len(wire).to_bytes(2, "big") + wire)
            with link.makefile("rb") as stream:
                length = int.from_bytes(stream.read(2), "big")
                return query.read(stream.read(length), by_tcp=True)


def tries(servers: "Sequence[Server]") -> "Iterator[tuple[Server, bool]]":
    """(server, with EDNS?) in the order to try: all servers, then all again in the old plain way."""
    for round_number in range(ROUNDS):
        for server in servers:
            yield server, round_number == 0


def family_of(server: "Server") -> int:
    """AF_INET or AF_INET6, by the look of the address."""
    return socket.AF_INET6 if ":" in server[0] else socket.AF_INET


def configured_servers(environ: "Mapping[bytes, bytes]", path: str = "/etc/resolv.conf") -> "list[Server]":
    """The servers of $DNSCACHEIP (blank-separated `1.2.3.4`, `1.2.3.4:5353`, `[::1]:5353`), else of resolv.conf,
    else the machine itself."""
    named = environ.get(SERVER_VARIABLE, b"").decode("ascii", "replace").split()
    servers = [parse_server(text) for text in named] or _from_resolv_conf(path)
    return [server for server in servers if server is not None][:SERVERS_MAX] or [("127.0.0.1", DNS_PORT)]


def parse_server(text: str) -> "Server | None":
    """One server's address and port; None when it is no address."""
    address, port = text, str(DNS_PORT)
    if text.startswith("["):
        address, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, ValueError):  # ValueError: a NUL in it
        return None
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535
    return (address, int(port)) if is_port else None


def _from_resolv_conf(path: str) -> "list[Server | None]":
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return []
    found_there = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
    return [parse_server(address if "%" not in address else address.partition("%")[0]) for address in found_there]
