"""qmail-remote's control files -> values (qmail-remote(8)): helohost, routes, timeouts, outgoingip. Pure."""

from notqmail.control.files import colon_map, entries, leading_digits, line_or_me, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    ReadControl = Callable[[str], bytes | None]

CONNECT_TIMEOUT_S = 60
REMOTE_TIMEOUT_S = 1200
SMTP_PORT = 25
QMTP_PORT = 209
_TIMEOUT_MAX_S = 10_000_000  # longer is as good as never, and timers have a limit


class Relay:
    """Where an artificial route leads: a host name or literal, a port, and whether to speak QMTP there."""

    __slots__ = ("by_qmtp", "host", "port")

    def __init__(self, host: bytes, port: int = SMTP_PORT, *, by_qmtp: bool = False) -> None:
        self.host, self.port, self.by_qmtp = host, port, by_qmtp

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Relay) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash((self.host, self.port))

    def __repr__(self) -> str:
        return f"Relay({self.host!r}, {self.port}{', by_qmtp=True' if self.by_qmtp else ''})"


class RemoteSettings:
    """What the remote agent is told by the administrator. `outgoing_ips`: textual addresses to connect from."""

    __slots__ = ("connect_timeout_s", "helo_name", "outgoing_ips", "qmtp_routes", "routes", "timeout_s")

    def __init__(
        self, helo_name: bytes, *, routes: "Mapping[bytes, bytes] | None" = None,
        connect_timeout_s: int = CONNECT_TIMEOUT_S, timeout_s: int = REMOTE_TIMEOUT_S,
        outgoing_ips: "list[bytes] | None" = None, qmtp_routes: "Mapping[bytes, bytes] | None" = None,
    ) -> None:  # fmt: skip
        self.helo_name = helo_name
        self.routes, self.qmtp_routes = routes or {}, qmtp_routes or {}
        self.connect_timeout_s, self.timeout_s = connect_timeout_s, timeout_s
        self.outgoing_ips = outgoing_ips or []

    def without_smtp_routes(self) -> "RemoteSettings":
        """The same for who speaks nothing but QMTP."""
        return RemoteSettings(
            self.helo_name, qmtp_routes=self.qmtp_routes, connect_timeout_s=self.connect_timeout_s,
            timeout_s=self.timeout_s, outgoing_ips=self.outgoing_ips,
        )  # fmt: skip

    def relay_for(self, host: bytes) -> Relay | None:
        """The artificial route for a host, or None for MX: its own key, then each suffix that begins with a dot,
        then the empty key; the first that exists decides, and an empty value says MX. For each key qmtproutes is
        asked before smtproutes."""
        if not self.routes and not self.qmtp_routes:
            return None
        key, start = host.lower(), 0
        while True:
            value = self.qmtp_routes.get(key[start:])
            if value is not None:
                return parse_qmtp_relay(value) if value else None
            value = self.routes.get(key[start:])
            if value is not None:
                return parse_relay(value) if value else None
            if start == len(key):
                return None
            dot = key.find(b".", start + 1)
            start = dot if dot >= 0 else len(key)


def read_remote_settings(read: "ReadControl") -> RemoteSettings:
    """Reads them. Raises control.files.Missing without helohost and me, and what `read` raises."""
    return RemoteSettings(
        line_or_me(read, "helohost"),
        routes=colon_map(entries(read, "smtproutes") or []),
        qmtp_routes=colon_map(entries(read, "qmtproutes") or []),
        connect_timeout_s=_timeout(read, "timeoutconnect", CONNECT_TIMEOUT_S),
        timeout_s=_timeout(read, "timeoutremote", REMOTE_TIMEOUT_S),
        outgoing_ips=[line.strip() for line in entries(read, "outgoingip") or []],
    )


def parse_relay(value: bytes, default_port: int = SMTP_PORT) -> Relay:
    """`host`, `host:port`, `[literal]` or `[literal]:port`; without digits it is the default port.

    The port is kept as written; one that cannot be connected to is the connection's failure.
    """
    bracket = value.find(b"]") if value.startswith(b"[") else -1
    colon = value.find(b":", bracket + 1)  # colons inside the brackets belong to an IPv6 address
    if colon < 0:
        return Relay(value, default_port)
    port = leading_digits(value[colon + 1 :])
    return Relay(value[:colon], default_port if port is None else port)


def parse_qmtp_relay(value: bytes) -> Relay:
    """As `parse_relay`, for port 209; the port may also stand behind a semicolon, and then an address without brackets
    may be an IPv6 address. `[2001:db8::1]` is as good as `[IPv6:2001:db8::1]`."""
    host, semicolon, digits = value.partition(b";")
    if semicolon:
        found = leading_digits(digits)
        port = QMTP_PORT if found is None else found
    else:
        relay = parse_relay(value, QMTP_PORT)
        host, port = relay.host, relay.port
    inside = host.removeprefix(b"[").removesuffix(b"]")
    if b":" in inside and not inside.lower().startswith(b"ipv6:"):
        host = b"[IPv6:%b]" % inside
    return Relay(host, port, by_qmtp=True)


def _timeout(read: "ReadControl", name: str, default: int) -> int:
    return min(max(number(read, name, default), 1), _TIMEOUT_MAX_S)
