"""The rules that hold while qmail-send runs: its schedule, its slots, its rest.

It watches from outside: commands to the spawners, reports from them, new messages in the log, and how long qmail-send
wants to sleep. From the man page alone it computes when each message is due, and complains of a try that comes too
early, of sleeping while something is due and a slot is free, of new mail that is overlooked, of too many deliveries
at once, and of turns that bring nothing.
"""

import heapq
import math

from notqmail.testing.simulation.clockwork import Clockwork, Violation
from notqmail.wire.reports import PERMANENT, SUCCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.wire.reports import Report

_SKIP = {b"local": 10, b"remote": 20}
SLACK_S = 2  # after what is due, with a free slot
LOOK_S = 3.0  # from the trigger to "new msg"
TROUBLE_EXCUSES_S = 1_800.0  # after trouble with the disk things may be late: until the next look into todo
IDLE_TURNS = ((1.0, 300), (60.0, 400))  # in so many seconds, at most so many turns that bring nothing


class Pass:
    """One message on one channel, as far as it is known from outside."""

    __slots__ = ("attempted", "began_s", "due_s", "era", "in_flight", "to_do")

    def __init__(self, to_do: set[bytes], due_s: int) -> None:
        self.to_do, self.due_s = to_do, due_s
        self.in_flight: set[bytes] = set()
        self.attempted: set[bytes] = set()
        self.began_s: int | None = None
        self.era = -1


class Watch:
    """`limits`: slots of each channel. An era ends with whatever allows earlier tries: a start, ALRM, disk trouble, a
    clock set back.
    """

    def __init__(self, clock: Clockwork, limits: dict[bytes, int], lifetime_s: int) -> None:
        self._clock, self._limits, self._lifetime_s = clock, limits, lifetime_s
        self._births: dict[int, int] = {}
        self._passes: dict[tuple[int, bytes], Pass] = {}
        self._due: dict[bytes, list[tuple[int, int]]] = {channel: [] for channel in limits}
        self._expected: dict[int, float] = {}  # accepted, not looked at: until when (steady)
        self._era = 0
        self._excused_until_s = 0.0
        self._idle = [[0.0, 0.0] for _ in IDLE_TURNS]  # begin of the window, turns in it
        self.progress = 0
        self.doubts = False  # whether `look_again` is wanted
        self._seen_progress = 0

    # ── what may happen ─────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """qmail-send starts: all is forgotten; `waits` and `expect` say what is on the disk."""
        self._era += 1
        self._passes.clear()
        self._expected.clear()
        for heap in self._due.values():
            heap.clear()

    def waits(self, pid: int, channel: bytes, addresses: list[bytes], *, due_s: int, birth_s: int) -> None:
        """Found by a start."""
        self._births[pid] = birth_s
        self._put(pid, channel, Pass(set(addresses), due_s))

    def new_message(self, pid: int, routes: dict[bytes, list[bytes]]) -> None:
        """qmail-send has read it from todo: due now."""
        self.progress += 1
        self._expected.pop(pid, None)
        self._births[pid] = now_s = self._clock.now_s()
        for channel, addresses in routes.items():
            self._put(pid, channel, Pass(set(addresses), now_s))

    def ended(self, pid: int) -> None:
        """qmail-send has logged its end; whether rightly so is the audit's question."""
        for channel in self._limits:
            self._passes.pop((pid, channel), None)

    def expect(self, pid: int, within_s: float) -> None:
        """It is in todo: qmail-send must look at it within these seconds."""
        self._expected[pid] = self._clock.steady_s() + within_s

    def alarm(self) -> None:
        """ALRM: everything is due now."""
        self._era += 1
        for (pid, channel), one in self._passes.items():
            one.due_s = 0
            heapq.heappush(self._due[channel], (0, pid))

    def trouble(self) -> None:
        """The disk failed somebody."""
        self._era += 1
        self.doubts = True
        self._excused_until_s = self._clock.steady_s() + TROUBLE_EXCUSES_S

    def look_again(self, found: dict[tuple[int, bytes], set[bytes]]) -> None:
        """After trouble: who is still to be tried according to the files."""
        self.doubts = False
        for (pid, channel), addresses in found.items():
            one = self._passes.get((pid, channel))
            if one is None or one.began_s is None or one.to_do == addresses:
                continue
            one.to_do = addresses
            if not one.in_flight:
                self._end_pass(pid, channel, one)

    def clock_set_back(self, seconds: int) -> None:
        """What waits for a time of the wall clock waits that much longer; what is announced does not.

        What was due by the old time may be open already and waiting for a slot: it is tried before its new time.
        """
        self._era += 1
        if self._clock.steady_s() < self._excused_until_s:
            self._excused_until_s += seconds
        for pid, until_s in self._expected.items():
            if until_s > self._clock.steady_s() + LOOK_S:
                self._expected[pid] = until_s + seconds

    def _put(self, pid: int, channel: bytes, one: Pass) -> None:
        self._passes[pid, channel] = one
        heapq.heappush(self._due[channel], (one.due_s, pid))

    # ── deliveries ──────────────────────────────────────────────────────────────────────────────────────

    def attempt(self, pid: int, channel: bytes, address: bytes, in_flight: int) -> None:
        """A command to a spawner, which now has so many under way. Raises Violation."""
        self.progress += 1
        if in_flight > self._limits[channel]:
            raise Violation(
                "concurrency", f"{in_flight} {channel.decode()} deliveries, {self._limits[channel]} allowed"
            )
        one = self._passes.get((pid, channel))
        if one is None or address not in one.to_do:
            if self._clock.steady_s() < self._excused_until_s:
                return
            raise Violation("only who waits is tried", f"{pid} to {address.decode()} is finished")
        now_s = self._clock.now_s()
        if one.began_s is None or address in one.attempted:
            if one.era == self._era and one.began_s is not None:
                self._check_schedule(pid, channel, one, now_s)
            one.began_s, one.era, one.attempted = now_s, self._era, set()
        one.attempted.add(address)
        one.in_flight.add(address)

    def _check_schedule(self, pid: int, channel: bytes, one: Pass, now_s: int) -> None:
        assert one.began_s is not None
        due_s = self._next(pid, channel, one.began_s - 1)  # the command may have been on its way for a turn
        if now_s < due_s:
            raise Violation("never before its time", f"{pid} {channel.decode()} {due_s - now_s} s before it is due")

    def _next(self, pid: int, channel: bytes, began_s: int) -> int:
        """qmail-send(8): the square of one more step than its age had."""
        birth_s = self._births[pid]
        return birth_s + (math.isqrt(max(0, began_s - birth_s)) + _SKIP[channel]) ** 2

    def reported(self, pid: int, channel: bytes, address: bytes, report: "Report | None") -> None:
        """qmail-send has read this report."""
        self.progress += 1
        one = self._passes.get((pid, channel))
        if one is None or one.began_s is None:
            return
        one.in_flight.discard(address)
        dying = one.began_s > self._births[pid] + self._lifetime_s
        if report is not None and (report.kind in (SUCCESS, PERMANENT) or dying):
            one.to_do.discard(address)
        if one.in_flight:
            return
        if one.to_do:
            self._end_pass(pid, channel, one)

    def _end_pass(self, pid: int, channel: bytes, one: Pass) -> None:
        assert one.began_s is not None
        all_tried = one.to_do <= one.attempted
        one.due_s = self._next(pid, channel, one.began_s) if all_tried else self._clock.now_s()
        heapq.heappush(self._due[channel], (one.due_s, pid))

    # ── rest ────────────────────────────────────────────────────────────────────────────────────────────

    def turn(self, timeout_s: float, free: list[bytes]) -> None:
        """qmail-send waits for so long; these channels have a free slot. Raises Violation."""
        steady_s = self._clock.steady_s()
        if self._seen_progress == self.progress:
            self._count_idle_turn(steady_s)
        self._seen_progress = self.progress
        if timeout_s <= 0 or steady_s < self._excused_until_s:
            return
        late = next(iter(self._expected.items()), None)
        if late is not None and late[1] < steady_s:
            raise Violation("new mail is not overlooked", f"{late[0]} since {steady_s - late[1]:.3f} s")
        for channel in free:
            self._check_punctual(channel, timeout_s)

    def _count_idle_turn(self, steady_s: float) -> None:
        for (length_s, limit), window in zip(IDLE_TURNS, self._idle, strict=True):
            if steady_s - window[0] >= length_s:
                window[:] = [steady_s, 0]
            window[1] += 1
            if window[1] > limit:
                raise Violation("no busy loop", f"{limit} turns in {length_s:.0f} s brought nothing")

    def _check_punctual(self, channel: bytes, timeout_s: float) -> None:
        heap = self._due[channel]
        while heap:
            due_s, pid = heap[0]
            one = self._passes.get((pid, channel))
            if one is not None and one.due_s == due_s and one.to_do and not one.in_flight:
                break
            heapq.heappop(heap)
        else:
            return
        wait_s = due_s - self._clock.now_s()
        if wait_s + SLACK_S <= 0:
            raise Violation("nothing due waits", f"{pid} {channel.decode()} since {-wait_s} s")
        if timeout_s > max(0, wait_s) + SLACK_S:
            raise Violation("no sleep beyond what is due", f"{timeout_s:.0f} s, {pid} is due in {wait_s} s")
