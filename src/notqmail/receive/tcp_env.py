"""tcp-env(1): what tcpserver tells its programs in the environment, for a program that inetd starts (tcp-environ(5)).

The names it sets come from strangers' DNS and ident servers: they are for the Received line and the log, and no rule
should trust them.
"""

import socket

from notqmail.control.files import leading_digits
from notqmail.unix.clock import Clock
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import TEMPORARY
from notqmail.unix.options import BadOption, Options
from notqmail.unix.resolver import FOUND, SOFT
from notqmail.wire.ident import IdentAnswer, question

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Protocol

    from notqmail.unix.resolver import Answer

    class PointerResolver(Protocol):
        """Names of addresses. Never raises."""

        def pointers(self, reverse_name: bytes) -> Answer: ...

    Place = tuple[bytes, int]  # address and port
    AskIdent = Callable[[Place, Place, float], bytes | None]

IDENT_PORT = 113
DEFAULT_TIMEOUT_S = 30
_TIMEOUT_MAX_S = 86_400
_OTHER_LETTERS = bytes(byte for byte in range(256) if byte not in b"t-")  # an unknown option is passed over, as ever


class Wishes:
    """The command line: which program, and whether and how long to ask ident."""

    __slots__ = ("ask_ident", "program", "timeout_s")

    def __init__(self, words: "Sequence[bytes]") -> None:
        """Raises Leaving, with nothing to say, when there is no program."""
        self.ask_ident, self.timeout_s = True, DEFAULT_TIMEOUT_S
        options = Options(words, flags=_OTHER_LETTERS, valued=b"t")
        try:
            for letter, value in options:
                if letter == b"t":
                    self.timeout_s = min(leading_digits(value) or 0, _TIMEOUT_MAX_S)
                elif letter in b"rR":
                    self.ask_ident = letter == b"r"
        except BadOption:
            raise Leaving(TEMPORARY) from None
        self.program = options.rest
        if not self.program:
            raise Leaving(TEMPORARY)


def tcp_environment(
    environ: "Mapping[bytes, bytes]", wishes: Wishes, *, local: "Place", remote: "Place", resolver: "PointerResolver",
    ask_ident: "AskIdent",
) -> dict[bytes, bytes]:  # fmt: skip
    """The environment for the program, told about the connection between `local` and `remote`."""
    told = {**environ, b"PROTO": b"TCP"}
    for side, (address, port) in ((b"LOCAL", local), (b"REMOTE", remote)):
        told[b"TCP" + side + b"PORT"] = b"%d" % port
        told[b"TCP" + side + b"IP"] = address
        _put(told, b"TCP" + side + b"HOST", host_name(address, resolver))
    info = ask_ident(local, remote, wishes.timeout_s) if wishes.ask_ident else None
    _put(told, b"TCPREMOTEINFO", info)
    return told


def _put(environ: dict[bytes, bytes], name: bytes, value: bytes | None) -> None:
    """Sets it, or makes sure that it is not set: what is already there may be a lie."""
    if value is None:
        environ.pop(name, None)
    else:
        environ[name] = value.partition(b"\0")[0]


def host_name(address: bytes, resolver: "PointerResolver") -> bytes | None:
    """What the DNS calls an address, in lower case; `softdnserror` when it cannot tell just now, None for nothing."""
    answer = resolver.pointers(reverse_name(address))
    if answer.kind == FOUND:
        name: bytes = answer.values[0]
        return name.lower()
    return b"softdnserror" if answer.kind == SOFT else None


def reverse_name(address: bytes) -> bytes:
    """The name to ask for: 1.2.3.4 is 4.3.2.1.in-addr.arpa (RFC 1035 3.5), IPv6 goes by nibbles (RFC 3596 2.5)."""
    if b":" not in address:
        return b".".join(reversed(address.split(b"."))) + b".in-addr.arpa"
    packed = socket.inet_pton(socket.AF_INET6, address.decode().partition("%")[0])
    return b".".join([b"%x" % nibble for byte in reversed(packed) for nibble in (byte & 15, byte >> 4)]) + b".ip6.arpa"


def ends_of(descriptor: int) -> "tuple[Place, Place]":
    """Our end and theirs of the TCP connection on a descriptor, which stays open. Raises OSError when it is none.

    An IPv4 client of an IPv6 socket is an IPv4 client.
    """
    connection = socket.socket(fileno=descriptor)
    try:
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            raise OSError("not a TCP connection")
        ends = [connection.getsockname(), connection.getpeername()]
    finally:
        connection.detach()
    local, remote = [(end[0].removeprefix("::ffff:").encode(), int(end[1])) for end in ends]
    return local, remote


def ask_ident(
    local: "Place", remote: "Place", timeout_s: float, *, port: int = IDENT_PORT, clock: Clock | None = None
) -> bytes | None:
    """Whom the client's machine names as the connection's owner; None when it does not say within the time.

    Connecting may take `timeout_s`, and then question and answer together as long again.
    """
    steady_s = (clock or Clock()).steady_s
    try:
        with socket.create_connection(
            (remote[0].decode(), port), timeout=timeout_s, source_address=(local[0].decode(), 0)
        ) as link:
            give_up_s = steady_s() + timeout_s
            link.sendall(question(remote[1], local[1]))
            reader = IdentAnswer()
            while (left_s := give_up_s - steady_s()) > 0:
                link.settimeout(left_s)
                data = link.recv(1_024)
                if not data:
                    return None
                name = reader.receive(data)
                if name is not None:
                    return name
    except (OSError, ValueError):
        pass  # refused, late, or nonsense: the client is none the worse for it
    return None
