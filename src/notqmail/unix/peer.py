"""Somebody on two descriptors, as tcpserver and inetd give them: blocking reads and writes that wait only so long."""

import os
import select

_POLL_MAX_S = 2_000_000  # poll() counts milliseconds in 32 bits
# One write to a descriptor that may block must fit where poll() says there is room: a pipe has at least 4096 bytes.
_WRITE_BYTES = 2_048


class Gone(Exception):
    """The peer cannot be read from or written to any more."""


class Silent(Exception):
    """The peer let the time-out pass."""


class Peer:
    """Two descriptors and how many seconds to wait for each of their bytes."""

    __slots__ = ("_read_fd", "_timeout_ms", "_write_fd")

    def __init__(self, read_fd: int, write_fd: int, timeout_s: int) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self._timeout_ms = min(timeout_s, _POLL_MAX_S) * 1000

    def read(self, most: int = 65_536) -> bytes:
        """Some bytes. Raises Gone at their end, Silent when none come in time."""
        self._await(self._read_fd, select.POLLIN)
        try:
            data = os.read(self._read_fd, most)
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
