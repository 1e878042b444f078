"""qmail-qmqpc: qmail-queue's contract, kept by handing the message to a QMQP server (qmail-qmqpc(8)).

Message on one descriptor, envelope on another, and the exit code is the answer. The servers of control/qmqpservers are
tried in order until one accepts a connection; what happens from then on is the answer, and no other is asked.
"""

import os
import socket

from notqmail.control.qmqp_servers import qmqp_servers
from notqmail.queue.spool import SpooledMessage
from notqmail.unix.controls import Unreadable, control_reader
from notqmail.wire import queue_exit
from notqmail.wire.qmqp_net import client_package, verdict
from notqmail.wire.reports import PERMANENT, SUCCESS, TEMPORARY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_TIMEOUT_S = 10
TIMEOUT_S = 60  # for each read and each write
_CHUNK_BYTES = 65_536
_EXIT_CODES = {
    SUCCESS: queue_exit.ACCEPTED, TEMPORARY: queue_exit.SERVER_REJECTED_FOR_NOW, PERMANENT: queue_exit.REJECTED,
}  # fmt: skip


class Failed(Exception):
    """It ends here; `code` is qmail-queue's exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def from_descriptors(home: bytes, message_fd: int = 0, envelope_fd: int = 1) -> int:
    """Hands one message over; returns qmail-queue(8)'s exit code."""
    try:
        os.chdir(home)
    except OSError:
        return queue_exit.NO_HOME
    try:
        servers = qmqp_servers(control_reader(home))
    except (Unreadable, OSError):
        servers = None
    if servers is None:
        return queue_exit.NO_CONFIGURATION
    message = SpooledMessage()
    try:
        _read_message(message_fd, message)
        envelope = list(read_envelope(envelope_fd))
        return hand_over(servers, message, envelope[0], envelope[1:])
    except Failed as failed:
        return failed.code
    finally:
        message.close()


def _read_message(descriptor: int, message: SpooledMessage) -> None:
    while chunk := _read(descriptor):
        message.write(chunk)
    if message.failed:
        raise Failed(queue_exit.WRITE_FAILED)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK_BYTES)
    except OSError as error:
        raise Failed(queue_exit.READ_FAILED) from error


def read_envelope(descriptor: int) -> "Iterator[bytes]":
    """The sender, then each recipient, of `Fsender NUL Trecipient NUL ... NUL`. What follows the end is ignored.

    Raises Failed: READ_FAILED, or BAD_ENVELOPE, which here is also one that ends early. Addresses may be of any length.
    """
    buffer, expected = b"", b"F"
    while True:
        *records, rest = buffer.split(b"\0")
        for record in records:
            if not record and expected == b"T":
                return
            if record[:1] != expected:
                raise Failed(queue_exit.BAD_ENVELOPE)
            yield record[1:]
            expected = b"T"
        parts = [rest]
        while b"\0" not in parts[-1] or len(parts) == 1:
            chunk = _read(descriptor)
            if not chunk:
                raise Failed(queue_exit.BAD_ENVELOPE)
            parts.append(chunk)
        buffer = b"".join(parts)


def hand_over(servers: list[tuple[str, int]], message: SpooledMessage, sender: bytes, recipients: list[bytes]) -> int:
    """The answer of the first server that accepts a connection. Raises Failed."""
    code = queue_exit.NO_CONFIGURATION  # of an empty list
    for address, port in servers:
        try:
            connection = _connect(address, port)
        except TimeoutError:
            code = queue_exit.SERVER_TIMED_OUT
        except OSError:
            code = queue_exit.SERVER_REFUSED
        else:
            with connection:
                return _exchange(connection, message, sender, recipients)
    return code


def _connect(address: str, port: int) -> socket.socket:
    """Raises OSError for the next server to be tried, TimeoutError being one; Failed when there can be no socket."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        connection = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if family == socket.AF_INET6:
            raise  # a machine without IPv6
        raise Failed(queue_exit.NETWORK_TROUBLE) from error
    try:
        connection.settimeout(CONNECT_TIMEOUT_S)
        connection.connect((address, port))
        connection.settimeout(TIMEOUT_S)
    except OSError:
        connection.close()
        raise
    return connection


def _exchange(connection: socket.socket, message: SpooledMessage, sender: bytes, recipients: list[bytes]) -> int:
    try:
        for piece in client_package(message.length, _chunks(message), sender, recipients):
            view = memoryview(piece)
            while view:  # not sendall: its time-out is for the whole
                view = view[connection.send(view) :]
        while data := connection.recv(_CHUNK_BYTES):
            kind = verdict(data)
            if kind is not None:
                return _EXIT_CODES[kind]
    except OSError:  # TimeoutError is one
        pass  # as good as closed
    return queue_exit.SERVER_FAILED


def _chunks(message: SpooledMessage) -> "Iterator[bytes]":
    """The message; trouble with its file is ours, not the server's. Raises Failed."""
    try:
        yield from message.chunks()
    except OSError as error:
        raise Failed(queue_exit.READ_FAILED) from error
