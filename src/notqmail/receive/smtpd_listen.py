"""qmail-smtpd as a resident: many clients in one process, each with a `smtpd.Session` (qmail-smtpd(8), --listen).

It does for a connection what tcpserver and the one-shot program do: limits, rules, environment, control files as they
are at that moment. It holds no right that a one-shot qmail-smtpd would not hold.
"""

import asyncio
import gc
import os
import resource
import signal
import socket

from notqmail.policy.limits import SESSION_MAX_S, ConnectionLimits, EnvelopeBytes
from notqmail.policy.relay import more_hosts
from notqmail.receive.fresh import FreshRules, FreshSettings
from notqmail.receive.smtpd_connection import Client
from notqmail.receive.to_queue import QueueDoor
from notqmail.unix.accounts import become
from notqmail.unix.mains import TEMPORARY, complain
from notqmail.unix.memory import limit_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from notqmail.receive.listen_options import ListenOptions
    from notqmail.unix.clock import Clock

GRACE_S = 20.0  # after SIGTERM, for messages that are on their way
SWEEP_S = 1.0  # how often silence is noticed: a time-out may come this much late
_OTHER_DESCRIPTORS = 64  # ours: listeners, queue, log, files just being read


class CannotListen(Exception):
    """It cannot begin; str() says why, for a person."""


class Server:
    """What all clients of a resident share."""

    def __init__(self, home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock", options: "ListenOptions") -> None:
        self.clock = clock
        self.settings = FreshSettings(home, clock)
        self.rules = None if options.rules is None else FreshRules(options.rules, clock)
        self.limits = ConnectionLimits(min(options.limit, _most_connections()), options.limit_per_address)
        self.envelopes = EnvelopeBytes()
        self.door = QueueDoor(home)
        self.knows_host = more_hosts(home)
        self.environ = {**environ, b"PROTO": b"TCP"}
        for name in (b"TCPREMOTEHOST", b"TCPREMOTEINFO", b"TCPLOCALHOST"):
            self.environ.pop(name, None)  # they would be our starter's, not the client's
        self.clients: set[Client] = set()
        self.loop = asyncio.get_running_loop()
        self._sweeping = False
        self._all_gone: asyncio.Event | None = None

    def joined(self, client: Client) -> None:
        """A connection was made."""
        self.clients.add(client)
        if not self._sweeping:
            self._sweeping = True
            self.loop.call_later(SWEEP_S, self._sweep)

    def left(self, client: Client) -> None:
        """A connection is over."""
        self.clients.discard(client)
        if self._all_gone is not None and not self.clients:
            self._all_gone.set()

    def _sweep(self) -> None:
        """One look at all clients a second costs less than a timer for each command of each of them."""
        now_s = self.loop.time()
        too_old_s = now_s - SESSION_MAX_S
        for client in list(self.clients):
            if now_s - client.active_s >= client.timeout_s or client.began_s <= too_old_s:
                client.was_silent(now_s)
        self._sweeping = bool(self.clients)
        if self._sweeping:
            self.loop.call_later(SWEEP_S, self._sweep)

    async def go_down(self) -> None:
        """Says goodbye to all clients; messages on their way have GRACE_S to arrive."""
        self._all_gone = asyncio.Event()
        for client in list(self.clients):
            client.go_down()
        if self.clients:
            try:
                await asyncio.wait_for(self._all_gone.wait(), GRACE_S)
            except TimeoutError:
                complain(f"qmail-smtpd: {len(self.clients)} connections did not end in time")
        self.door.close()


def _most_connections() -> int:
    """Raises our soft limit of descriptors to the hard one; half of them for connections, half for spool files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            pass  # then the soft limit is what we have
    return max(1, (soft - _OTHER_DESCRIPTORS) // 2) if soft != resource.RLIM_INFINITY else 1_000_000


def run(home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock", options: "ListenOptions") -> int:
    """Listens until SIGTERM. Exit code 0 then, 111 when it could not begin."""
    try:
        if options.rules is not None:
            options.rules = os.path.abspath(options.rules)
        listeners = [open_listener(address, port) for address, port in options.addresses]
        _become_user(options.user)
        limit_memory(options.memory_bytes)
        _enter(home)
    except (CannotListen, OSError) as reason:
        complain(f"qmail-smtpd: fatal: {reason}")
        return TEMPORARY
    try:
        import uvloop
    except ImportError:
        new_loop = asyncio.new_event_loop
    else:
        new_loop = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_listen(home, environ, clock, options, listeners))
    return 0


def open_listener(address: str, port: int) -> socket.socket:
    """A bound socket, not listening yet. `[::]` is IPv6 alone, so an IPv4 client always has an IPv4 address.

    Raises CannotListen; also for a name in place of an address: nothing is looked up.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    shown = f"{f'[{address}]' if family == socket.AF_INET6 else address}:{port}"
    try:
        socket.inet_pton(family, address)
    except OSError:
        raise CannotListen(f"cannot listen on {shown}: not an address") from None
    listener: socket.socket | None = None
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
    except OSError as error:
        if listener is not None:
            listener.close()
        raise CannotListen(f"cannot listen on {shown}: {error.strerror}") from error
    return listener


def _become_user(name: str | None) -> None:
    if name is not None:
        import pwd

        try:
            account = pwd.getpwnam(name)
            become(account.pw_uid, account.pw_gid)
        except KeyError:
            raise CannotListen(f"there is no user {name}") from None
        except OSError as error:
            raise CannotListen(f"cannot become {name}: {error.strerror or error}") from error


def _enter(home: bytes) -> None:
    try:
        os.chdir(home)
    except OSError as error:
        raise CannotListen(f"cannot enter {os.fsdecode(home)}: {error.strerror}") from error


async def _listen(
    home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock", options: "ListenOptions",
    listeners: list[socket.socket],
) -> None:  # fmt: skip
    loop = asyncio.get_running_loop()
    server = Server(home, environ, clock, options)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.set_exception_handler(_log_failure)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # sessions leave no cycles behind; this is for what a library may leave
    doors = [
        await loop.create_server(_greeter(server, listener), sock=listener, backlog=options.backlog)
        for listener in listeners
    ]
    for listener in listeners:
        host, port = listener.getsockname()[:2]
        complain(f"qmail-smtpd: listening on {f'[{host}]' if ':' in host else host}:{port}")
    await stop.wait()
    for door in doors:
        door.close()
    await server.go_down()


def _greeter(server: Server, listener: socket.socket) -> "Callable[[], Client]":
    """What makes the protocol of a new connection to this listener."""
    here = listener.getsockname()[:2]
    known = None if here[0] in ("0.0.0.0", "::") else here
    return lambda: Client(server, known)


def _log_failure(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    complain(f"qmail-smtpd: trouble: {context.get('message')}: {context.get('exception')!r}")
