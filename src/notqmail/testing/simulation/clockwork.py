"""Simulated time: a steady clock, a wall clock that may jump, what happens when, and the journal of what happened.

Everything in a simulation takes its turn here, in the order of time and, at the same microsecond, of asking. So one
seed always gives one history, and `digest` says so in one number.
"""

import collections
import heapq
import zlib

from notqmail.unix.clock import Clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SECOND_US = 1_000_000
EPOCH_S = 1_700_000_000
_JOURNAL_LINES = 5_000


class Violation(Exception):
    """A rule is broken: `rule` is its name, str() says how."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Clockwork(Clock):
    """The machine's two clocks and the agenda of the simulation."""

    __slots__ = ("_agenda", "_count", "digest", "events", "journal", "now_steady_us", "offset_us")

    def __init__(self) -> None:
        self.now_steady_us = 0
        self.offset_us = EPOCH_S * SECOND_US
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self.events = 0
        self.journal: collections.deque[str] = collections.deque(maxlen=_JOURNAL_LINES)
        self.digest = 0

    # ── the Clock that programs see ─────────────────────────────────────────────────────────────────────

    def now_s(self) -> int:
        """The wall clock."""
        return (self.now_steady_us + self.offset_us) // SECOND_US

    def now_us(self) -> int:
        """The wall clock, finer."""
        return self.now_steady_us + self.offset_us

    def steady_s(self) -> float:
        """Since the simulation began."""
        return self.now_steady_us / SECOND_US

    def jump(self, seconds: int) -> None:
        """Somebody sets the wall clock."""
        self.offset_us += seconds * SECOND_US

    # ── the agenda ──────────────────────────────────────────────────────────────────────────────────────

    def after(self, seconds: float, action: "Callable[[], None]") -> None:
        """`action` happens so many seconds from now, whatever the wall clock does."""
        self._count += 1
        heapq.heappush(self._agenda, (self.now_steady_us + max(0, int(seconds * SECOND_US)), self._count, action))

    def step(self, until_us: int) -> bool:
        """The next thing that happens, if it does by then; False: nothing, and it is `until_us` now."""
        if not self._agenda or self._agenda[0][0] > until_us:
            self.now_steady_us = max(self.now_steady_us, until_us)
            return False
        when_us, _, action = heapq.heappop(self._agenda)
        self.now_steady_us = max(self.now_steady_us, when_us)
        self.events += 1
        action()
        return True

    def pass_us(self, microseconds: int) -> None:
        """Lets time pass, with all that happens in it."""
        until_us = self.now_steady_us + microseconds
        while self.step(until_us):
            pass

    # ── the journal ─────────────────────────────────────────────────────────────────────────────────────

    def note(self, text: str) -> None:
        """One line of history; the last ones are shown with a violation."""
        line = f"{self.now_steady_us / SECOND_US:13.3f} {text}"
        self.digest = zlib.crc32(line.encode(), self.digest)
        self.journal.append(line)
