"""The large messages that wait for their turn with the queue's writer (docs/adr/0011).

Only the mail system's own accounts wait here, each connection with one message; so there are no more entries, and no
more descriptors of theirs, than connections. Strangers are refused instead (queue_copies.py).
"""

import os
import stat

from notqmail.wire.qmqp import INLINE_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.receive.enqueue import Request
    from notqmail.receive.queue_callers import Caller

JOIN_MAX = 1_048_576  # bytes of a message in a file that the writer itself copies, for an account of ours
COMMIT_FILES_MAX = 8_388_608  # bytes of such messages between two syncs: what a small message may have to wait for


class Large:
    """A message of `length` bytes in the file of `descriptor`, which is -1 once nobody here needs it."""

    __slots__ = ("caller", "descriptor", "length", "request")

    def __init__(self, caller: "Caller", request: "Request", descriptor: int, length: int) -> None:
        self.caller, self.request, self.descriptor, self.length = caller, request, descriptor, length

    def may_join(self, ours: "set[int]") -> bool:
        """Whether the writer may read it itself: it is short, and an unnamed file of an account of ours, so that
        nobody else serves it, and reading it takes no longer than a disk takes.
        """
        if self.length > JOIN_MAX:
            return False
        try:
            status = os.fstat(self.descriptor)
        except OSError:
            return False  # a file system in trouble: its child will say so
        return stat.S_ISREG(status.st_mode) and status.st_nlink == 0 and status.st_uid in ours


class Line:
    """The large messages that wait: `joining` for the next sync, `copying` for a child. First come, first served."""

    def __init__(self) -> None:
        self.joining: list[Large] = []
        self.copying: list[Large] = []

    def add(self, large: Large, ours: "set[int]") -> None:
        """It waits at the end."""
        (self.joining if large.may_join(ours) else self.copying).append(large)

    def next_commit(self) -> list[Large]:
        """Takes those that may share the next sync: the first, and more up to COMMIT_FILES_MAX bytes."""
        total = count = 0
        for large in self.joining:
            total += max(large.length, INLINE_MAX)  # a short one costs a file too
            if count and total > COMMIT_FILES_MAX:
                break
            count += 1
        taken = self.joining[:count]
        del self.joining[:count]
        return taken

    def forget(self, large: Large) -> None:
        """Its caller is gone, or its turn has come."""
        for waiting in (self.joining, self.copying):
            if large in waiting:
                waiting.remove(large)

    def descriptors(self) -> list[int]:
        """Of all that wait."""
        return [large.descriptor for waiting in (self.joining, self.copying) for large in waiting]
