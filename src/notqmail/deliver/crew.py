"""qmail-lspawn's workers, seen from outside: one for each uid that has mail, hired when needed, let go when idle.

Nothing here waits for a worker: what a socket does not take is sent when poll says that there is room. What a
worker says is believed only about slots it was given (worker_link.py).
"""

import os
import select
import socket

from notqmail.deliver import spawn, worker_link
from notqmail.deliver.lspawn_children import Settings, be_worker
from notqmail.deliver.worker_link import CRASHED, Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from notqmail.unix.clock import Clock
    from notqmail.wire.reports import Report

WORKER_IDLE_S = 60.0
LOOK_ROUND_S = 5.0  # how often idle workers are counted and dead ones buried
WORKERS_MAX = 64  # then the one that has been idle longest is let go


class Employed:
    """A worker as we see it: its socket, the slots it has, the jobs not sent yet."""

    __slots__ = ("idle_since_s", "open_slots", "pid", "queue", "sock")

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid, self.sock, self.idle_since_s = pid, sock, 0.0
        self.open_slots: set[int] = set()
        self.queue: list[tuple[Job, int]] = []


class Crew:
    """All workers. `finished` is called with slot, exit status and output; `refused` with slot and report."""

    def __init__(
        self, settings: Settings, clock: "Clock", poll: "select.poll",
        finished: "Callable[[int, int, bytes], None]", refused: "Callable[[int, Report], None]",
    ) -> None:  # fmt: skip
        self._settings, self._clock, self._poll = settings, clock, poll
        self._finished, self._refused = finished, refused
        self._workers: dict[tuple[int, int], Employed] = {}
        self._by_fd: dict[int, Employed] = {}
        self._unsent: dict[tuple[int, int], Employed] = {}
        self._leaving: list[int] = []  # let go, not yet waited for
        self._look_round_s = 0.0

    def __bool__(self) -> bool:
        """Whether there is anybody to look after."""
        return bool(self._workers or self._leaving)

    def give(self, key: tuple[int, int], job: Job, message_fd: int) -> None:
        """Queues a job for the worker of (uid, gid); `send` sends it. The descriptor is closed here, whatever comes."""
        if job.size() > worker_link.JOB_FIELD_BYTES:
            os.close(message_fd)
            self._refused(job.slot, spawn.OUT_OF_MEMORY)
            return
        employed = self._workers.get(key)
        if employed is None:
            try:
                employed = self._hire(key)
            except OSError:
                os.close(message_fd)
                self._refused(job.slot, spawn.CANNOT_FORK)
                return
        employed.queue.append((job, message_fd))
        employed.open_slots.add(job.slot)
        self._unsent[key] = employed

    def send(self) -> None:
        """Sends what waits, many jobs in a packet."""
        for key, employed in list(self._unsent.items()):
            self._send_jobs(key, employed)

    def hear(self, descriptor: int, events: int) -> None:
        """Poll found something on this descriptor; if it is no worker's any more, nothing happens."""
        employed = self._by_fd.get(descriptor)
        if employed is not None:
            self._hear_worker(employed, events)

    def look_round(self) -> None:
        """Lets idle workers go and buries the dead, every LOOK_ROUND_S."""
        now_s = self._clock.steady_s()
        if now_s < self._look_round_s:
            return
        self._look_round_s = now_s + LOOK_ROUND_S
        if self._leaving:
            self._leaving = [pid for pid in self._leaving if os.waitpid(pid, os.WNOHANG)[0] == 0]
        for employed in list(self._workers.values()):
            if not employed.open_slots and employed.idle_since_s < now_s - WORKER_IDLE_S:
                self._dismiss(employed)

    def dismiss_all(self) -> None:
        """At the end: closes their sockets and waits for them."""
        for employed in list(self._workers.values()):
            self._dismiss(employed)
        for pid in self._leaving:
            os.waitpid(pid, 0)
        self._leaving.clear()

    def _hire(self, key: tuple[int, int]) -> Employed:
        """Forks a worker. Raises OSError."""
        if len(self._workers) >= WORKERS_MAX:
            self._let_longest_idle_go()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            be_worker(theirs, key, self._settings, self._clock)
        theirs.close()
        ours.setblocking(False)
        employed = self._workers[key] = self._by_fd[ours.fileno()] = Employed(pid, ours)
        self._poll.register(ours, select.POLLIN)
        return employed

    def _send_jobs(self, key: tuple[int, int], employed: Employed) -> None:
        """Sends what its socket takes; the rest when poll says that there is room."""
        while employed.queue:
            count = _packet_size(employed.queue)
            part = employed.queue[:count]
            packet = worker_link.encode_jobs([job for job, _ in part])
            try:
                socket.send_fds(employed.sock, [packet], [message_fd for _, message_fd in part])
            except BlockingIOError:
                self._poll.modify(employed.sock, select.POLLIN | select.POLLOUT)
                return
            except (BrokenPipeError, ConnectionResetError):
                break  # it is dead: poll says so too, and there its jobs are answered
            except OSError:
                self._refuse(employed, part)  # a packet that no socket takes
            for _, message_fd in part:
                os.close(message_fd)
            del employed.queue[:count]
        del self._unsent[key]

    def _refuse(self, employed: Employed, part: "list[tuple[Job, int]]") -> None:
        for job, _ in part:
            employed.open_slots.discard(job.slot)
            self._refused(job.slot, spawn.OUT_OF_MEMORY)

    def _hear_worker(self, employed: Employed, events: int) -> None:
        if events & select.POLLOUT:
            self._poll.modify(employed.sock, select.POLLIN)
        if not events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            return
        try:
            packet = employed.sock.recv(worker_link.PACKET_MAX)
            for slot, status, output in worker_link.decode_results(packet):
                if slot in employed.open_slots:
                    employed.open_slots.remove(slot)
                    self._finished(slot, status, output)
        except BlockingIOError:
            return
        except (ConnectionResetError, worker_link.BadPacket):
            packet = b""
        if not packet:
            self._bury(employed)
        elif not employed.open_slots:
            employed.idle_since_s = self._clock.steady_s()

    def _bury(self, employed: Employed) -> None:
        """A worker that ended by itself: every job it had counts as crashed, the next gets a new worker."""
        self._dismiss(employed)
        self._leaving.remove(employed.pid)
        pid, status = os.waitpid(employed.pid, os.WNOHANG)
        if not pid:
            self._leaving.append(employed.pid)
        # A worker that ended by itself in peace had no business to, with jobs open.
        code = os.waitstatus_to_exitcode(status) if pid and os.WIFEXITED(status) else CRASHED
        for _, message_fd in employed.queue:
            os.close(message_fd)
        employed.queue.clear()
        for slot in employed.open_slots:
            self._finished(slot, code or CRASHED, b"")

    def _dismiss(self, employed: Employed) -> None:
        """Closes its socket: that ends it."""
        key = next(key for key, value in self._workers.items() if value is employed)
        del self._workers[key], self._by_fd[employed.sock.fileno()]
        self._unsent.pop(key, None)
        self._poll.unregister(employed.sock)
        employed.sock.close()
        self._leaving.append(employed.pid)

    def _let_longest_idle_go(self) -> None:
        idle = [employed for employed in self._workers.values() if not employed.open_slots]
        if idle:
            self._dismiss(min(idle, key=lambda employed: employed.idle_since_s))


def _packet_size(queue: "list[tuple[Job, int]]") -> int:
    """How many jobs from the front go into one packet: at least one."""
    size = 0
    for number, (job, _) in enumerate(queue[: worker_link.JOBS_PER_PACKET]):
        size += job.size()
        if number and size > worker_link.PACKET_FIELD_BYTES:
            return number
    return min(len(queue), worker_link.JOBS_PER_PACKET)
