"""Who is connected to the queue's writer: bytes come in and are packages, answers go out (qmail-queue(8), --serve).

Who called is what the kernel says (SO_PEERCRED), never what the caller says. Accounts of the mail system may call as
often as they like; of anybody else's connections, and bytes of unfinished packages, there are only so many, and what
they gave is closed where nobody has to wait for it (closing.py).
"""

import errno
import os
import select
import socket
import struct

from notqmail.receive.closing import Closer
from notqmail.receive.enqueue import Refused, Request, invoked_by
from notqmail.receive.queue_copies import file_chunks
from notqmail.receive.queue_line import Large
from notqmail.unix.mains import complain
from notqmail.wire import queue_exit
from notqmail.wire.netstring import BadNetstring
from notqmail.wire.qmqp import PackageReader, decode_package

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Package = tuple["Caller", Request, Large | None]

CONNECTIONS_MAX = 1_000
CONNECTIONS_PER_UID_MAX = 200  # of a user who is none of ours, so that one cannot keep all others out
WAITING_PER_UID_MAX = 67_108_864  # bytes of unfinished packages of such a user
PACKAGE_MAX = 16_777_216  # bytes in one frame: a small message and some 400,000 recipients
_WAITING_SOME = 1_048_576  # below it nobody counts
_ACCEPT_MAX = 256  # calls taken in one turn
_READ_BYTES = 262_144
_ANSWER_UNREAD_MAX = 1_048_576  # a caller that reads no answers is dropped
_DESCRIPTORS_MAX = 8  # waiting; a package brings at most one
_DESCRIPTORS_TAKEN = 253  # Linux's SCM_MAX_FD: what we do not take recvmsg closes, and may wait for it (closing.py)
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Caller:
    """A connection: whose it is, what it has sent, what it has not read yet, its large message under way."""

    __slots__ = ("descriptors", "large", "out", "pid", "reader", "resident", "socket", "uid")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self.pid, self.uid, _ = _CREDENTIALS.unpack(raw)
        self.reader = PackageReader(limit=PACKAGE_MAX)
        self.resident = False
        self.descriptors: list[int] = []
        self.large: Large | None = None
        self.out = b""

    @property
    def is_gone(self) -> bool:
        """Whether the connection has been given up."""
        return self.socket.fileno() < 0


class Callers:
    """Everybody who is connected; `poll` watches them. `uids`: who has which role (None in single-user mode)."""

    def __init__(
        self, listener: socket.socket, poll: select.epoll, uids: "dict[str, int] | None",
        give_up: "Callable[[Caller], object]",
    ) -> None:  # fmt: skip
        """`give_up` is told of each caller that is dropped."""
        self._listener, self._poll, self._uids, self._give_up = listener, poll, uids, give_up
        self.trusted = {0, os.geteuid(), *(uids or {}).values()}
        self._closer = Closer()
        self._all: dict[int, Caller] = {}
        self._serial = os.getpid()  # numbers of residents' messages: as unique as process numbers are
        self._accepting = True
        self._refused: set[int] = set()  # uids that have been told of in the log
        poll.register(listener.fileno(), select.EPOLLIN)

    def get(self, descriptor: int) -> Caller | None:
        """Whose socket this is."""
        return self._all.get(descriptor)

    def descriptors(self) -> list[int]:
        """Of all connections."""
        return list(self._all)

    # ── coming ──────────────────────────────────────────────────────────────────────────────────────────────

    def accept(self) -> "list[Package]":
        """Takes all who call, and what they have sent already: each large message of a resident has its own call."""
        packages: list[Package] = []
        for _ in range(_ACCEPT_MAX):
            if not self._accepting:
                break
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._pause_accepting()
                break  # nobody else calls
            packages += self._welcome(connection)
        return packages

    def _welcome(self, connection: socket.socket) -> "list[Package]":
        connection.setblocking(False)
        caller = Caller(connection)
        if self._has_too_many(caller.uid) or self._closer.is_stuck(caller.uid):
            self.close(connection.detach(), caller.uid)
            return []
        self._all[connection.fileno()] = caller
        self._poll.register(connection.fileno(), select.EPOLLIN)
        if len(self._all) >= CONNECTIONS_MAX:
            self._pause_accepting()
        return self.read(caller)

    def _has_too_many(self, uid: int) -> bool:
        if uid in self.trusted or len(self._all) < CONNECTIONS_PER_UID_MAX:
            return False
        if sum(one.uid == uid for one in self._all.values()) < CONNECTIONS_PER_UID_MAX:
            self._refused.discard(uid)
            return False
        if uid not in self._refused:
            self._refused.add(uid)
            complain(f"qmail-queue: warning: uid {uid} has {CONNECTIONS_PER_UID_MAX} connections: refusing more")
        return True

    def _pause_accepting(self) -> None:
        """The rest waits in the listen queue until a connection ends."""
        if self._accepting:
            complain(f"qmail-queue: warning: {len(self._all)} connections: new ones have to wait")
            self._poll.modify(self._listener.fileno(), 0)
            self._accepting = False

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, caller: Caller) -> "list[Package]":
        """The packages that are complete now. A caller that ends, or breaks the protocol, is done with."""
        packages: list[Package] = []
        try:
            data, descriptors, _, _ = socket.recv_fds(caller.socket, _READ_BYTES, _DESCRIPTORS_TAKEN)
        except (BlockingIOError, InterruptedError):
            return packages
        except OSError:
            data, descriptors = b"", []
        caller.descriptors += descriptors
        if not data:
            self.drop(caller)
            return packages
        if caller.reader.waiting > _WAITING_SOME and self._waits_too_much(caller.uid):
            self.drop(caller, "too much is half sent: dropped")
            return packages
        try:
            if len(caller.descriptors) > _DESCRIPTORS_MAX:
                raise BadNetstring("descriptors without packages")
            while bodies := caller.reader.receive(data):
                data = b""
                for body in bodies:
                    if body == b"!":
                        caller.resident = True
                    else:
                        packages.append(self._package(caller, body))
        except BadNetstring as bad:
            complain(f"{_warning(caller)} broke the protocol: {bad}")
            packages.append((caller, self._request(caller, _refusing(), []), None))  # answered after those before it
            caller.socket.shutdown(socket.SHUT_RD)  # the next read finds the end
        return packages

    def _waits_too_much(self, uid: int) -> bool:
        """Whether a user who is none of ours keeps too many unfinished packages in our memory."""
        if uid in self.trusted:
            return False
        return sum(one.reader.waiting for one in self._all.values() if one.uid == uid) > WAITING_PER_UID_MAX

    def _package(self, caller: Caller, body: bytes) -> "Package":
        package = decode_package(body)
        descriptor = -1
        chunks: Iterator[bytes]
        if package.message is None:
            if not caller.descriptors:
                raise BadNetstring("no descriptor came with the message")
            descriptor = caller.descriptors.pop(0)
            chunks = file_chunks(descriptor, package.length)
        else:
            chunks = iter((package.message,))
        addresses = [package.sender, *package.recipients]
        if any(b"\0" in address for address in addresses):
            chunks = _refusing()
        request = self._request(caller, chunks, addresses)
        return caller, request, Large(caller, request, descriptor, package.length) if descriptor >= 0 else None

    def _request(self, caller: Caller, chunks: "Iterator[bytes]", addresses: list[bytes]) -> Request:
        pid = caller.pid
        if caller.resident:
            self._serial += 1
            pid = self._serial
        return Request(chunks, addresses, uid=caller.uid, pid=pid, invoked=invoked_by(caller.uid, self._uids))

    # ── answering ───────────────────────────────────────────────────────────────────────────────────────────

    def flush(self, caller: Caller) -> None:
        """Sends what waits for the caller, as far as it is read."""
        if caller.is_gone:
            return
        try:
            sent = caller.socket.send(caller.out) if caller.out else 0
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.drop(caller)
            return
        caller.out = caller.out[sent:]
        if len(caller.out) > _ANSWER_UNREAD_MAX:
            self.drop(caller)
            return
        self.listen(caller)

    def listen(self, caller: Caller) -> None:
        """To a caller whose large message is under way nobody listens: only its end is seen."""
        events = (select.EPOLLIN if caller.large is None else 0) | (select.EPOLLOUT if caller.out else 0)
        self._poll.modify(caller.socket.fileno(), events)

    # ── leaving ─────────────────────────────────────────────────────────────────────────────────────────────

    def drop(self, caller: Caller, why: str = "") -> None:
        """Ends a connection and closes all that came by it; `why` goes to the log."""
        if why:
            complain(f"{_warning(caller)}: {why}")
        if self._all.pop(caller.socket.fileno(), None) is not None:
            self._poll.unregister(caller.socket.fileno())  # closing it would not, while a child has it too
        self._give_up(caller)
        for descriptor in caller.descriptors:
            self.close(descriptor, caller.uid)
        caller.descriptors.clear()
        if not caller.is_gone:
            self.close(caller.socket.detach(), caller.uid)
        if not self._accepting and self._listener.fileno() >= 0:
            self._poll.modify(self._listener.fileno(), select.EPOLLIN)
            self._accepting = True

    def drop_all(self) -> None:
        """Hangs up on everybody."""
        for caller in list(self._all.values()):
            self.drop(caller)

    def close(self, descriptor: int, uid: int) -> None:
        """Closes what came from this user; what a stranger gave may take its time elsewhere."""
        if uid in self.trusted:
            os.close(descriptor)
        else:
            self._closer.close(descriptor, uid)


def _warning(caller: Caller) -> str:
    return f"qmail-queue: warning: uid {caller.uid} pid {caller.pid}"


def _refusing() -> "Iterator[bytes]":
    """In place of the message of a package that cannot be understood."""
    yield b""
    raise Refused(queue_exit.BAD_ENVELOPE)
