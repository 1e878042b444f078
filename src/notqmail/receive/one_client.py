"""A session for one client on two descriptors, as tcpserver, inetd and sslserver start it. Blocking, with time-outs.

The sessions are `smtpd.Session`, `qmtpd.Session` and `qmqpd.Session`; here are the descriptors and the patience.
"""

import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.receive.service import Session
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


def converse(
    session: "Session", clock: "Clock", client: Client, *, session_max_s: int, gone_code: int, silent_code: int
) -> int:
    """Carries bytes between the client and the session until one of them ends it; returns the exit code.

    `session_max_s` after its begin a session is over at the next byte of the client. `gone_code` is for a client that
    vanished, `silent_code` for one that does not read what it is told.
    """
    end_s = clock.steady_s() + session_max_s
    try:
        client.write(session.greet())
        while session.exit_code is None:
            try:
                data = client.read()
                if clock.steady_s() > end_s:
                    raise Silent
            except Silent:
                client.write(session.time_out())
                break
            client.write(session.receive(data))
    except Gone:
        session.vanish()
        return gone_code
    except Silent:
        session.vanish()
        return silent_code
    return silent_code if session.exit_code is None else session.exit_code
