"""Putting messages into the queue, many at once: the only way mail is accepted.

The order of the steps is the promise (docs/adr/0010). For each message of the batch:

    pid/A   <- Received line and message        S1   no name that means anything
    pid/B   <- envelope                         S1
    link pid/A mess/N                           S2   N is A's inode number
    a line in the ledger, where there is one
    barrier: A, B, the mess directory, ledger   whoever finds what follows finds these too; one for the whole batch
    link pid/B todo/N                           S4   accepted, if this name survives ...
    sync: the todo directory                    ... and now it does: answer

After a power cut at any step a message is in S1, S2 or S4; S2 is collected after 36 hours. C's qmail-queue uses
intd/N for the envelope; ours needs it only where intd and todo are on a file system of their own, since a todo file
without intd is as legal (S4), and so a cut can not leave an envelope whose message is missing.
"""

import errno

from notqmail.message.received import received_by_queue
from notqmail.queue.layout import split_directory, split_path
from notqmail.queue.ledger import ACCEPTED, Journal, sum_up_here
from notqmail.unix.durable import WriteFailed
from notqmail.wire import queue_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from notqmail.queue.ledger import SumUp
    from notqmail.unix.clock import Clock
    from notqmail.unix.durable import Disk

ADDRESS_MAX = 1_002  # bytes of one F or T address, as in qmail-queue
_NAME_TRIES = 9


class Refused(Exception):
    """This message is not queued; `exit_code` says why, in qmail-queue(8)'s numbers."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"refused with {exit_code}")
        self.exit_code = exit_code


class Request:
    """A message that wants into the queue.

    `chunks` are the message's bytes and `addresses` the sender, then each recipient; both are read once, in this
    order, and may raise Refused while being read. `invoked` is what the Received line says of the caller.
    `number` is the message number once there is one, `exit_code` the answer.
    """

    __slots__ = ("addresses", "chunks", "count", "envelope_name", "exit_code", "invoked", "number", "pid", "uid")

    def __init__(
        self, chunks: "Iterable[bytes]", addresses: "Iterable[bytes]", *, uid: int, pid: int, invoked: bytes
    ) -> None:
        self.chunks, self.addresses, self.uid, self.pid, self.invoked = chunks, addresses, uid, pid, invoked
        self.number, self.envelope_name, self.exit_code = 0, b"", queue_exit.ACCEPTED
        self.count = -1  # recipients, once the envelope is written


class Enqueuer:
    """The writer behind qmail-queue, one-shot and resident. `pid` and the clock make names under pid/ unique; `sum_up`
    makes sums of old ledger journals.
    """

    def __init__(self, disk: "Disk", clock: "Clock", pid: int, sum_up: "SumUp" = sum_up_here) -> None:
        self._disk, self._clock, self._pid, self._count = disk, clock, pid, 0
        self._ledger = Journal(disk, ACCEPTED, sum_up)

    def enqueue(self, requests: "Sequence[Request]") -> None:
        """Queues all of them or says for each why not, in its `exit_code`; on return ACCEPTED means durable."""
        staged = [request for request in requests if self._try(self._stage, request)]
        if not staged:
            return
        directories = sorted({split_directory(b"mess", request.number) for request in staged})
        files: list[bytes] = []
        for request in staged:
            files += (split_path(b"mess", request.number), request.envelope_name)
        if not self._record(staged, files) or not self._durably(
            lambda: self._disk.barrier(files, directories, before=b"todo"), staged
        ):
            for request in staged:
                self._remove(request)
            return
        named = [request for request in staged if self._try(self._name, request)]
        # A name that fails to become durable is left: qmail-send may have seen it already. The caller hears
        # "temporary" and may send again: better twice than never.
        if named:
            self._durably(lambda: self._disk.sync([b"todo"]), named)

    def _record(self, requests: "Sequence[Request]", files: list[bytes]) -> bool:
        """The batch's lines for the ledger; its file joins those that must not be missing."""
        if not self._ledger.kept:
            return True
        for request in requests:
            self._ledger.note(b"+ %d %d %d" % (request.number, request.pid, request.count))
        try:
            self._ledger.flush()
        except OSError:
            self._ledger.forget()
            for request in requests:
                request.exit_code = queue_exit.WRITE_FAILED
            return False
        files.append(self._ledger.path)
        return True

    def _try(self, step: "Callable[[Request], None]", request: Request) -> bool:
        try:
            step(request)
        except Refused as refused:
            request.exit_code = refused.exit_code
        return request.exit_code == queue_exit.ACCEPTED

    def _durably(self, step: "Callable[[], None]", requests: "Sequence[Request]") -> bool:
        try:
            step()
        except WriteFailed:
            for request in requests:
                request.exit_code = queue_exit.WRITE_FAILED
            return False
        return True

    def _stage(self, request: Request) -> None:
        """S1 and S2: message and envelope written, the message named by its inode number."""
        top = received_by_queue(request.pid, request.invoked, self._clock.now_s())
        message, number = self._create(_after(top, request.chunks))
        try:
            envelope, _ = self._create(_envelope(request))
            try:
                self._disk.link(message, split_path(b"mess", number))
            except OSError as error:
                self._forget(envelope)
                raise Refused(queue_exit.NO_MESS_LINK) from error
        finally:
            self._forget(message)
        request.number, request.envelope_name = number, envelope

    def _create(self, chunks: "Iterable[bytes]") -> tuple[bytes, int]:
        """A new file under pid/; a name already taken (by a process of the same number) is stepped over."""
        for _ in range(_NAME_TRIES):
            self._count += 1
            name = b"pid/%d.%d.%d" % (self._pid, self._clock.now_s(), self._count)
            try:
                return name, self._disk.create(name, chunks, 0o644)
            except FileExistsError:
                continue
            except WriteFailed as error:
                raise Refused(queue_exit.WRITE_FAILED) from error
            except OSError as error:
                code = (
                    queue_exit.WRITE_FAILED if error.errno in (errno.ENOSPC, errno.EDQUOT) else queue_exit.NO_PID_FILE
                )
                raise Refused(code) from error
        raise Refused(queue_exit.NO_PID_FILE)

    def _name(self, request: Request) -> None:
        """S4: the envelope gets its name in todo."""
        try:
            try:
                self._disk.link(request.envelope_name, b"todo/%d" % request.number)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._name_elsewhere(request.envelope_name, request.number)
        except OSError as error:
            self._remove(request)
            raise Refused(queue_exit.NO_TODO_LINK) from error
        self._forget(request.envelope_name)

    def _name_elsewhere(self, envelope: bytes, number: int) -> None:
        """The same where intd and todo are on a file system of their own, as C's steps allow it: by way of intd/N."""
        intd = b"intd/%d" % number
        self._disk.discard(intd)
        self._disk.create(intd, [self._disk.read(envelope)], 0o644)
        try:
            self._disk.sync([intd])
            self._disk.link(intd, b"todo/%d" % number)
        finally:
            self._forget(intd)

    def _remove(self, request: Request) -> None:
        """Takes back S2."""
        self._forget(request.envelope_name)
        self._forget(split_path(b"mess", request.number))

    def _forget(self, path: bytes) -> None:
        """Removes a file whose staying would do no harm."""
        try:
            self._disk.discard(path)
        except OSError:
            pass  # the disk is in trouble already; the collector will come after 36 hours


def _after(first: bytes, chunks: "Iterable[bytes]") -> "Iterable[bytes]":
    """`first`, then the chunks; a small message becomes one write."""
    pending = first
    for chunk in chunks:
        if pending:
            pending += chunk
            if len(pending) < 65_536:
                continue
            yield pending
            pending = b""
        else:
            yield chunk
    if pending:
        yield pending


def _envelope(request: Request) -> "Iterator[bytes]":
    """The file in todo, bit by bit: u, p, F and T records, each ended by NUL. Raises Refused."""
    pending = b"u%d\0p%d\0" % (request.uid, request.pid)
    letter = b"F"
    for address in request.addresses:
        if len(address) > ADDRESS_MAX:
            raise Refused(queue_exit.ADDRESS_TOO_LONG)
        pending += letter + address + b"\0"
        letter = b"T"
        request.count += 1
        if len(pending) > 32_768:
            yield pending
            pending = b""
    yield pending


def invoked_by(uid: int, uids: "dict[str, int] | None") -> bytes:
    """What the Received line says of the caller's uid; `uids` are the classic accounts, None in single-user mode."""
    if uids is not None:
        for role, words in (("alias", b"by alias"), ("daemon", b"from network"), ("send", b"for bounce")):
            if uids.get(role) == uid:
                return words
    return b"by uid %d" % uid
