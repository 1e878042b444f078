"""The time of day, as an argument: what reads the clock takes a `Clock`, a test gives its own."""

import time


class Clock:
    """The machine's clocks. `now_s` is the wall clock, `steady_s` never jumps and is for measuring spans."""

    __slots__ = ()

    def now_s(self) -> int:
        """Whole seconds since 1970, UTC (leap seconds are not counted, POSIX)."""
        return int(time.time())

    def now_us(self) -> int:
        """Microseconds since 1970, UTC: for names that must not repeat, never for arithmetic on the schedule."""
        return time.time_ns() // 1000

    def steady_s(self) -> float:
        """Seconds on a clock that only goes forward."""
        return time.monotonic()
