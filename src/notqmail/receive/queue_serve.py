"""qmail-queue's resident face: the queue's one writer, taking packages over a Unix socket (qmail-queue(8), --serve).

Strategy: one process, one thread, no event loop. Each turn takes whatever packages have arrived on any connection
and queues them together with two syncs (enqueue.py). While the disk works the next ones gather in the sockets, so
the busier it is the more a sync carries, and a lone message never waits. A thread that synced beside this one
would starve on the interpreter's lock; that is why this process does nothing else.

Large messages come in files (docs/adr/0011). Those of our own accounts wait in a line (queue_line.py): shorter ones
until they can join a sync, longer ones until there is a child for them. Strangers' go to a child or are refused.

Who called is what the kernel says (SO_PEERCRED), never what the caller says.
"""

import errno
import os
import select
import socket

from notqmail.queue import trigger
from notqmail.queue.layout import queue_directory
from notqmail.queue.ledger_apart import sum_up_apart
from notqmail.receive.closing import Closer
from notqmail.receive.enqueue import Enqueuer, Refused, Request, invoked_by
from notqmail.receive.queue_copies import OURS, Copies, file_chunks
from notqmail.receive.queue_line import Client, Large, Line
from notqmail.unix.mains import complain
from notqmail.wire import queue_exit
from notqmail.wire.netstring import BadNetstring, encode
from notqmail.wire.qmqp import decode_package

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from notqmail.unix.clock import Clock
    from notqmail.unix.durable import Disk

    Package = tuple[Client, Request, Large | None]

CONNECTIONS_MAX = 1_000
CONNECTIONS_PER_UID_MAX = 200  # of a user who is none of ours, so that one cannot keep all others out
WAITING_PER_UID_MAX = 67_108_864  # bytes of unfinished packages of such a user
_WAITING_SOME = 1_048_576  # below it nobody counts
BATCH_MAX = 256  # messages a sync: beyond it the gain is small and the first one waits longer
_LAST_TURN_S = 0.05
_LAST_TURNS_MAX = 40
_READ_BYTES = 262_144
_ANSWER_UNREAD_MAX = 1_048_576  # a client that reads no answers is dropped
_DESCRIPTORS_MAX = 8  # waiting; a package brings at most one
_DESCRIPTORS_TAKEN = 253  # Linux's SCM_MAX_FD: what we do not take recvmsg closes, and may wait for it (closing.py)


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
        self._copying: dict[int, Client] = {}  # whose large message is with which child
        self._line = Line()
        self._clients: dict[int, Client] = {}
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
        batch: list[Package] = []
        try:
            events = self._poll.poll(0 if self._line.joining else timeout_s, BATCH_MAX)
        except InterruptedError:
            return True
        for descriptor, event in events:
            if descriptor == self._listener.fileno():
                self._accept(batch)
            elif descriptor == self._lifeline_fd:
                self.stopping = True
            elif descriptor in self._copies:
                self._end_copy(descriptor)
            elif client := self._clients.get(descriptor):
                if event & select.EPOLLOUT:
                    self._flush(client)
                if event & ~select.EPOLLOUT:
                    self._read(client, batch)
        if not batch and not self._line.joining:
            return bool(events)
        self._queue_batch(batch)
        return True

    def _queue_batch(self, batch: "list[Package]") -> None:
        """Queues the small ones, and with the last of them what may join; then sees to the other large ones."""
        small, foreign = self._sorted(batch)
        parts = [small[start : start + BATCH_MAX] for start in range(0, len(small), BATCH_MAX)] or [[]]
        parts[-1] += [(large.client, large.request) for large in self._line.next_commit()]
        for part in parts:
            self._commit(part)
        for large in foreign:
            self._start_copy(large, large.client.uid)
        self._start_waiting()

    def _sorted(self, batch: "list[Package]") -> "tuple[list[tuple[Client, Request]], list[Large]]":
        """The small messages, and the large ones of strangers; those of our own accounts now stand in line."""
        small: list[tuple[Client, Request]] = []
        foreign: list[Large] = []
        for client, request, large in batch:
            if client.large is not None or client.is_gone:  # both programs of ours use a connection for each
                if large is not None:
                    self._close(large.descriptor, client.uid)
                self._must_come_alone(client)
            elif large is None:
                small.append((client, request))
            else:
                client.large = large
                self._listen(client)
                if client.uid in self._trusted:
                    self._line.add(large, self._trusted)
                else:
                    foreign.append(large)
        return small, foreign

    def _must_come_alone(self, client: Client) -> None:
        if not client.is_gone:
            complain(f"qmail-queue: warning: uid {client.uid} pid {client.pid}: a large message must come alone")
            self._drop(client)

    def _commit(self, part: "list[tuple[Client, Request]]") -> None:
        requests = [request for _, request in part]
        self._enqueuer.enqueue(requests)
        if any(request.number for request in requests):  # else there is nothing new to look for
            trigger.pull(self._queue)
        for client, request in part:
            client.out += _answer(request)
            if client.large is not None and client.large.request is request:
                self._end_large(client)
        for client in {id(client): client for client, _ in part}.values():
            self._flush(client)

    def _start_waiting(self) -> None:
        """As many of our own accounts' copies as there is room for; the others wait."""
        while self._line.copying and self._copies.has_room(OURS):
            self._start_copy(self._line.copying.pop(0), OURS)

    def _start_copy(self, large: Large, account: int) -> None:
        """Gives a large message to a child, and its connection until the child ends."""
        client = large.client
        if client.is_gone:
            return
        if client.out:
            self._must_come_alone(client)
            return
        try:
            if not self._copies.has_room(account):
                raise BlockingIOError
            others = self._of_others(client)
            pidfd = self._copies.start(account, client.socket, others, lambda: self._copy(large.request))
        except OSError:
            client.out += encode(queue_exit.report_for_exit(queue_exit.SERVER_REJECTED_FOR_NOW).encode())
            self._end_large(client)
            self._flush(client)
            return
        self._let_go(large)
        self._poll.register(pidfd, select.EPOLLIN)
        self._copying[pidfd] = client

    def _end_large(self, client: Client) -> None:
        """The client's large message is done with, or given up."""
        if client.large is not None:
            self._line.forget(client.large)
            self._let_go(client.large)
            client.large = None

    def _let_go(self, large: Large) -> None:
        if large.descriptor >= 0:
            self._close(large.descriptor, large.client.uid)
            large.descriptor = -1

    def _of_others(self, client: Client) -> list[int]:
        """What the child has no business with."""
        others = [number for number in self._clients if number != client.socket.fileno()]
        return [
            self._poll.fileno(),
            self._listener.fileno(),
            *others,
            *self._line.descriptors(),
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
        self._end_large(client)
        if answered:
            self._flush(client)  # and listens again
        else:
            self._drop(client)
        self._start_waiting()

    def _accept(self, batch: "list[Package]") -> None:
        """Takes all who call, and what they have sent already: each large message of a resident has its own call."""
        for _ in range(BATCH_MAX):
            if not self._accepting:
                return
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._pause_accepting()
                return  # nobody else calls
            self._welcome(connection, batch)

    def _welcome(self, connection: socket.socket, batch: "list[Package]") -> None:
        connection.setblocking(False)
        client = Client(connection)
        if self._has_too_many(client.uid) or self._closer.is_stuck(client.uid):
            self._close(connection.detach(), client.uid)
            return
        self._clients[connection.fileno()] = client
        self._poll.register(connection.fileno(), select.EPOLLIN)
        if len(self._clients) >= CONNECTIONS_MAX:
            self._pause_accepting()
        self._read(client, batch)

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

    def _drop(self, client: Client) -> None:
        if self._clients.pop(client.socket.fileno(), None) is not None:
            self._poll.unregister(client.socket.fileno())  # closing it would not, while a child has it too
        self._end_large(client)
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

    def _read(self, client: Client, batch: "list[Package]") -> None:
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
            batch.append((client, self._new_request(client, _refusing(), []), None))  # answered after those before it
            client.socket.shutdown(socket.SHUT_RD)  # the next read finds the end

    def _request(self, client: Client, body: bytes) -> "Package":
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
        request = self._new_request(client, chunks, addresses)
        return client, request, Large(client, request, descriptor, package.length) if descriptor >= 0 else None

    def _new_request(self, client: Client, chunks: "Iterator[bytes]", addresses: list[bytes]) -> Request:
        pid = client.pid
        if client.resident:
            self._serial += 1
            pid = self._serial
        return Request(
            chunks, addresses, uid=client.uid, pid=pid, invoked=invoked_by(client.uid, self._uids)
        )  # fmt: skip

    def _flush(self, client: Client) -> None:
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
        self._listen(client)

    def _listen(self, client: Client) -> None:
        """To a client whose large message is under way nobody listens: only its end is seen."""
        events = (select.EPOLLIN if client.large is None else 0) | (select.EPOLLOUT if client.out else 0)
        self._poll.modify(client.socket.fileno(), events)


def _answer(request: Request) -> bytes:
    if request.exit_code == queue_exit.ACCEPTED:
        return encode(b"Kok qp %d" % request.pid)
    return encode(queue_exit.report_for_exit(request.exit_code).encode())


def _refusing() -> "Iterator[bytes]":
    """In place of the message of a package that cannot be understood."""
    yield b""
    raise Refused(queue_exit.BAD_ENVELOPE)
