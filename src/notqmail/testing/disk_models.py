"""What a disk may have lost after a power cut: two models, one interface.

`StrictModel` is POSIX and no more. Independently of one another and of any order, each directory entry is what it was
at its directory's last sync, or anything it has been since.

`OrderedModel` is what ext4 does with data=ordered, its default. The names of the whole file system are kept in one
journal: at the cut all changes up to some point are there and none after it, and a sync of anything, a file or a
directory, writes the journal out whole. What an ordered disk can show, a strict one can show too (a test checks that);
it is a small part, so it can be gone through to the end where of the other one only samples can.

What is in a file is alike in both: what it was at its last sync, or after any write since, or the newest write torn.
ext4 enters a file's new size when the data has been written, which may be long after its name (delayed allocation): a
name may be there and the file still empty, but never a size without its data. Neither model shows blocks of NULs or of
other files' old data inside a file.
"""

import itertools

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    Entries = dict[bytes, "File | None"]

VERSIONS_KEPT = 8  # of a file that is written again and again without a sync


class File:
    """An inode: its number, times in seconds, what it holds and what of that is durable."""

    __slots__ = ("accessed_s", "content", "links", "modified_s", "number", "owner", "synced", "versions")

    def __init__(self, number: int, now_s: int) -> None:
        self.number, self.links, self.owner = number, 0, 0
        self.modified_s = self.accessed_s = now_s
        self.content = b""
        self.synced = b""
        self.versions: list[bytes] = []  # what it has been since, oldest first, but for what it is

    def hold(self, content: bytes) -> None:
        """It now has this content."""
        self.versions.append(self.content)
        del self.versions[:-VERSIONS_KEPT]
        self.content = content

    def make_durable(self) -> None:
        """It has been synced."""
        self.synced = self.content
        self.versions.clear()

    def possible_contents(self) -> list[bytes]:
        """What may be found in it after a power cut now."""
        newest = self.versions[-1] if self.versions else self.synced
        torn = self.content[: (len(newest) + len(self.content)) // 2]
        return list(dict.fromkeys((self.synced, *self.versions, torn, self.content)))


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

    def sync(self, directory: bytes) -> None:
        """This directory, or a file of this name, has been synced."""
        for name in self._changed.pop(directory, ()):
            _set(self._durable, name, self._history.pop(name)[-1])

    def changed_directories(self) -> list[bytes]:
        """Those with names that are not durable as they are."""
        return list(self._changed)

    def files(self) -> "Iterator[File]":
        """All that may be found under any name."""
        yield from self._durable.values()
        for versions in self._history.values():
            yield from (file for file in versions if file is not None)

    def choices(self) -> "list[list[Entries]]":
        """What a power cut decides about the names: one of each list, independently."""
        found: list[list[Entries]] = []
        for name in sorted(self._history):
            options = {id(file): file for file in (self._durable.get(name), *self._history[name])}
            found.append([{name: file} for file in options.values()])
        return found

    def after(self, chosen: "list[Entries]") -> "dict[bytes, File]":
        """The entries that are found then."""
        entries = dict(self._durable)
        for choice in chosen:
            for name, file in choice.items():
                _set(entries, name, file)
        return entries


class OrderedModel:
    """See the module. The same interface."""

    def __init__(self, durable: "dict[bytes, File] | None" = None) -> None:
        self._durable = durable if durable is not None else {}
        self._journal: list[Entries] = []

    def change(self, entries: "Entries") -> None:
        """As StrictModel.change: a rename is one step, it is there whole or not at all."""
        self._journal.append(entries)

    def sync(self, _path: bytes) -> None:
        """As StrictModel.sync: whatever it was, the journal is written out."""
        for entries in self._journal:
            for name, file in entries.items():
                _set(self._durable, name, file)
        self._journal.clear()

    def changed_directories(self) -> list[bytes]:
        """As StrictModel.changed_directories."""
        return list(dict.fromkeys(directory_of(name) for entries in self._journal for name in entries))

    def files(self) -> "Iterator[File]":
        """As StrictModel.files."""
        yield from self._durable.values()
        for entries in self._journal:
            yield from (file for file in entries.values() if file is not None)

    def choices(self) -> "list[list[Entries]]":
        """As StrictModel.choices: a single one, how far the journal had got."""
        reached: list[Entries] = [{}]
        for entries in self._journal:
            reached.append({**reached[-1], **entries})
        return [reached]

    def after(self, chosen: "list[Entries]") -> "dict[bytes, File]":
        """As StrictModel.after."""
        (choice,) = chosen
        entries = dict(self._durable)
        for name, file in choice.items():
            _set(entries, name, file)
        return entries


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
