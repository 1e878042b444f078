"""qmail-smtpd for one client on two descriptors, as tcpserver, inetd and sslserver start it. Blocking, with time-outs.

The session is `smtpd.Session`; here are the descriptors, the clock's patience and the start-up failures.
"""

import os
import select

from notqmail.control.files import Missing
from notqmail.control.smtpd_settings import smtpd_settings
from notqmail.policy.limits import SESSION_MAX_S
from notqmail.policy.relay import check_more_hosts, more_hosts
from notqmail.receive.smtpd import FAILED, Session, World
from notqmail.unix.controls import Unreadable, control_reader
from notqmail.wire.smtp_server import NO_CONTROLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from notqmail.control.smtpd_settings import SmtpdSettings
    from notqmail.receive.smtpd import Sink
    from notqmail.unix.clock import Clock

_READ_BYTES = 65_536
# One write to a descriptor that may block must fit where poll() says there is room: a pipe has at least 4096 bytes.
_WRITE_BYTES = 2_048
_POLL_MAX_S = 2_000_000  # poll() counts milliseconds in 32 bits


class Gone(Exception):
    """The client cannot be read from or written to any more."""


class Silent(Exception):
    """The client let the time-out pass."""


class Client:
    """Two descriptors and how long to wait for each of their bytes."""

    __slots__ = ("_read_fd", "_timeout_ms", "_write_fd")

    def __init__(self, read_fd: int, write_fd: int, timeout_s: int) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self._timeout_ms = min(timeout_s, _POLL_MAX_S) * 1000

    def read(self) -> bytes:
        """Some bytes. Raises Gone at their end, Silent when none come in time."""
        self._await(self._read_fd, select.POLLIN)
        try:
            data = os.read(self._read_fd, _READ_BYTES)
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        return data

    def write(self, data: bytes) -> None:
        """All of it. Raises Gone, Silent."""
        view = memoryview(data)
        while view:
            self._await(self._write_fd, select.POLLOUT)
            try:
                view = view[os.write(self._write_fd, view[:_WRITE_BYTES]) :]
            except BlockingIOError:
                continue  # somebody else shares the descriptor and was quicker
            except OSError as error:
                raise Gone from error

    def _await(self, fd: int, event: int) -> None:
        poll = select.poll()
        poll.register(fd, event)
        if not poll.poll(self._timeout_ms):
            raise Silent


def run(home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock", read_fd: int = 0, write_fd: int = 1) -> int:
    """One session from greeting to end; the exit code is 0 after QUIT and 1 otherwise (qmail-smtpd(8))."""
    try:
        os.chdir(home)  # what the queue's program is given as relative paths means from here
        settings = smtpd_settings(control_reader(home))
        check_more_hosts(home)
    except (OSError, Missing, Unreadable):
        return _refuse(write_fd)
    return converse(Session(settings, environ, _world(home, environ, clock)), settings, clock, read_fd, write_fd)


def converse(session: Session, settings: "SmtpdSettings", clock: "Clock", read_fd: int, write_fd: int) -> int:
    """Carries bytes between the client and the session until one of them ends it, or SESSION_MAX_S have passed."""
    client = Client(read_fd, write_fd, settings.timeout_s)
    end_s = clock.steady_s() + SESSION_MAX_S
    try:
        client.write(session.greet())
        while True:
            try:
                data = client.read()
                if clock.steady_s() > end_s:
                    raise Silent
            except Silent:
                client.write(session.time_out())
                return FAILED
            client.write(session.receive(data))
            if session.exit_code is not None:
                return session.exit_code
    except (Gone, Silent):  # Silent: it does not even read
        session.vanish()
        return FAILED


def _refuse(write_fd: int) -> int:
    try:
        Client(0, write_fd, 60).write(NO_CONTROLS.plain)
    except (Gone, Silent):
        pass  # nobody to tell
    return FAILED


def _world(home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock") -> World:
    def open_sink() -> "Sink":
        from notqmail.queue.client import open_submission  # here, for many sessions bring no message

        return open_submission(home, environ)

    def addresses() -> frozenset[bytes]:
        from notqmail.unix.own_addresses import own_addresses

        return own_addresses()

    return World(clock, open_sink, more_hosts(home), addresses)
