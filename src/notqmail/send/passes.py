"""The passes of a channel: which messages are due, and which of their recipients wait for a slot.

A message is in at most one pass of a channel. Its recipients are looked at in order, a window at a time, and put into
batches: those at one host together where the spawner takes several (not for a sender that is expanded for each of
them). Then send/destinations.py has the say. So that nobody waits for a host that takes nothing, messages are opened
ahead: some always, many when nobody that waits has room.
"""

import heapq

from notqmail.message.verp import asks_for_expansion
from notqmail.send.destinations import UNLIMITED, Batch, Destinations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from notqmail.send.jobs import Job

BATCH_BYTES_MAX = 8_192  # of addresses in one command: a pipe takes it in one piece
WINDOW = 10_000  # recipients looked at together: what a message for a million holds in memory is bounded
ALONE_WINDOW = 200  # the same where each is a batch of its own
JOBS_AHEAD = 100  # with so many messages opened whose recipients wait, no further one is opened without need
PARKED_MAX = 100_000  # batches that may wait for hosts without room; beyond it free slots are given to those, too


class Passes:
    """What is due on one channel, and whose turn it is.

    `batch_max`: how many recipients one command may have. `host_limit`: slots for one host; UNLIMITED (the local
    channel): recipients are taken strictly in order. `open_job(number, now_s)` begins a pass, or arranges for another
    time and returns None; `looked(job, now_s)` hears of each window that was read.
    """

    def __init__(
        self, open_job: "Callable[[int, int], Job | None]", looked: "Callable[[Job, int], None]", *,
        batch_max: int = 1, host_limit: int = UNLIMITED,
    ) -> None:  # fmt: skip
        self._open_job, self._looked = open_job, looked
        self._batch_max, self._by_host = batch_max, host_limit != UNLIMITED
        self._jobs_ahead = JOBS_AHEAD if self._by_host else 1
        self.destinations = Destinations(host_limit)
        self.heap: list[tuple[int, int]] = []  # (due, message number)
        self._partly: list[Job] = []  # their next window is still to be read
        self._jobs_waiting = 0  # jobs with a recipient that waits

    def schedule(self, due_s: int, number: int) -> None:
        """This message is due then."""
        heapq.heappush(self.heap, (due_s, number))

    def make_all_due(self) -> None:
        """Every message is due now."""
        self.heap = sorted((0, number) for _, number in self.heap)

    def next_due_s(self) -> int | None:
        """When to ask again although no slot has become free; None: not before one has."""
        return self.heap[0][0] if self.heap and self._may_open else None

    @property
    def has_work(self) -> bool:
        """Whether anything waits, due or not."""
        return bool(self.heap) or self.destinations.is_ready

    def next_batch(self, now_s: int) -> Batch | None:
        """What to start next; None while nothing is due or no host has room."""
        self._open_more(now_s)
        batch = self.destinations.next(beyond_limits=self.destinations.waiting >= PARKED_MAX)
        if batch is not None:
            batch.job.waiting -= len(batch.recipients)
            if not batch.job.waiting:
                self._jobs_waiting -= 1
        return batch

    @property
    def _may_open(self) -> bool:
        if self.destinations.is_ready and self._jobs_waiting >= self._jobs_ahead:
            return False
        return self.destinations.waiting < PARKED_MAX

    def _open_more(self, now_s: int) -> None:
        while self._may_open:
            partly = self._next_partly()
            if partly is not None:
                self._partly.remove(partly)
                self._read_window(partly, now_s)
            elif self.heap and self.heap[0][0] <= now_s:
                job = self._open_job(heapq.heappop(self.heap)[1], now_s)
                if job is not None:
                    self._read_window(job, now_s)
            else:
                return

    def _next_partly(self) -> "Job | None":
        """Who has started all of its last window goes on before another message begins; in need, who has not, too."""
        if not self._partly:
            return None
        ready = next((job for job in self._partly if not job.waiting), None)
        return self._partly[0] if ready is None and not self.destinations.is_ready else ready

    def _read_window(self, job: "Job", now_s: int) -> None:
        had_waiting = job.waiting > 0
        for host, recipients in self._batches(job):
            self.destinations.add(job, host, recipients)
        if job.waiting and not had_waiting:
            self._jobs_waiting += 1
        if not job.is_at_end:
            self._partly.append(job)
        self._looked(job, now_s)

    def _batches(self, job: "Job") -> "Iterable[tuple[bytes, list[tuple[int, bytes]]]]":
        """(host, recipients) for the next window."""
        if not self._by_host:
            return [(b"", [recipient]) for recipient in job.next_window(WINDOW)]
        alone = job.goes_alone or asks_for_expansion(job.sender)
        found: list[tuple[bytes, list[tuple[int, bytes]]]] = []
        filling: dict[bytes, tuple[list[tuple[int, bytes]], int]] = {}  # host: its unfinished batch, bytes in it
        for recipient in job.next_window(ALONE_WINDOW if alone else WINDOW):
            host = recipient[1].rpartition(b"@")[2].lower()
            batch, size = filling.get(host, ([], 0))
            size += len(recipient[1]) + 1
            batch_max = 1 if alone else min(self._batch_max, self.destinations.batch_limit(host))
            if not batch or len(batch) >= batch_max or size > BATCH_BYTES_MAX:
                batch, size = [], len(recipient[1]) + 1
                found.append((host, batch))
            batch.append(recipient)
            filling[host] = batch, size
        return found
