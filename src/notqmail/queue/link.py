"""The residents' way to the queue: one lasting connection, any number of packages in flight (asyncio).

Answers come in the order of the packages. When the connection breaks, what was in flight is answered "temporary":
it may or may not be queued, and its sender will try again; the next package opens a new connection.
"""

import asyncio
import socket
from collections import deque

from notqmail.queue.client import ANSWER_TIMEOUT_S, read_answer, socket_path
from notqmail.wire import queue_exit
from notqmail.wire.netstring import BadNetstring
from notqmail.wire.qmqp import RESIDENT_HELLO, PackageReader, encode_descriptor_package, encode_package
from notqmail.wire.reports import Report

Answer = tuple[Report, int]
_UNREACHABLE: Answer = (queue_exit.report_for_exit(queue_exit.NO_QUEUE), 0)
_LOST: Answer = (queue_exit.CRASHED, 0)
_LATE: Answer = (queue_exit.report_for_exit(queue_exit.TIMED_OUT), 0)


class _Connection(asyncio.Protocol):
    """One connection: packages out, answers matched to them in order."""

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[Answer]] = deque()
        self.transport: asyncio.Transport | None = None
        self._reader = PackageReader(limit=65_536)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's is no subclass, but has all of it

    def data_received(self, data: bytes) -> None:
        try:
            answers = self._reader.receive(data)
        except BadNetstring:
            self.close()
            return
        if len(answers) > len(self.waiting):
            self.close()  # it answers what nobody asked: then none of its answers can be matched
            return
        for answer in answers:
            future = self.waiting.popleft()
            if not future.done():
                future.set_result(read_answer(answer))

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                future.set_result(_LOST)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class QueueLink:
    """A resident's link to the queue of `home`. Use it from one event loop only."""

    def __init__(self, home: bytes) -> None:
        self._path = socket_path(home)
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[_Connection | None] | None = None
        self._late: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def post(self, message: bytes, sender: bytes, recipients: list[bytes]) -> "asyncio.Future[Answer]":
        """Queues a message that is in memory: (K, qp) means durable, trouble is a Z report, never an exception.

        Sends at once when connected. A caller that loses interest must not call the message refused: it may be queued.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        connection = self._connection
        if connection is not None and connection.transport is not None:
            self._send(connection, encode_package(message, sender, recipients), future)
        else:
            task = loop.create_task(self._send_when_open(encode_package(message, sender, recipients), future))
            self._tasks.add(task)  # the loop itself keeps only a weak reference
            task.add_done_callback(self._tasks.discard)
        return future

    async def submit_file(self, descriptor: int, length: int, sender: bytes, recipients: list[bytes]) -> Answer:
        """Queues a message of `length` bytes in a file: over a connection of its own, the descriptor with it.

        The caller keeps the descriptor and closes it. Raises nothing, as `submit`.
        """
        package = RESIDENT_HELLO + encode_descriptor_package(length, sender, recipients)
        loop = asyncio.get_running_loop()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await loop.sock_connect(connection, self._path)
                sent = socket.send_fds(connection, [package], [descriptor])
                await loop.sock_sendall(connection, package[sent:])
                reader = PackageReader(limit=65_536)
                while chunk := await loop.sock_recv(connection, 4_096):
                    if answers := reader.receive(chunk):
                        return read_answer(answers[0])
                return _LOST
        except TimeoutError:
            return _LATE
        except (ConnectionRefusedError, FileNotFoundError):
            return _UNREACHABLE
        except (OSError, BadNetstring):
            return _LOST
        finally:
            connection.close()

    def close(self) -> None:
        """Drops the connection."""
        if self._connection is not None:
            self._connection.close()
        if self._late is not None:
            self._late.cancel()

    async def _send_when_open(self, package: bytes, future: "asyncio.Future[Answer]") -> None:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
        opened = await asyncio.shield(self._opening)
        if opened is None or opened.transport is None:
            if not future.done():
                future.set_result(_UNREACHABLE)
        else:
            self._send(opened, package, future)

    async def _open(self) -> "_Connection | None":
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_unix_connection(
                _Connection, self._path.decode("utf-8", "surrogateescape")
            )
        except OSError:
            return None
        finally:
            self._opening = None
        assert connection.transport is not None
        connection.transport.write(RESIDENT_HELLO)
        self._connection = connection
        return connection

    def _send(self, connection: _Connection, package: bytes, future: "asyncio.Future[Answer]") -> None:
        assert connection.transport is not None
        connection.waiting.append(future)
        connection.transport.write(package)
        if self._late is None:
            self._late = asyncio.get_running_loop().call_later(
                ANSWER_TIMEOUT_S, self._look_for_late, connection, future
            )

    def _look_for_late(self, connection: _Connection, oldest: "asyncio.Future[Answer]") -> None:
        """One timer for all: if the package that was oldest when it was set still waits, the writer is stuck."""
        self._late = None
        if not oldest.done():
            connection.close()  # everything on it is answered "temporary"
        elif connection.waiting and connection.transport is not None:
            self._late = asyncio.get_running_loop().call_later(
                ANSWER_TIMEOUT_S, self._look_for_late, connection, connection.waiting[0]
            )
