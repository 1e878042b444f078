"""What the crash tests share: the legal states of a queue, and a clock that stands still."""

import re

from notqmail.testing.fake_disk import FakeDisk
from notqmail.unix.clock import Clock


class FixedClock(Clock):
    """Stands at `now`."""

    __slots__ = ("now",)

    def __init__(self, now: int = 1_000_000) -> None:
        self.now = now

    def now_s(self) -> int:
        return self.now

    def steady_s(self) -> float:
        return self.now


def legal_states(disk: FakeDisk) -> dict[int, str]:
    """The state of every number in the queue; asserts that each is one of S2, S3, S4, S5 (layout.py)."""
    present: dict[int, set[str]] = {}
    for path in disk.everything():
        found = re.fullmatch(rb"(mess|info|local|remote)/\d+/(\d+)|(intd|todo|bounce)/(\d+)", path)
        if found:
            kind, number = (found[1], found[2]) if found[1] else (found[3], found[4])
            present.setdefault(int(number), set()).add(kind.decode())
    states = {}
    for number, kinds in present.items():
        if "mess" in kinds and kinds <= {"mess", "local", "remote", "bounce"}:
            states[number] = "S2"
        elif {"mess", "intd"} <= kinds <= {"mess", "intd", "local", "remote", "bounce"}:
            states[number] = "S3"  # or what a cut has left of the end of C's message
        elif {"mess", "todo"} <= kinds:
            states[number] = "S4"
        elif {"mess", "info"} <= kinds and "todo" not in kinds:  # what C left in intd may be back after a cut
            states[number] = "S5"
        else:
            raise AssertionError(f"message {number} is in no legal state: {sorted(kinds)}")
    return states
