"""Two processes keep one journal of the ledger, as a resident qmail-queue and one run for a message do."""

import threading
from collections.abc import Callable

import pytest

from notqmail.queue import ledger
from notqmail.queue.ledger import ACCEPTED, Journal, encode_group, journal_lines
from notqmail.testing.fake_disk import FakeDisk, FakeSharedFile


class SharedDisk(FakeDisk):
    """At this process's step number `meet_at` a second one comes in. It runs to its end, or until it wants a lock: then
    the first one goes on, and once it has given up its own lock it lets the second one end first.
    """

    def __init__(self) -> None:
        super().__init__()
        self._first, self._second = threading.get_ident(), threading.Thread()
        self._steps_left = 0
        self._wants_lock = threading.Event()
        self.lock = threading.Lock()

    def meet(self, other: Callable[[], None], meet_at: int) -> None:
        """Calls `other` before step `meet_at` from now."""
        self._second = threading.Thread(target=other, daemon=True)
        self._steps_left = meet_at

    def have_met(self) -> bool:
        """Whether the second one has come in; it has ended then."""
        if self._second.ident is None:
            return False
        self._second.join(30)
        assert not self._second.is_alive()
        return True

    def _effect(self) -> None:
        if threading.get_ident() == self._first:
            self._steps_left -= 1
            if self._steps_left == 0:
                self._second.start()
                while self._second.is_alive() and not self._wants_lock.is_set():
                    self._second.join(0.001)
        super()._effect()

    def append(self, path: bytes, data: bytes, mode: int = 0o600) -> None:
        """As Disk.append: it is no matter if the other one makes the file first."""
        try:
            super().append(path, data, mode)
        except FileExistsError:
            super().append(path, data, mode)

    def open_shared(self, path: bytes, mode: int = 0o600) -> FakeSharedFile:
        """A file under a lock: there is but one."""
        is_new = path not in self._entries
        if is_new:
            self.create(path, (), mode)
        return LockedFile(self, path, is_new=is_new)

    def is_first(self) -> bool:
        """Who asks."""
        return threading.get_ident() == self._first

    def before_waiting(self) -> None:
        """The second one may have to wait now."""
        self._wants_lock.set()

    def after_unlocking(self) -> None:
        """The first one waits for the second, if that waits for the lock."""
        if self._wants_lock.is_set():
            self._second.join(30)

    def file_of(self, path: bytes) -> object:
        """The file that has this name now."""
        return self._entries.get(path)


class LockedFile(FakeSharedFile):
    """As unix.durable.SharedFile, where there is somebody else."""

    def __init__(self, disk: SharedDisk, path: bytes, *, is_new: bool) -> None:
        super().__init__(disk, path, is_new=is_new)
        self._shared, self._name, self._file = disk, path, disk.file_of(path)

    def lock(self) -> None:
        if not self._shared.is_first():
            self._shared.before_waiting()
        self._shared.lock.acquire()

    def has_its_name(self) -> bool:
        return self._shared.file_of(self._name) is self._file

    def close(self) -> None:
        self._shared.lock.release()
        if self._shared.is_first():
            self._shared.after_unlocking()


@pytest.mark.parametrize("grown", [0, 1, 20])
def test_two_writers_that_put_one_journal_aside_at_once_lose_no_line(
    grown: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "JOURNAL_MAX", 40)
    meetings = 0
    for step in range(1, 20):
        disk = SharedDisk()
        old = [b"+ 5 %d 1" % qp for qp in range(10, 14 + grown)]
        disk.create(ACCEPTED + b"/current", [encode_group(old)])
        one, other = (Journal(disk, ACCEPTED, lambda *_: None) for _ in range(2))
        one.note(b"+ 7 1 1")
        other.note(b"+ 6 2 1")
        disk.meet(other.flush, step)
        one.flush()
        want = [*old, b"+ 7 1 1"]
        if disk.have_met():
            meetings += 1
            want.append(b"+ 6 2 1")
        assert sorted(line for line in journal_lines(disk, ACCEPTED) if line[:1] == b"+") == sorted(want), step
    assert meetings >= 4, "one step for each of link, sync, discard, append"
