"""A disk in memory that forgets what was not synced: the same interface as unix.durable.Disk, and a power switch.

What exactly it forgets is said by one of the models of disk_models.py: the strict reading of POSIX, or ext4's order.

`cut_at` raises PowerCut before the n-th effect; `survivors` then yields disks, one for each combination that may be
found after the restart (all of them where they are few, some where they are many: `disk_models.picks`). Inode numbers
are given out lowest first, so that a number is used again as soon as that is possible at all.
"""

import heapq

from notqmail.testing.disk_models import File, OrderedModel, StrictModel, directory_of, picks
from notqmail.unix.durable import FileState, WriteFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator, Sequence

    from notqmail.unix.durable import Bytes


class PowerCut(BaseException):
    """The machine is off. Not an Exception: no code under test may handle it."""


class FakeDisk:
    """See the module. Directories exist as soon as they are named; `now_s` stamps what is made."""

    def __init__(self, now_s: int = 1_000_000, model: "type[StrictModel | OrderedModel]" = StrictModel) -> None:
        self.now_s = now_s
        self.effects = 0
        self.cut_at: int | None = None
        self.fail_at: int | None = None
        self.model = model()
        self._entries: dict[bytes, File] = {}
        self._names: dict[bytes, dict[bytes, None]] = {}  # the same by directory: a large disk is no slower
        self._free_numbers: list[int] = []
        self._highest_number = 0
        self._twins = False

    # ── the switch ──────────────────────────────────────────────────────────────────────────────────────

    def _effect(self) -> None:
        if self.cut_at is not None and self.effects >= self.cut_at:
            raise PowerCut
        self.effects += 1
        if self.fail_at is not None and self.effects > self.fail_at:
            raise WriteFailed(28, "out of disk space")

    def survivors(self, chance: "random.Random", limit: int = 256) -> "Iterator[FakeDisk]":
        """The disks that may be found after a power cut now."""
        names = self.model.choices()
        files = sorted({id(file): file for file in self.model.files()}.values(), key=lambda file: file.number)
        dirty = [file for file in files if file.content != file.synced or file.versions]
        contents = [file.possible_contents() for file in dirty]
        for pick in picks([*map(len, names), *map(len, contents)], chance, limit):
            chosen = [options[index] for options, index in zip(names, pick, strict=False)]
            kept = self.model.kept(chosen)
            held = {
                id(file): _not_older(options, index, kept.get(id(file), 0))
                for file, options, index in zip(dirty, contents, pick[len(names) :], strict=True)
            }
            yield self._after_cut(self.model.after(chosen), held)

    def killed(self) -> "FakeDisk":
        """What is there when only the process dies: everything that was written."""
        return self._after_cut(self._entries, {})

    def _after_cut(self, entries: "dict[bytes, File]", contents: "dict[int, bytes]") -> "FakeDisk":
        disk = FakeDisk(self.now_s)
        copies: dict[int, File] = {}
        for name, file in entries.items():
            if id(file) not in copies:
                copy = copies[id(file)] = File(file.number, file.modified_s)
                copy.accessed_s = file.accessed_s
                copy.content = copy.synced = contents.get(id(file), file.content)
            copies[id(file)].links += 1
            disk._entries[name] = copies[id(file)]
            disk._names.setdefault(directory_of(name), {})[name] = None
        disk.model = type(self.model)(dict(disk._entries))
        used = {copy.number for copy in copies.values()}
        disk._twins = len(used) < len(copies)
        disk._highest_number = max(used, default=0)
        disk._free_numbers = [number for number in range(1, disk._highest_number) if number not in used]
        return disk

    # ── the interface of unix.durable.Disk ──────────────────────────────────────────────────────────────

    def create(self, path: bytes, chunks: "Iterable[Bytes]", mode: int = 0o600) -> int:
        """As Disk.create."""
        self._effect()
        if path in self._entries:
            raise FileExistsError(17, "file already exists", path)
        number = self._lowest_free_number()
        file = File(number, self.now_s)
        self._set({path: file})
        try:
            content = bytearray()
            for chunk in chunks:
                content += chunk
                file.content = bytes(content)
            self._effect()
        except Exception:
            self._set({path: None})
            raise
        return number

    def append(self, path: bytes, data: bytes, mode: int = 0o600) -> None:
        """As Disk.append."""
        if path not in self._entries:
            self.create(path, (data,), mode)
            return
        self._effect()
        file = self._entries[path]
        file.hold(file.content + data)
        file.modified_s = self.now_s

    def append_whole(self, path: bytes, data: bytes) -> None:
        """As Disk.append_whole: an append that fails here adds nothing anyway."""
        self.append(path, data)

    def open_shared(self, path: bytes, mode: int = 0o600) -> "FakeSharedFile":
        """As Disk.open_shared."""
        is_new = path not in self._entries
        if is_new:
            self.create(path, (), mode)
        return FakeSharedFile(self, path, is_new=is_new)

    def truncate(self, path: bytes, size: int) -> None:
        """Cuts a file back, as SharedFile.cut_back does with its own."""
        file = self._file(path)
        self._effect()
        file.hold(file.content[:size])

    def write_at(self, path: bytes, offset: int, data: bytes) -> None:
        """As Disk.write_at."""
        file = self._file(path)
        self._effect()
        before = file.content[:offset].ljust(offset, b"\0")  # a gap reads as NULs
        file.hold(before + data + file.content[offset + len(data) :])
        file.modified_s = self.now_s

    def read(self, path: bytes) -> bytes:
        """As Disk.read."""
        return self._file(path).content

    def read_chunks(self, path: bytes, size: int = 65_536) -> "Iterator[bytes]":
        """As Disk.read_chunks."""
        content = self._file(path).content
        for start in range(0, len(content), size):
            yield content[start : start + size]

    def link(self, old: bytes, new: bytes) -> None:
        """As Disk.link."""
        file = self._file(old)
        self._effect()
        if new in self._entries:
            raise FileExistsError(17, "file already exists", new)
        self._set({new: file})

    def unlink(self, path: bytes) -> None:
        """As Disk.unlink."""
        self._file(path)
        self._effect()
        self._set({path: None})

    def discard(self, path: bytes) -> None:
        """As Disk.discard."""
        if path in self._entries:
            self.unlink(path)

    def rename(self, old: bytes, new: bytes) -> None:
        """As Disk.rename; the two names are two entries: the strict model may show either, both or none."""
        file = self._file(old)
        self._effect()
        if self._entries.get(new) is file:
            return  # POSIX: two names of one file stay as they are
        self._set({new: file, old: None})

    def state(self, path: bytes) -> FileState | None:
        """As Disk.state."""
        file = self._entries.get(path)
        if file is None:
            return None
        return FileState(file.number, len(file.content), file.modified_s, file.accessed_s, file.owner, True)

    def names(self, directory: bytes) -> list[bytes]:
        """As Disk.names."""
        start = len(directory) + 1 if directory else 0
        return [path[start:] for path in self._names.get(directory, ())]

    def each_name(self, directory: bytes) -> "Iterator[bytes]":
        """As Disk.each_name."""
        yield from self.names(directory)

    def set_modified(self, path: bytes, modified_s: int) -> None:
        """As Disk.set_modified (times survive here; nothing relies on them)."""
        self._file(path).modified_s = modified_s

    def sync(self, paths: "Sequence[bytes]") -> None:
        """As Disk.sync, and no more: only what is named becomes durable, and what the model adds to it."""
        self._effect()
        for path in paths:
            file = self._entries.get(path)
            if file is not None:
                file.make_durable()
            self.model.sync(path, file)

    def barrier(self, files: "Sequence[bytes]", directories: "Sequence[bytes]", before: bytes) -> None:
        """As Disk.barrier; on a strict disk a sync."""
        if not isinstance(self.model, OrderedModel):
            self.sync([*files, *directories])
            return
        self._effect()
        for path in files:
            self.model.barrier(self._file(path))

    # ── below ───────────────────────────────────────────────────────────────────────────────────────────

    def changed_directories(self) -> list[bytes]:
        """Those with names that are not durable as they are."""
        return self.model.changed_directories()

    def everything(self) -> dict[bytes, bytes]:
        """All paths with their contents, for assertions."""
        return {path: file.content for path, file in sorted(self._entries.items())}

    def _file(self, path: bytes) -> File:
        try:
            return self._entries[path]
        except KeyError:
            raise FileNotFoundError(2, "file does not exist", path) from None

    def _lowest_free_number(self) -> int:
        if self._free_numbers:
            return heapq.heappop(self._free_numbers)
        self._highest_number += 1
        return self._highest_number

    def _has_twin(self, file: File) -> bool:
        """After a cut an old file may have come back beside the one that had got its number."""
        return self._twins and any(other.number == file.number for other in self._entries.values())

    def _set(self, entries: "dict[bytes, File | None]") -> None:
        """One operation: these names are now these files', or nobody's."""
        for path, file in entries.items():
            directory = directory_of(path)
            old = self._entries.pop(path, None)
            if old is not None:
                del self._names[directory][path]
                old.links -= 1
                if old.links == 0 and not self._has_twin(old):
                    heapq.heappush(self._free_numbers, old.number)
            if file is not None:
                self._entries[path] = file
                self._names.setdefault(directory, {})[path] = None
                file.links += 1
        self.model.change(entries)


def _not_older(options: "list[tuple[int, bytes]]", index: int, writes: int) -> bytes:
    """The content picked, or if that is of fewer writes the first that is not."""
    if options[index][0] >= writes:
        return options[index][1]
    return next(content for made, content in options if made >= writes)


class FakeSharedFile:
    """As unix.durable.SharedFile. Nobody else is there to hold the lock."""

    def __init__(self, disk: FakeDisk, path: bytes, *, is_new: bool) -> None:
        self._disk, self._path, self.is_new = disk, path, is_new

    def lock(self) -> None:
        """As SharedFile.lock."""

    def has_its_name(self) -> bool:
        """As SharedFile.has_its_name: nobody else is there to take it."""
        return True

    def end(self) -> tuple[int, bytes]:
        """As SharedFile.end."""
        content = self._disk.read(self._path)
        return len(content), content[-2:]

    def write(self, data: "Bytes") -> None:
        """As SharedFile.write."""
        self._disk.append(self._path, bytes(data))

    def sync(self) -> None:
        """As SharedFile.sync."""
        self._disk.sync([self._path])

    def cut_back(self, size: int) -> None:
        """As SharedFile.cut_back."""
        try:
            self._disk.truncate(self._path, size)
        except OSError:
            pass  # the caller hears of the write that failed

    def close(self) -> None:
        """As SharedFile.close."""
