"""qmail-queue's resident face: the queue's one writer, taking packages over a Unix socket (qmail-queue(8), --serve).

Strategy: one process, one thread, no event loop. Each turn takes whatever packages have arrived on any connection
(queue_callers.py) and queues them together with one or two waits for the disk (enqueue.py). While it works the next
ones gather in the sockets, so the busier it is the more a wait serves, and a lone message never waits for others. A
thread that synced beside this one would starve on the interpreter's lock; so this process does nothing else.

Large messages come in files (docs/adr/0011). Those of our own accounts wait in a line (queue_line.py): shorter ones
until they can join a sync, longer ones until there is a child for them. Strangers' go to a child or are refused.
"""

import os
import select

from notqmail.queue import trigger
from notqmail.queue.layout import queue_directory
from notqmail.queue.ledger_apart import sum_up_apart
from notqmail.receive.enqueue import Enqueuer
from notqmail.receive.queue_callers import Caller, Callers
from notqmail.receive.queue_copies import OURS, Copies
from notqmail.receive.queue_line import Large, Line
from notqmail.wire import queue_exit
from notqmail.wire.netstring import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from notqmail.receive.enqueue import Request
    from notqmail.receive.queue_callers import Package
    from notqmail.unix.clock import Clock
    from notqmail.unix.durable import Disk

BATCH_MAX = 256  # messages a sync: beyond it the gain is small and the first one waits longer
_LAST_TURN_S = 0.05
_LAST_TURNS_MAX = 40


class QueueServer:
    """The loop. `uids`: who has which role (None in single-user mode); `lifeline_fd` ends it at end of file."""

    def __init__(
        self, home: bytes, disk: "Disk", clock: "Clock", listener: "socket.socket", *,
        uids: "dict[str, int] | None", lifeline_fd: int = -1, copies: "Copies | None" = None,
    ) -> None:  # fmt: skip
        self._queue = queue_directory(home)
        self._listener, self._lifeline_fd = listener, lifeline_fd
        self._disk, self._clock = disk, clock
        self._enqueuer = Enqueuer(disk, clock, os.getpid(), sum_up_apart)
        self._copies = copies or Copies()
        self._copying: dict[int, Caller] = {}  # whose large message is with which child
        self._line = Line()
        self._poll = select.epoll()
        self._callers = Callers(listener, self._poll, uids, self._end_large)
        if lifeline_fd >= 0:
            self._poll.register(lifeline_fd, select.EPOLLIN | select.EPOLLHUP)
        self.stopping = False

    def watch(self, descriptor: int) -> None:
        """A descriptor whose becoming readable only ends the waiting (signals)."""
        self._poll.register(descriptor, select.EPOLLIN | select.EPOLLET)

    def run(self) -> None:
        """Serves until `stopping` is set (by a signal handler) or the lifeline ends; finishes what it has begun."""
        while not self.stopping:
            self.turn()
        self._take_leave()
        self._copies.finish()
        self._callers.drop_all()

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
                batch += self._callers.accept()
            elif descriptor == self._lifeline_fd:
                self.stopping = True
            elif descriptor in self._copies:
                self._end_copy(descriptor)
            elif caller := self._callers.get(descriptor):
                if event & select.EPOLLOUT:
                    self._callers.flush(caller)
                if event & ~select.EPOLLOUT:
                    batch += self._callers.read(caller)
        if not batch and not self._line.joining:
            return bool(events)
        self._queue_batch(batch)
        return True

    # ── what goes into the queue together ───────────────────────────────────────────────────────────────────

    def _queue_batch(self, batch: "list[Package]") -> None:
        """Queues the small ones, and with the last of them what may join; then sees to the other large ones."""
        small, foreign = self._sorted(batch)
        parts = [small[start : start + BATCH_MAX] for start in range(0, len(small), BATCH_MAX)] or [[]]
        parts[-1] += [(large.caller, large.request) for large in self._line.next_commit()]
        for part in parts:
            self._commit(part)
        for large in foreign:
            self._start_copy(large, large.caller.uid)
        self._start_waiting()

    def _sorted(self, batch: "list[Package]") -> "tuple[list[tuple[Caller, Request]], list[Large]]":
        """The small messages, and the large ones of strangers; those of our own accounts now stand in line."""
        small: list[tuple[Caller, Request]] = []
        foreign: list[Large] = []
        for caller, request, large in batch:
            if caller.large is not None or caller.is_gone:  # both programs of ours use a connection for each
                if large is not None:
                    self._callers.close(large.descriptor, caller.uid)
                self._must_come_alone(caller)
            elif large is None:
                small.append((caller, request))
            else:
                caller.large = large
                self._callers.listen(caller)
                if caller.uid in self._callers.trusted:
                    self._line.add(large, self._callers.trusted)
                else:
                    foreign.append(large)
        return small, foreign

    def _must_come_alone(self, caller: Caller) -> None:
        if not caller.is_gone:
            self._callers.drop(caller, "a large message must come alone")

    def _commit(self, part: "list[tuple[Caller, Request]]") -> None:
        requests = [request for _, request in part]
        self._enqueuer.enqueue(requests)
        if any(request.number for request in requests):  # else there is nothing new to look for
            trigger.pull(self._queue)
        for caller, request in part:
            caller.out += _answer(request)
            if caller.large is not None and caller.large.request is request:
                self._end_large(caller)
        for caller in {id(caller): caller for caller, _ in part}.values():
            self._callers.flush(caller)

    # ── large messages ──────────────────────────────────────────────────────────────────────────────────────

    def _start_waiting(self) -> None:
        """As many of our own accounts' copies as there is room for; the others wait."""
        while self._line.copying and self._copies.has_room(OURS):
            self._start_copy(self._line.copying.pop(0), OURS)

    def _start_copy(self, large: Large, account: int) -> None:
        """Gives a large message to a child, and its connection until the child ends."""
        caller = large.caller
        if caller.is_gone:
            return
        if caller.out:
            self._must_come_alone(caller)
            return
        try:
            if not self._copies.has_room(account):
                raise BlockingIOError
            others = self._of_others(caller)
            pidfd = self._copies.start(account, caller.socket, others, lambda: self._copy(large.request))
        except OSError:
            caller.out += encode(queue_exit.report_for_exit(queue_exit.SERVER_REJECTED_FOR_NOW).encode())
            self._end_large(caller)
            self._callers.flush(caller)
            return
        self._let_go(large)
        self._poll.register(pidfd, select.EPOLLIN)
        self._copying[pidfd] = caller

    def _end_large(self, caller: Caller) -> None:
        """The caller's large message is done with, or given up."""
        if caller.large is not None:
            self._line.forget(caller.large)
            self._let_go(caller.large)
            caller.large = None

    def _let_go(self, large: Large) -> None:
        if large.descriptor >= 0:
            self._callers.close(large.descriptor, large.caller.uid)
            large.descriptor = -1

    def _of_others(self, caller: Caller) -> list[int]:
        """What the child has no business with."""
        return [
            self._poll.fileno(),
            self._listener.fileno(),
            *[number for number in self._callers.descriptors() if number != caller.socket.fileno()],
            *self._line.descriptors(),
            *([self._lifeline_fd] * (self._lifeline_fd >= 0)),
        ]

    def _copy(self, request: "Request") -> bytes:
        """In the child: the ordinary steps, for one message."""
        Enqueuer(self._disk, self._clock, os.getpid(), sum_up_apart).enqueue([request])
        if request.number:
            trigger.pull(self._queue)
        return _answer(request)

    def _end_copy(self, pidfd: int) -> None:
        self._poll.unregister(pidfd)
        caller = self._copying.pop(pidfd)
        answered = self._copies.end(pidfd)
        self._end_large(caller)
        if answered:
            self._callers.flush(caller)  # and listens again
        else:
            self._callers.drop(caller)
        self._start_waiting()


def _answer(request: "Request") -> bytes:
    if request.exit_code == queue_exit.ACCEPTED:
        return encode(b"Kok qp %d" % request.pid)
    return encode(queue_exit.report_for_exit(request.exit_code).encode())
