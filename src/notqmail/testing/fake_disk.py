"""A disk in memory that forgets what was not synced: the same interface as unix.durable.Disk, and a power switch.

The model is the strict reading of POSIX. At a power cut, independently of one another and of any order,
- each directory entry is what it was at its directory's last sync, or anything it has been since;
- each file's content is what it was at its last sync (nothing, for a new file), or what it is now, or torn.

`cut_at` raises PowerCut before the n-th effect; `survivors` then yields disks, one for each combination that may be
found after the restart (all of them where they are few, chosen by `chance` where they are many). Inode numbers are
given out lowest first, so that a number is used again as soon as that is possible at all.
"""

import heapq
import itertools

from notqmail.unix.durable import FileState, WriteFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator, Sequence

    from notqmail.unix.durable import Bytes


class PowerCut(BaseException):
    """The machine is off. Not an Exception: no code under test may handle it."""


class _File:
    __slots__ = ("accessed_s", "content", "links", "modified_s", "number", "owner", "synced")

    def __init__(self, number: int, now_s: int) -> None:
        self.number, self.links, self.owner = number, 0, 0
        self.modified_s = self.accessed_s = now_s
        self.content = b""
        self.synced = b""


class FakeDisk:
    """See the module. Directories exist as soon as they are named; `now_s` stamps what is made."""

    def __init__(self, now_s: int = 1_000_000) -> None:
        self.now_s = now_s
        self.effects = 0
        self.cut_at: int | None = None
        self.fail_at: int | None = None
        self._entries: dict[bytes, _File] = {}
        self._synced_entries: dict[bytes, _File] = {}
        self._history: dict[bytes, list[_File | None]] = {}  # of names changed since their directory's sync
        # The same by directory, so that a large disk is no slower than a small one.
        self._names: dict[bytes, dict[bytes, None]] = {}
        self._changed: dict[bytes, dict[bytes, None]] = {}
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
        names = sorted(self._history)
        entry_choices = [_distinct([self._synced_entries.get(name), *self._history[name]]) for name in names]
        files = sorted({id(file): file for file in self._reachable()}.values(), key=lambda file: file.number)
        dirty = [file for file in files if file.content != file.synced]
        content_choices = [_contents(file) for file in dirty]
        choices = [*entry_choices, *content_choices]
        count = 1
        for options in choices:
            count *= len(options)
        if count <= limit:
            picks: Iterable[tuple[object, ...]] = itertools.product(*choices)
        else:
            picks = (tuple(chance.choice(options) for options in choices) for _ in range(limit))
        for pick in picks:
            yield self._after_cut(
                dict(zip(names, pick, strict=False)), dict(zip(map(id, dirty), pick[len(names) :], strict=True))
            )

    def _reachable(self) -> "Iterator[_File]":
        yield from self._synced_entries.values()
        for versions in self._history.values():
            yield from (file for file in versions if file is not None)

    def _after_cut(self, entries: "dict[bytes, object]", contents: "dict[int, object]") -> "FakeDisk":
        disk = FakeDisk(self.now_s)
        copies: dict[int, _File] = {}
        for name in dict.fromkeys((*self._synced_entries, *entries)):  # not a set: replays need one order
            file = entries.get(name) if name in entries else self._synced_entries[name]
            if file is None:
                continue
            assert isinstance(file, _File)
            if id(file) not in copies:
                copy = _File(file.number, file.modified_s)
                content = contents.get(id(file), file.content)
                assert isinstance(content, bytes)
                copy.content = copy.synced = content
                copies[id(file)] = copy
            copies[id(file)].links += 1
            disk._entries[name] = copies[id(file)]
        disk._synced_entries = dict(disk._entries)
        for name in disk._entries:
            disk._names.setdefault(name[: name.rfind(b"/")], {})[name] = None
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
        file = _File(number, self.now_s)
        self._set(path, file)
        try:
            content = bytearray()
            for chunk in chunks:
                content += chunk
                file.content = bytes(content)
            self._effect()
        except Exception:
            self._set(path, None)
            raise
        return number

    def append(self, path: bytes, data: bytes, mode: int = 0o600) -> None:
        """As Disk.append."""
        if path not in self._entries:
            self.create(path, (data,), mode)
            return
        self._effect()
        file = self._entries[path]
        file.content += data
        file.modified_s = self.now_s

    def append_whole(self, path: bytes, data: bytes) -> None:
        """As Disk.append_whole: an append that fails here adds nothing anyway."""
        self.append(path, data)

    def write_at(self, path: bytes, offset: int, data: bytes) -> None:
        """As Disk.write_at."""
        file = self._file(path)
        self._effect()
        before = file.content[:offset].ljust(offset, b"\0")  # a gap reads as NULs
        file.content = before + data + file.content[offset + len(data) :]
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
        self._set(new, file)

    def unlink(self, path: bytes) -> None:
        """As Disk.unlink."""
        self._file(path)
        self._effect()
        self._set(path, None)

    def discard(self, path: bytes) -> None:
        """As Disk.discard."""
        if path in self._entries:
            self.unlink(path)

    def rename(self, old: bytes, new: bytes) -> None:
        """As Disk.rename; the two names are two entries, and a cut may find either, both or none."""
        file = self._file(old)
        self._effect()
        if self._entries.get(new) is file:
            return  # POSIX: two names of one file stay as they are
        self._set(new, file)
        self._set(old, None)

    def state(self, path: bytes) -> FileState | None:
        """As Disk.state."""
        file = self._entries.get(path)
        if file is None:
            return None
        return FileState(file.number, len(file.content), file.modified_s, file.accessed_s, file.owner, True)

    def names(self, directory: bytes) -> list[bytes]:
        """As Disk.names."""
        start = len(directory) + 1
        return [path[start:] for path in self._names.get(directory, ())]

    def each_name(self, directory: bytes) -> "Iterator[bytes]":
        """As Disk.each_name."""
        yield from self.names(directory)

    def set_modified(self, path: bytes, modified_s: int) -> None:
        """As Disk.set_modified (times survive here; nothing relies on them)."""
        self._file(path).modified_s = modified_s

    def sync(self, paths: "Sequence[bytes]") -> None:
        """As Disk.sync, and no more: only what is named becomes durable."""
        self._effect()
        for path in paths:
            file = self._entries.get(path)
            if file is not None:
                file.synced = file.content
                continue
            for name in self._changed.pop(path, ()):
                del self._history[name]
                current = self._entries.get(name)
                if current is None:
                    self._synced_entries.pop(name, None)
                else:
                    self._synced_entries[name] = current

    # ── below ───────────────────────────────────────────────────────────────────────────────────────────

    def changed_directories(self) -> list[bytes]:
        """Those with names that are not durable as they are."""
        return list(self._changed)

    def everything(self) -> dict[bytes, bytes]:
        """All paths with their contents, for assertions."""
        return {path: file.content for path, file in sorted(self._entries.items())}

    def _file(self, path: bytes) -> _File:
        try:
            return self._entries[path]
        except KeyError:
            raise FileNotFoundError(2, "file does not exist", path) from None

    def _lowest_free_number(self) -> int:
        if self._free_numbers:
            return heapq.heappop(self._free_numbers)
        self._highest_number += 1
        return self._highest_number

    def _has_twin(self, file: _File) -> bool:
        """After a cut an old file may have come back beside the one that had got its number."""
        return self._twins and any(other.number == file.number for other in self._entries.values())

    def _set(self, path: bytes, file: _File | None) -> None:
        directory = path[: path.rfind(b"/")]
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
        self._history.setdefault(path, []).append(file)
        self._changed.setdefault(directory, {})[path] = None


def _distinct(options: "list[_File | None]") -> list[object]:
    found: dict[int, object] = {}
    for option in options:
        found.setdefault(id(option), option)
    return list(found.values())


def _contents(file: _File) -> list[object]:
    half = (len(file.synced) + len(file.content)) // 2
    return list(dict.fromkeys((file.synced, file.content[:half], file.content)))
