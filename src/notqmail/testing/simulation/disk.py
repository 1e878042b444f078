"""One disk for all simulated processes, and the ways in which it and they fail.

`Storage` holds the FakeDisk: its power can be cut after so many effects more, it can be full (nothing new can be
written) or broken (any effect may fail). A `Process` sees it through a `View`, the interface of unix.durable.Disk,
and dies between two effects when its time has come.
"""

import errno

from notqmail.testing.fake_disk import FakeDisk, FakeSharedFile, PowerCut
from notqmail.unix.durable import WriteFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from notqmail.testing.simulation.clockwork import Clockwork
    from notqmail.unix.durable import Bytes, FileState

WHOLE, FULL, BROKEN = "whole", "full", "broken"
_BROKEN_FAILS = 0.3  # of the effects on a broken disk
_WRITE_BACK_US = 35_000_000
_NEEDS_SPACE = ("create", "append", "link", "rename")


class Killed(BaseException):
    """A process is dead. Not an Exception: no code under test may handle it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Process:
    """A name in the journal, and after how many effects more it dies (None: it lives on)."""

    __slots__ = ("dies_in", "name", "pid")

    def __init__(self, name: str, pid: int = 0) -> None:
        self.name, self.pid = name, pid
        self.dies_in: int | None = None


class Storage:
    """The disk as hardware. `on_failure(process, operation, path)` hears of every failure a process was given."""

    def __init__(self, clock: "Clockwork", chance: "random.Random") -> None:
        self.clock, self.chance = clock, chance
        self.disk = FakeDisk()
        self.condition = WHOLE
        self.power_fails_in: int | None = None
        self.writes_back = False
        self._last_effect_us = 0
        self.on_failure: Callable[[Process, str, bytes], None] = lambda process, operation, path: None
        self.between_effects: Callable[[Process], None] = lambda process: None

    def before_effect(self, process: Process, operation: str, path: bytes) -> None:
        """Power, life and luck, in this order. Raises PowerCut, Killed, WriteFailed."""
        self._write_back()
        self.disk.now_s = self.clock.now_s()
        if self.power_fails_in is not None:
            self.power_fails_in -= 1
            if self.power_fails_in < 0:
                raise PowerCut
        if process.dies_in is not None:
            process.dies_in -= 1
            if process.dies_in < 0:
                process.dies_in = None
                raise Killed(process.name)
        self.between_effects(process)
        if self.condition == WHOLE:
            return
        if self.condition == FULL:
            if operation not in _NEEDS_SPACE:
                return
            number = errno.ENOSPC
        else:
            if self.chance.random() >= _BROKEN_FAILS:
                return
            number = errno.EIO
        self.clock.note(f"disk {self.condition}: {process.name} cannot {operation} {path.decode()}")
        self.on_failure(process, operation, path)
        raise WriteFailed(number, "no space left" if number == errno.ENOSPC else "input/output error", path)

    def _write_back(self) -> None:
        """What a kernel does by itself, where `writes_back`: after half a minute of rest everything is on the disk."""
        rested_us = self.clock.now_steady_us - self._last_effect_us
        self._last_effect_us = self.clock.now_steady_us
        if self.writes_back and rested_us > _WRITE_BACK_US:
            paths = self.disk.everything()
            self.disk.sync([*paths, *self.disk.changed_directories()])

    def lose_power(self) -> None:
        """What is on the disk afterwards is one of the possible survivors."""
        self._write_back()
        self.power_fails_in = None
        self.disk = next(iter(self.disk.survivors(self.chance, limit=1)))


class View:
    """What one process sees: the same interface as unix.durable.Disk, each method as there."""

    def __init__(self, storage: Storage, process: Process) -> None:
        self._storage, self._process = storage, process

    def create(self, path: bytes, chunks: "Iterable[Bytes]", mode: int = 0o600) -> int:
        """As Disk.create. A second effect lies between the name and the content."""
        self._effect("create", path)
        whole = b"".join([bytes(chunk) for chunk in chunks])
        return self._storage.disk.create(path, self._content(path, whole), mode)

    def _content(self, path: bytes, whole: bytes) -> "Iterator[bytes]":
        yield whole[: len(whole) // 2]
        self._effect("create", path)
        yield whole[len(whole) // 2 :]

    def append(self, path: bytes, data: bytes, mode: int = 0o600) -> None:
        """As Disk.append. On a full disk a part may get there."""
        try:
            self._effect("append", path)
        except WriteFailed:
            half = data[: self._storage.chance.randrange(len(data) + 1)]
            if half:
                self._storage.disk.append(path, half, mode)
            raise
        self._storage.disk.append(path, data, mode)

    def append_whole(self, path: bytes, data: bytes) -> None:
        """As Disk.append_whole."""
        self._effect("append", path)
        self._storage.disk.append(path, data)

    def open_shared(self, path: bytes, mode: int = 0o600) -> "FakeSharedFile":
        """As Disk.open_shared. What is done to the file is no process's effect: the ledger only locks it."""
        self._effect("open", path)
        return self._storage.disk.open_shared(path, mode)

    def write_at(self, path: bytes, offset: int, data: bytes) -> None:
        """As Disk.write_at."""
        self._effect("write_at", path)
        self._storage.disk.write_at(path, offset, data)

    def read(self, path: bytes) -> bytes:
        """As Disk.read."""
        return self._storage.disk.read(path)

    def read_chunks(self, path: bytes, size: int = 65_536) -> "Iterator[bytes]":
        """As Disk.read_chunks."""
        return self._storage.disk.read_chunks(path, size)

    def link(self, old: bytes, new: bytes) -> None:
        """As Disk.link."""
        self._effect("link", new)
        self._storage.disk.link(old, new)

    def unlink(self, path: bytes) -> None:
        """As Disk.unlink."""
        self._effect("unlink", path)
        self._storage.disk.unlink(path)

    def discard(self, path: bytes) -> None:
        """As Disk.discard; what is not there costs no effect."""
        if self._storage.disk.state(path) is not None:
            self.unlink(path)

    def rename(self, old: bytes, new: bytes) -> None:
        """As Disk.rename."""
        self._effect("rename", new)
        self._storage.disk.rename(old, new)

    def state(self, path: bytes) -> "FileState | None":
        """As Disk.state."""
        return self._storage.disk.state(path)

    def names(self, directory: bytes) -> list[bytes]:
        """As Disk.names."""
        return self._storage.disk.names(directory)

    def each_name(self, directory: bytes) -> "Iterator[bytes]":
        """As Disk.each_name."""
        return self._storage.disk.each_name(directory)

    def set_modified(self, path: bytes, modified_s: int) -> None:
        """As Disk.set_modified."""
        self._effect("set_modified", path)
        self._storage.disk.set_modified(path, modified_s)

    def sync(self, paths: "Sequence[bytes]") -> None:
        """As Disk.sync."""
        self._effect("sync", paths[0] if paths else b"")
        self._storage.disk.sync(paths)

    def barrier(self, files: "Sequence[bytes]", directories: "Sequence[bytes]", before: bytes) -> None:
        """As Disk.barrier."""
        self._effect("sync", files[0] if files else before)
        self._storage.disk.barrier(files, directories, before)

    def _effect(self, operation: str, path: bytes) -> None:
        self._storage.before_effect(self._process, operation, path)
