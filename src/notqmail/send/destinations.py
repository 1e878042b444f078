"""Whose turn it is: recipients that wait for a slot, by the host they are at, in a fair order.

A destination is a host (on the local channel there is one for all). Each may hold so many slots at a time: few at
first, one more whenever it answers, half as many whenever it does not take anything (a refused connection, a
time-out, a 4yz to everybody). So a dead host holds one slot and not all of them, and a live one never waits for it.
Destinations with work and room take turns, a batch each; so among the messages that are open one that is new waits for
one batch of each before it.

How many recipients go together adapts as well: after a command for several that delivered to nobody they go alone, for
one of them may have made the server hang up on all; with every success twice as many again.
"""

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.send.jobs import Job

FIRST_LIMIT = 5
_TROUBLED_MAX = 10_000  # destinations remembered although nothing waits for them: those with trouble
_BATCH_WORTH_REMEMBERING = 100
UNLIMITED = 1 << 30


class Batch:
    """Recipients of one job that go out in one command: (offset of the record, address) each, all at one host."""

    __slots__ = ("destination", "job", "recipients")

    def __init__(self, destination: "Destination", job: "Job", recipients: list[tuple[int, bytes]]) -> None:
        self.destination, self.job, self.recipients = destination, job, recipients


class Destination:
    """A host and what waits for it."""

    __slots__ = ("batch_limit", "has_turn", "host", "in_use", "limit", "waiting")

    def __init__(self, host: bytes, limit: int) -> None:
        self.host, self.limit, self.in_use = host, limit, 0
        self.batch_limit = UNLIMITED
        self.waiting: deque[Batch] = deque()
        self.has_turn = False  # it is in the ring

    @property
    def may_start(self) -> bool:
        """Whether there is work, and room for it."""
        return bool(self.waiting) and self.in_use < self.limit


class Destinations:
    """All of a channel. `limit_max`: so many slots at most for one; UNLIMITED turns limits off."""

    def __init__(self, limit_max: int = UNLIMITED) -> None:
        self._limit_max = limit_max
        self._first_limit = limit_max if limit_max == UNLIMITED else min(FIRST_LIMIT, limit_max)
        self._known: dict[bytes, Destination] = {}
        self._ring: deque[Destination] = deque()
        self.waiting = 0  # batches

    @property
    def is_ready(self) -> bool:
        """Whether `next` has a batch."""
        return bool(self._ring)

    def add(self, job: "Job", host: bytes, recipients: list[tuple[int, bytes]]) -> None:
        """A batch waits from now on."""
        destination = self._known.get(host)
        if destination is None:
            destination = self._known[host] = Destination(host, self._first_limit)
        destination.waiting.append(Batch(destination, job, recipients))
        self.waiting += 1
        self._give_turn(destination)

    def batch_limit(self, host: bytes) -> int:
        """How many recipients may go to this host together."""
        destination = self._known.get(host)
        return UNLIMITED if destination is None else destination.batch_limit

    def next(self, *, beyond_limits: bool = False) -> Batch | None:
        """The next batch to start, which is from now on; None while nobody with work has room.

        `beyond_limits`: somebody with work but without room will do as well.
        """
        if self._ring:
            destination = self._ring.popleft()
            destination.has_turn = False
        else:
            waiting = (one for one in self._known.values() if one.waiting) if beyond_limits else iter(())
            found = next(waiting, None)
            if found is None:
                return None
            destination = found
        batch = destination.waiting.popleft()
        destination.in_use += 1
        self.waiting -= 1
        self._give_turn(destination)
        return batch

    def ended(self, destination: Destination, *, answered: bool, delivered: bool, several: bool) -> None:
        """A batch of it has ended; `answered`: with success or refusal for somebody at least, `delivered`: with success
        for somebody; `several`: it had more than one recipient.
        """
        destination.in_use -= 1
        if delivered:
            destination.batch_limit = min(destination.batch_limit * 2, UNLIMITED)
        elif several:
            destination.batch_limit = 1
        if answered:
            destination.limit = min(destination.limit + 1, self._limit_max)
        elif self._limit_max != UNLIMITED:
            destination.limit = max(destination.limit // 2, 1)
        self._give_turn(destination)
        if not destination.waiting and not destination.in_use:
            self._forget(destination)

    def _give_turn(self, destination: Destination) -> None:
        if destination.may_start and not destination.has_turn:
            destination.has_turn = True
            self._ring.append(destination)

    def _forget(self, destination: Destination) -> None:
        """One in trouble is remembered, newest last; the oldest of too many is not."""
        del self._known[destination.host]
        if destination.limit < self._first_limit or destination.batch_limit < _BATCH_WORTH_REMEMBERING:
            self._known[destination.host] = destination
            if len(self._known) > _TROUBLED_MAX:
                oldest = next(iter(self._known.values()))
                if not oldest.waiting and not oldest.in_use:
                    del self._known[oldest.host]
