"""What a disk may have lost after a power cut: two models, one interface.

`StrictModel` is POSIX and no more. Independently of one another and of any order, each directory entry is what it was
at its directory's last sync, or anything it has been since.

`OrderedModel` is what ext4 does with data=ordered, its default. The names of the whole file system are kept in one
journal: at the cut all changes up to some point are there and none after it, and a sync of a file or a directory writes
the journal out as far as that was the last to change. What an ordered disk can show, a strict one can show too (a test
checks that); it is a small part, so it can be gone through to the end where of the other one only samples can.

What is in a file is alike in both: what it was at its last sync, or after any write since, or the newest write torn,
or of what was added last the size without the data: NULs, which ext4 shows where the block was the file's already
(tests/power has seen it). ext4 enters a new file's size when the data has been written, which may be long after its
name (delayed allocation): a name may be there and the file still empty. Neither model shows other files' old data.

A barrier is a sync on a strict disk. On an ordered one it has the files' data written, so that their sizes are in the
journal before whatever follows: no later name is found without them.
"""

import itertools

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from typing import Any

    Entries = dict[bytes, "File | None"]

VERSIONS_KEPT = 8  # of a file that is written again and again without a sync


class File:
    """An inode: its number, times in seconds, what it holds and what of that is durable."""

    __slots__ = (
        "accessed_s",
        "content",
        "links",
        "modified_s",
        "number",
        "owner",
        "synced",
        "synced_at",
        "versions",
        "writes",
    )

    def __init__(self, number: int, now_s: int) -> None:
        self.number, self.links, self.owner = number, 0, 0
        self.modified_s = self.accessed_s = now_s
        self.content = b""
        self.writes = 1  # `content` is of so many
        self.synced = b""
        self.synced_at = 0  # writes
        self.versions: list[bytes] = []  # what it has been since, oldest first, but for what it is; a write each

    def hold(self, content: bytes) -> None:
        """It now has this content."""
        self.versions.append(self.content)
        del self.versions[:-VERSIONS_KEPT]
        self.content = content
        self.writes += 1

    def make_durable(self) -> None:
        """It has been synced."""
        self.keep(self.writes, self.content)

    def keep(self, writes: int, content: bytes) -> None:
        """What it was after so many writes is durable."""
        if writes > self.synced_at:
            self.synced, self.synced_at = content, writes
            del self.versions[: max(0, writes + 1 - self._first_version())]

    def _first_version(self) -> int:
        return self.writes - len(self.versions)

    def possible_contents(self) -> list[tuple[int, bytes]]:
        """What may be found in it after a power cut now, and after how many writes it was that: a torn one counts as
        the one before.
        """
        newest = self.versions[-1] if self.versions else self.synced
        half = [self.content[: (len(newest) + len(self.content)) // 2]]
        if newest and self.content.startswith(newest):
            half.append(newest.ljust(len(self.content), b"\0"))
        older = enumerate(self.versions, self._first_version())
        found = [(self.synced_at, self.synced), *older, *((self.writes - 1, content) for content in half)]
        return list({content: (writes, content) for writes, content in (*found, (self.writes, self.content))}.values())


class StrictModel:
    """See the module. `durable` are the entries that are on the disk for certain."""

    def __init__(self, durable: "dict[bytes, File] | None" = None) -> None:
        self._durable = durable if durable is not None else {}
        self._history: dict[bytes, list[File | None]] = {}  # of names changed since their directory's sync
        self._changed: dict[bytes, dict[bytes, None]] = {}  # the same by directory: a large disk is no slower

    def change(self, entries: "Entries") -> None:
        """One operation has given these names to these files, or to none."""
        for name, file in entries.items():
            self._history.setdefault(name, []).append(file)
            self._changed.setdefault(directory_of(name), {})[name] = None

    def sync(self, path: bytes, _file: File | None) -> None:
        """This directory, or a file of this name, has been synced."""
        for name in self._changed.pop(path, ()):
            _set(self._durable, name, self._history.pop(name)[-1])

    def changed_directories(self) -> list[bytes]:
        """Those with names that are not durable as they are."""
        return list(self._changed)

    def files(self) -> "Iterator[File]":
        """All that may be found under any name."""
        yield from self._durable.values()
        for versions in self._history.values():
            yield from (file for file in versions if file is not None)

    def choices(self) -> "list[list[Any]]":
        """What a power cut decides about the names: one of each list, independently."""
        found: list[list[Entries]] = []
        for name in sorted(self._history):
            options = {id(file): file for file in (self._durable.get(name), *self._history[name])}
            found.append([{name: file} for file in options.values()])
        return found

    def kept(self, _chosen: "list[Entries]") -> "dict[int, int]":
        """By id of a File, how many of its writes are found then at least, beyond what is synced."""
        return {}

    def after(self, chosen: "list[Entries]") -> "dict[bytes, File]":
        """The entries that are found then."""
        entries = dict(self._durable)
        for choice in chosen:
            for name, file in choice.items():
                _set(entries, name, file)
        return entries


class OrderedModel:
    """See the module. The same interface, and `barrier`."""

    def __init__(self, durable: "dict[bytes, File] | None" = None) -> None:
        self._durable = durable if durable is not None else {}
        self._journal: list[Entries] = []
        self._barriers: list[tuple[int, File, int, bytes]] = []  # the journal's length then; a file as it was

    def change(self, entries: "Entries") -> None:
        """As StrictModel.change: a rename is one step, it is there whole or not at all."""
        self._journal.append(entries)

    def barrier(self, file: File) -> None:
        """What follows in the journal is found only with what this file holds now."""
        self._barriers.append((len(self._journal), file, file.writes, file.content))

    def sync(self, path: bytes, file: File | None) -> None:
        """As StrictModel.sync: the journal is written out up to the last change of this file or directory."""
        end = 0
        for count, entries in enumerate(self._journal, 1):
            for name, changed in entries.items():
                if directory_of(name) == path or (file is not None and changed is file):
                    end = count
        for entries in self._journal[:end]:
            for name, changed in entries.items():
                _set(self._durable, name, changed)
        del self._journal[:end]
        later = []
        for before, held, writes, content in self._barriers:
            if before < end:
                held.keep(writes, content)
            else:
                later.append((before - end, held, writes, content))
        self._barriers = later

    def changed_directories(self) -> list[bytes]:
        """As StrictModel.changed_directories."""
        return list(dict.fromkeys(directory_of(name) for entries in self._journal for name in entries))

    def files(self) -> "Iterator[File]":
        """As StrictModel.files."""
        yield from self._durable.values()
        for entries in self._journal:
            yield from (file for file in entries.values() if file is not None)

    def choices(self) -> "list[list[Any]]":
        """As StrictModel.choices: a single one, how far the journal had got."""
        return [list(range(len(self._journal) + 1))]

    def kept(self, chosen: "list[int]") -> "dict[int, int]":
        """As StrictModel.kept."""
        (reached,) = chosen
        return {id(file): writes for before, file, writes, _content in self._barriers if before < reached}

    def after(self, chosen: "list[int]") -> "dict[bytes, File]":
        """As StrictModel.after."""
        (reached,) = chosen
        found = dict(self._durable)
        for entries in self._journal[:reached]:
            for name, file in entries.items():
                _set(found, name, file)
        return found


def directory_of(name: bytes) -> bytes:
    """The path of the directory that holds this name."""
    return name[: max(0, name.rfind(b"/"))]


def _set(entries: "dict[bytes, File]", name: bytes, file: "File | None") -> None:
    if file is None:
        entries.pop(name, None)
    else:
        entries[name] = file


def picks(sizes: "list[int]", chance: "random.Random", limit: int) -> "Iterator[tuple[int, ...]]":
    """Which of each list to take, by their lengths: all ways where they are at most `limit`, else so many by chance.

    After these the extremes: each thing alone the oldest of its list and all others the newest, and the opposite. So
    whatever is wrong because one thing has survived another is found, however many things there are.
    """
    count = 1
    for size in sizes:
        count *= size
    if count <= limit:
        yield from itertools.product(*map(range, sizes))
        return
    for _ in range(limit):
        yield tuple(chance.randrange(size) for size in sizes)
    oldest, newest = (0,) * len(sizes), tuple(size - 1 for size in sizes)
    yield oldest
    yield newest
    for place in range(len(sizes)):
        for ends, others in ((oldest, newest), (newest, oldest)):
            yield (*others[:place], ends[place], *others[place + 1 :])
