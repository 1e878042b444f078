"""A channel: one spawner, its delivery slots, what is on the way to it and what it reports."""

import heapq
import os
from collections import deque

from notqmail.message.verp import expand_sender
from notqmail.queue.layout import SPLIT
from notqmail.send.destinations import UNLIMITED
from notqmail.wire.reports import PERMANENT, SUCCESS, Report
from notqmail.wire.spawn_link import Delivery, ReportReader
from notqmail.wire.wide_link import WideReportReader, encode_command, slot_and_index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.send.destinations import Destination
    from notqmail.send.jobs import Job
    from notqmail.wire.wide_link import Terms

SLOW_S = 3
_REPORT_BYTES = 65_536
_UNSENT_MAX = 65_536  # commands wait here no further: then deliveries start no more until the spawner reads


class SpawnerLost(Exception):
    """The spawner's pipe ended: it is dead."""


class Attempt:
    """A delivery that is under way: which recipient of which job, and its number in the log. `freed`: its report has
    come, and set this slot free.
    """

    __slots__ = ("address", "freed", "job", "number", "offset")

    def __init__(self, number: int, job: "Job", offset: int, address: bytes) -> None:
        self.number, self.job, self.offset, self.address = number, job, offset, address
        self.freed: Slot | None = None


class Slot:
    """A slot in use: the deliveries of one command, those that have no report yet."""

    __slots__ = ("answered", "attempts", "began_s", "delivered", "destination", "is_slow", "is_taken")

    def __init__(self, attempts: "list[Attempt]", destination: "Destination | None", began_s: int) -> None:
        self.attempts: list[Attempt | None] = [*attempts]
        self.destination, self.began_s = destination, began_s
        self.is_taken = True
        self.is_slow = False
        self.answered = False  # with success or refusal for somebody
        self.delivered = False  # with success for somebody


class Channel:
    """LOCAL or REMOTE. `concurrency` slots; the lowest free one is taken, as in C.

    `terms` of a wide link, or None; `host_limit`: so many slots at most for one host (send.destinations). Up to
    `slow_max` deliveries that have been under way for SLOW_S do not count: who waits for a host that is dead, or
    answers a byte a second, takes nobody's place.
    """

    def __init__(
        self, name: bytes, concurrency: int, commands_fd: int, reports_fd: int, *, terms: "Terms | None" = None,
        host_limit: int = UNLIMITED, slow_max: int = 0,
    ) -> None:  # fmt: skip
        self._slow_max, self._slow = slow_max, 0
        self._young: deque[Slot] = deque()  # not slow yet, in the order of their beginning; some may have ended
        self.name, self.concurrency, self.host_limit = name, concurrency, host_limit
        self.commands_fd, self.reports_fd = commands_fd, reports_fd
        self.batch_max = terms.recipients if terms is not None else 1
        self._is_wide = terms is not None
        self._reader = WideReportReader() if self._is_wide else ReportReader()
        self.alive = True
        self.slots: dict[int, Slot] = {}
        self._free = list(range(concurrency + slow_max))  # a heap
        self._untold = self._untold_slow = 0  # slots that have become free, which the log does not say yet
        self.unsent = b""

    @property
    def in_use(self) -> int:
        """Slots in which something is under way."""
        return len(self.slots)

    @property
    def may_start(self) -> bool:
        """Whether another command can go out now."""
        ceiling = self.concurrency + min(self._slow, self._slow_max)
        return self.alive and len(self.slots) < ceiling and len(self.unsent) < _UNSENT_MAX

    def status(self) -> tuple[int, int]:
        """For the log: slots in use, with those whose end is not told yet, and how many may be in use now, which is
        `concurrency` and the slow ones that do not count.
        """
        slow = min(self._slow + self._untold_slow, self._slow_max)
        return len(self.slots) + self._untold, self.concurrency + slow

    def told(self, attempt: Attempt) -> None:
        """The log says from now on that this delivery has ended."""
        if attempt.freed is not None:
            self._untold -= 1
            self._untold_slow -= attempt.freed.is_slow

    def look_at_age(self, now_s: int) -> None:
        """Deliveries that have been under way for SLOW_S are slow from now on."""
        while self._young and (not self._young[0].is_taken or self._young[0].began_s + SLOW_S <= now_s):
            slot = self._young.popleft()
            if slot.is_taken:
                slot.is_slow = True
                self._slow += 1

    def next_slow_s(self) -> int | None:
        """When another one will be slow, so that a full channel has room again; None when that makes none."""
        young = next((slot for slot in self._young if slot.is_taken), None)
        return None if young is None or self._slow >= self._slow_max else young.began_s + SLOW_S

    def start(self, attempts: list[Attempt], destination: "Destination | None" = None, now_s: int = 0) -> None:
        """Gives the spawner a command for recipients of one job (sent by `push`)."""
        slot = heapq.heappop(self._free)
        self.slots[slot] = Slot(attempts, destination, now_s)
        if self._slow_max:
            self._young.append(self.slots[slot])
        job = attempts[0].job
        sender = expand_sender(job.sender, attempts[0].address)
        path = b"%d/%d" % (job.number % SPLIT, job.number)
        command = Delivery(slot, path, sender, *[attempt.address for attempt in attempts])
        self.unsent += encode_command(command) if self._is_wide else command.encode()

    def push(self) -> None:
        """Sends what the pipe takes without waiting. Raises SpawnerLost."""
        if not self.unsent:
            return
        try:
            sent = os.write(self.commands_fd, self.unsent)
        except BlockingIOError:
            return
        except OSError as error:
            raise SpawnerLost from error
        self.unsent = self.unsent[sent:]

    def reports(self) -> list[tuple[int, Report | None]]:
        """What has come in, one read: (place, report); a place is a slot and one of its recipients (wire.wide_link).

        Raises SpawnerLost at end of file.
        """
        try:
            data = os.read(self.reports_fd, _REPORT_BYTES)
        except OSError:
            return []  # nothing there after all; what is really wrong shows as an end of file
        if not data:
            raise SpawnerLost
        return self._reader.receive(data)

    def take(self, place: int, report: Report | None = None) -> Attempt | None:
        """The delivery that this report is about, with its slot if that is free now; None when nothing was under way
        there (a spawner's mistake).
        """
        number, index = slot_and_index(place)
        slot = self.slots.get(number)
        if slot is None or index >= len(slot.attempts):
            return None
        attempt = slot.attempts[index]
        if attempt is None:
            return None
        slot.attempts[index] = None
        slot.answered = slot.answered or (report is not None and report.kind in (SUCCESS, PERMANENT))
        slot.delivered = slot.delivered or (report is not None and report.succeeded)
        if any(slot.attempts):
            return attempt
        del self.slots[number]
        slot.is_taken = False
        self._slow -= slot.is_slow
        heapq.heappush(self._free, number)
        self._untold += 1
        self._untold_slow += slot.is_slow
        attempt.freed = slot
        return attempt
