"""qmail-queue's resident face: the queue's one writer, taking packages over a Unix socket (qmail-queue(8), --serve).

Strategy: one process, one thread, no event loop. Each turn takes whatever packages have arrived on any connection
and queues them together with two syncs (enqueue.py). While the disk works the next ones gather in the sockets, so
the busier it is the more a sync carries, and a lone message never waits. A thread that synced beside this one
would starve on the interpreter's lock; that is why this process does nothing else.

Who called is what the kernel says (SO_PEERCRED), never what the caller says.
"""

import errno
import os
import select
import socket
import struct

from notqmail.queue import trigger
from notqmail.queue.layout import queue_directory
from notqmail.queue.ledger_apart import sum_up_apart
from notqmail.receive.closing import Closer
from notqmail.receive.enqueue import Enqueuer, Refused, Request, invoked_by
from notqmail.receive.queue_copies import Copies, file_chunks
from notqmail.unix.mains import complain
from notqmail.wire import queue_exit
from notqmail.wire.netstring import BadNetstring, encode
from notqmail.wire.qmqp import PackageReader, decode_package

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from notqmail.unix.clock import Clock
    from notqmail.unix.durable import Disk

CONNECTIONS_MAX = 1_000
CONNECTIONS_PER_UID_MAX = 200  # of a user who is none of ours, so that one cannot keep all others out
PACKAGE_MAX = 16_777_216  # bytes in one frame: a small message and some 400,000 recipients
WAITING_PER_UID_MAX = 67_108_864  # bytes of unfinished packages of such a user
_WAITING_SOME = 1_048_576  # below it nobody counts
BATCH_MAX = 256  # messages a sync: beyond it the gain is small and the first one waits longer
_LAST_TURN_S = 0.05
_LAST_TURNS_MAX = 40
_READ_BYTES = 262_144
_ANSWER_UNREAD_MAX = 1_048_576  # a client that reads no answers is dropped
_DESCRIPTORS_MAX = 8  # waiting; a package brings at most one
_DESCRIPTORS_TAKEN = 253  # Linux's SCM_MAX_FD: what we do not take recvmsg closes, and may wait for it (closing.py)
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class _Client:
    """A connection: whose it is, what it has sent, what it has not read yet."""

    __slots__ = ("descriptors", "out", "pid", "reader", "resident", "socket", "uid")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self.pid, self.uid, _ = _CREDENTIALS.unpack(raw)
        self.reader = PackageReader(limit=PACKAGE_MAX)
        self.resident = False
        self.descriptors: list[int] = []
        self.out = b""


class QueueServer:
    """The loop. `uids`: who has which role (None in single-user mode); `lifeline_fd` ends it at end of file."""

    def __init__(
        self, home: bytes, disk: "Disk", clock: "Clock", listener: socket.socket, *,
        uids: "dict[str, int] | None", lifeline_fd: int = -1, copies: "Copies | None" = None,
    ) -> None:  # fmt: skip
        self._queue, self._uids = queue_directory(home), uids
        self._listener, self._lifeline_fd = listener, lifeline_fd
        self._disk, self._clock = disk, clock
        self._enqueuer = Enqueuer(disk, clock, os.getpid(), sum_up_apart)
        self._copies = copies or Copies()
        self._closer = Closer()
        self._copying: dict[int, _Client] = {}  # whose large message is with which child
        self._clients: dict[int, _Client] = {}
        self._serial = os.getpid()  # numbers of residents' messages: as unique as process numbers are
        self._poll = select.epoll()
        self._poll.register(listener.fileno(), select.EPOLLIN)
        if lifeline_fd >= 0:
            self._poll.register(lifeline_fd, select.EPOLLIN | select.EPOLLHUP)
        self.stopping = False
        self._accepting = True
        self._trusted = {0, os.geteuid(), *(uids or {}).values()}
        self._refused: set[int] = set()  # uids that have been told of in the log

    def watch(self, descriptor: int) -> None:
        """A descriptor whose becoming readable only ends the waiting (signals)."""
        self._poll.register(descriptor, select.EPOLLIN | select.EPOLLET)

    def run(self) -> None:
        """Serves until `stopping` is set (by a signal handler) or the lifeline ends; finishes what it has begun."""
        while not self.stopping:
            self.turn()
        self._take_leave()
        self._copies.finish()
        for client in list(self._clients.values()):
            self._drop(client)

    def _take_leave(self) -> None:
        """Takes the name away, so that new callers find nobody and do without us, and serves who has called already."""
        try:
            os.unlink(self._listener.getsockname())
        except OSError:
            pass  # somebody has tidied up
        if self._lifeline_fd >= 0:
            self._poll.unregister(self._lifeline_fd)
            self._lifeline_fd = -1
        for _ in range(_LAST_TURNS_MAX):
            if not self.turn(_LAST_TURN_S):
                return

    def turn(self, timeout_s: float = -1) -> bool:
        """One round: wait, read, queue, answer. Whether anything happened."""
        batch: list[tuple[_Client, Request, int]] = []
        try:
            events = self._poll.poll(timeout_s, BATCH_MAX)
        except InterruptedError:
            return True
        for descriptor, event in events:
            if descriptor == self._listener.fileno():
                self._accept()
            elif descriptor == self._lifeline_fd:
                self.stopping = True
            elif descriptor in self._copies:
                self._end_copy(descriptor)
            elif client := self._clients.get(descriptor):
                if event & select.EPOLLOUT:
                    self._flush(client)
                if event & ~select.EPOLLOUT:
                    self._read(client, batch)
        if batch:
            self._queue_batch(batch)
        return bool(events)

    def _queue_batch(self, batch: "list[tuple[_Client, Request, int]]") -> None:
        large = [one for one in batch if one[2] >= 0]
        batch = [one for one in batch if one[2] < 0]
        for start in range(0, len(batch), BATCH_MAX):
            part = batch[start : start + BATCH_MAX]
            requests = [request for _, request, _ in part]
            self._enqueuer.enqueue(requests)
            if any(request.number for request in requests):  # else there is nothing new to look for
                trigger.pull(self._queue)
            for client, request, _ in part:
                client.out += _answer(request)
            for client in {id(client): client for client, _, _ in part}.values():
                self._flush(client)
        for client, request, descriptor in large:
            self._start_copy(client, request)
            self._close(descriptor, client.uid)

    def _start_copy(self, client: _Client, request: Request) -> None:
        """Gives a large message to a child, and its connection until the child ends."""
        if client.socket.fileno() < 0:
            return
        if client.out or client in self._copying.values():  # both programs of ours use a connection for each
            complain(f"qmail-queue: warning: uid {client.uid} pid {client.pid}: a large message must come alone")
            self._drop(client)
            return
        try:
            if not self._copies.has_room(client.uid):
                raise BlockingIOError
            pidfd = self._copies.start(client.uid, client.socket, self._of_others(client), lambda: self._copy(request))
        except OSError:
            client.out += encode(queue_exit.report_for_exit(queue_exit.SERVER_REJECTED_FOR_NOW).encode())
            self._flush(client)
            return
        self._poll.modify(client.socket.fileno(), 0)
        self._poll.register(pidfd, select.EPOLLIN)
        self._copying[pidfd] = client

    def _of_others(self, client: _Client) -> list[int]:
        """What the child has no business with."""
        others = [number for number in self._clients if number != client.socket.fileno()]
        return [
            self._poll.fileno(),
            self._listener.fileno(),
            *others,
            *([self._lifeline_fd] * (self._lifeline_fd >= 0)),
        ]

    def _copy(self, request: Request) -> bytes:
        """In the child: the ordinary steps, for one message."""
        Enqueuer(self._disk, self._clock, os.getpid(), sum_up_apart).enqueue([request])
        if request.number:
            trigger.pull(self._queue)
        return _answer(request)

    def _end_copy(self, pidfd: int) -> None:
        self._poll.unregister(pidfd)
        client = self._copying.pop(pidfd)
        answered = self._copies.end(pidfd)
        if client.socket.fileno() < 0:
            return
        if answered:
            self._flush(client)  # and listens again
        else:
            self._drop(client)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._pause_accepting()
            return
        connection.setblocking(False)
        client = _Client(connection)
        if self._has_too_many(client.uid) or self._closer.is_stuck(client.uid):
            self._close(connection.detach(), client.uid)
            return
        self._clients[connection.fileno()] = client
        self._poll.register(connection.fileno(), select.EPOLLIN)
        if len(self._clients) >= CONNECTIONS_MAX:
            self._pause_accepting()

    def _has_too_many(self, uid: int) -> bool:
        if uid in self._trusted or len(self._clients) < CONNECTIONS_PER_UID_MAX:
            return False
        if sum(one.uid == uid for one in self._clients.values()) < CONNECTIONS_PER_UID_MAX:
            self._refused.discard(uid)
            return False
        if uid not in self._refused:
            self._refused.add(uid)
            complain(f"qmail-queue: warning: uid {uid} has {CONNECTIONS_PER_UID_MAX} connections: refusing more")
        return True

    def _waits_too_much(self, uid: int) -> bool:
        """Whether a user who is none of ours keeps too many unfinished packages in our memory."""
        if uid in self._trusted:
            return False
        return sum(one.reader.waiting for one in self._clients.values() if one.uid == uid) > WAITING_PER_UID_MAX

    def _pause_accepting(self) -> None:
        """The rest waits in the listen queue until a connection ends."""
        if self._accepting:
            complain(f"qmail-queue: warning: {len(self._clients)} connections: new ones have to wait")
            self._poll.modify(self._listener.fileno(), 0)
            self._accepting = False

    def _drop(self, client: _Client) -> None:
        if self._clients.pop(client.socket.fileno(), None) is not None:
            self._poll.unregister(client.socket.fileno())  # closing it would not, while a child has it too
        for descriptor in client.descriptors:
            self._close(descriptor, client.uid)
        client.descriptors.clear()
        if client.socket.fileno() >= 0:
            self._close(client.socket.detach(), client.uid)
        if not self._accepting and not self.stopping:
            self._poll.modify(self._listener.fileno(), select.EPOLLIN)
            self._accepting = True

    def _close(self, descriptor: int, uid: int) -> None:
        """Closes what came from this user; what a stranger gave may take its time elsewhere."""
        if uid in self._trusted:
            os.close(descriptor)
        else:
            self._closer.close(descriptor, uid)

    def _read(self, client: _Client, batch: "list[tuple[_Client, Request, int]]") -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(client.socket, _READ_BYTES, _DESCRIPTORS_TAKEN)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, descriptors = b"", []
        client.descriptors += descriptors
        if not data:
            self._drop(client)
            return
        if client.reader.waiting > _WAITING_SOME and self._waits_too_much(client.uid):
            complain(f"qmail-queue: warning: uid {client.uid} pid {client.pid}: too much is half sent: dropped")
            self._drop(client)
            return
        try:
            if len(client.descriptors) > _DESCRIPTORS_MAX:
                raise BadNetstring("descriptors without packages")
            while bodies := client.reader.receive(data):
                data = b""
                for body in bodies:
                    if body == b"!":
                        client.resident = True
                    else:
                        batch.append(self._request(client, body))
        except BadNetstring as bad:
            complain(f"qmail-queue: warning: uid {client.uid} pid {client.pid} broke the protocol: {bad}")
            batch.append((client, self._new_request(client, _refusing(), []), -1))  # answered after those before it
            client.socket.shutdown(socket.SHUT_RD)  # the next read finds the end

    def _request(self, client: _Client, body: bytes) -> "tuple[_Client, Request, int]":
        package = decode_package(body)
        descriptor = -1
        chunks: Iterator[bytes]
        if package.message is None:
            if not client.descriptors:
                raise BadNetstring("no descriptor came with the message")
            descriptor = client.descriptors.pop(0)
            chunks = file_chunks(descriptor, package.length)
        else:
            chunks = iter((package.message,))
        addresses = [package.sender, *package.recipients]
        if any(b"\0" in address for address in addresses):
            chunks = _refusing()
        return client, self._new_request(client, chunks, addresses), descriptor

    def _new_request(self, client: _Client, chunks: "Iterator[bytes]", addresses: list[bytes]) -> Request:
        pid = client.pid
        if client.resident:
            self._serial += 1
            pid = self._serial
        return Request(
            chunks, addresses, uid=client.uid, pid=pid, invoked=invoked_by(client.uid, self._uids)
        )  # fmt: skip

    def _flush(self, client: _Client) -> None:
        if client.socket.fileno() < 0:
            return
        try:
            sent = client.socket.send(client.out) if client.out else 0
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._drop(client)
            return
        client.out = client.out[sent:]
        if len(client.out) > _ANSWER_UNREAD_MAX:
            self._drop(client)
            return
        self._poll.modify(client.socket.fileno(), select.EPOLLIN | (select.EPOLLOUT if client.out else 0))


def _answer(request: Request) -> bytes:
    if request.exit_code == queue_exit.ACCEPTED:
        return encode(b"Kok qp %d" % request.pid)
    return encode(queue_exit.report_for_exit(request.exit_code).encode())


def _refusing() -> "Iterator[bytes]":
    """In place of the message of a package that cannot be understood."""
    yield b""
    raise Refused(queue_exit.BAD_ENVELOPE)
