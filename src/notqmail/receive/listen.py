"""A resident that listens: ports, rights, signals, loop, the same for every protocol (qmail-smtpd(8), --listen).

It holds no right that a one-shot program under tcpserver would not hold: ports are bound first, then it becomes the
user it is told to be, for good.
"""

import asyncio
import gc
import os
import signal
import socket

from notqmail.receive.connection import Client
from notqmail.receive.server import Server
from notqmail.unix.accounts import become
from notqmail.unix.mains import TEMPORARY, complain
from notqmail.unix.memory import limit_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from notqmail.receive.listen_options import ListenOptions
    from notqmail.receive.service import Service
    from notqmail.unix.clock import Clock


class CannotListen(Exception):
    """It cannot begin; str() says why, for a person."""


def run(
    home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock", options: "ListenOptions", service: "Service"
) -> int:
    """Listens until SIGTERM. Exit code 0 then, 111 when it could not begin."""
    try:
        if options.rules is not None:
            options.rules = os.path.abspath(options.rules)
        listeners = [open_listener(address, port) for address, port in options.addresses]
        _become_user(options.user)
        limit_memory(options.memory_bytes)
        _enter(home)
    except (CannotListen, OSError) as reason:
        complain(f"{service.name}: fatal: {reason}")
        return TEMPORARY
    try:
        import uvloop
    except ImportError:
        new_loop = asyncio.new_event_loop
    else:
        new_loop = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_listen(home, environ, clock, options, service, listeners))
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
    service: "Service", listeners: list[socket.socket],
) -> None:  # fmt: skip
    loop = asyncio.get_running_loop()
    server = Server(home, environ, clock, options, service)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.set_exception_handler(_log_failure(server))
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # sessions leave no cycles behind; this is for what a library may leave
    doors = [
        await loop.create_server(_greeter(server, listener), sock=listener, backlog=options.backlog)
        for listener in listeners
    ]
    for listener in listeners:
        host, port = listener.getsockname()[:2]
        server.log(f"listening on {f'[{host}]' if ':' in host else host}:{port}")
    await stop.wait()
    for door in doors:
        door.close()
    await server.go_down()


def _greeter(server: Server, listener: socket.socket) -> "Callable[[], Client]":
    """What makes the protocol of a new connection to this listener."""
    here = listener.getsockname()[:2]
    known = None if here[0] in ("0.0.0.0", "::") else here
    return lambda: Client(server, known)


def _log_failure(server: Server) -> "Callable[[asyncio.AbstractEventLoop, dict[str, object]], None]":
    def log(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        server.log(f"trouble: {context.get('message')}: {context.get('exception')!r}")

    return log
