"""A channel: one spawner, its delivery slots, what is on the way to it and what it reports."""

import os

from notqmail.message.verp import expand_sender
from notqmail.queue.layout import SPLIT
from notqmail.wire.reports import Report
from notqmail.wire.spawn_link import Delivery, ReportReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.send.jobs import Job

_REPORT_BYTES = 65_536
_UNSENT_MAX = 65_536  # commands wait here no further: then deliveries start no more until the spawner reads


class SpawnerLost(Exception):
    """The spawner's pipe ended: it is dead."""


class Attempt:
    """A delivery that is under way: which recipient of which job, and its number in the log."""

    __slots__ = ("address", "job", "number", "offset")

    def __init__(self, number: int, job: "Job", offset: int, address: bytes) -> None:
        self.number, self.job, self.offset, self.address = number, job, offset, address


class Channel:
    """LOCAL or REMOTE. `concurrency` slots; the lowest free one is taken, as in C."""

    def __init__(self, name: bytes, concurrency: int, commands_fd: int, reports_fd: int) -> None:
        self.name, self.concurrency = name, concurrency
        self.commands_fd, self.reports_fd = commands_fd, reports_fd
        self.alive = True
        self.heap: list[tuple[int, int]] = []  # (due, message number)
        self.reading: Job | None = None
        self.attempts: list[Attempt | None] = [None] * concurrency
        self.in_use = 0
        self.untold = 0  # reports that have come and are not in the log yet
        self.unsent = b""
        self._reader = ReportReader()

    @property
    def may_start(self) -> bool:
        """Whether another delivery can begin now."""
        return self.alive and self.in_use < self.concurrency and len(self.unsent) < _UNSENT_MAX

    def start(self, attempt: Attempt) -> None:
        """Gives the spawner its command (sent by `push`)."""
        slot = self.attempts.index(None)
        self.attempts[slot] = attempt
        self.in_use += 1
        number, sender = attempt.job.number, expand_sender(attempt.job.sender, attempt.address)
        self.unsent += Delivery(slot, b"%d/%d" % (number % SPLIT, number), sender, attempt.address).encode()

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
        """What has come in, one read. Raises SpawnerLost at end of file."""
        try:
            data = os.read(self.reports_fd, _REPORT_BYTES)
        except OSError:
            return []  # nothing there after all; what is really wrong shows as an end of file
        if not data:
            raise SpawnerLost
        return self._reader.receive(data)

    def take(self, slot: int) -> Attempt | None:
        """Frees a slot; None when nothing was under way in it (a spawner's mistake)."""
        attempt = self.attempts[slot] if slot < self.concurrency else None
        if attempt is not None:
            self.attempts[slot] = None
            self.in_use -= 1
        return attempt
