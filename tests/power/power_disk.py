"""The real disk seam on a mounted queue, with what the crash tests' machine asks of a FakeDisk besides."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from notqmail.queue.layout import DIRECTORIES, SPLIT, SPLIT_KINDS
from notqmail.unix.bulk_sync import BulkSync, load_bulk_sync
from notqmail.unix.durable import Disk

HOUSES = ("dir", "s")  # with a Maildir in the queue's directory home/, as crash/houses.py has it


ORDERS: dict[str, Callable[[BulkSync], None]] = {
    "seen": lambda bulk: None,
    "assumed": lambda bulk: setattr(bulk, "_keeps_order", lambda device: True),
    "denied": lambda bulk: setattr(bulk, "_keeps_order", lambda device: False),
    "unwaited": lambda bulk: setattr(bulk, "_finish", lambda descriptor: None),
}


class MountedDisk(Disk):
    """unix.durable.Disk as the residents have it, on this queue. `now_s` is simulated time, as on a FakeDisk; it begins
    at the real one, for the kernel's times of files count as well.

    `order`: whether the file system keeps the order that a barrier needs: "seen" as the programs see it, or against it
    "assumed" or "denied"; "unwaited": a barrier has the files written, and does not wait until they are.
    """

    order = "seen"

    def __init__(self, queue: Path) -> None:
        bulk = load_bulk_sync()
        assert bulk is not None, "this kernel has no syncfs that reports errors"
        ORDERS[self.order](bulk)
        super().__init__(bytes(queue), bulk)
        self.queue, self.now_s = bytes(queue), int(time.time())

    def everything(self) -> dict[bytes, bytes]:
        """All plain files with their contents, by path in the queue."""
        found: dict[bytes, bytes] = {}
        directories = [b""]
        while directories:
            directory = directories.pop()
            with os.scandir(self._at(directory)) as entries:
                for entry in entries:
                    path = directory + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(path + b"/")
                    elif entry.is_file(follow_symlinks=False):
                        found[path] = self.read(path)
        return dict(sorted(found.items()))

    def is_empty(self) -> bool:
        """Whether no message is in todo or preprocessed."""
        kinds = (b"todo", *(b"%b/%d" % (kind, part) for kind in SPLIT_KINDS for part in range(SPLIT)))
        return not any(self.names(kind) for kind in kinds if not kind.startswith(b"mess"))


class QuickDisk(MountedDisk):
    """For going on after the cut, when nothing has to survive any more: an hour later, and syncs cost nothing."""

    def __init__(self, queue: Path) -> None:
        super().__init__(queue)
        self.now_s += 3_600

    def sync(self, paths: Sequence[bytes]) -> None:
        """Costs nothing."""

    def barrier(self, files: Sequence[bytes], directories: Sequence[bytes], before: bytes) -> None:
        """Costs nothing."""


def make_home(home: Path) -> None:
    """An empty queue with its ledger, a Maildir beside it, and houses in it."""
    for name, _, _ in DIRECTORIES:
        (home / "queue" / os.fsdecode(name)).mkdir(parents=True)
        if name in SPLIT_KINDS:
            for number in range(SPLIT):
                (home / "queue" / os.fsdecode(name) / str(number)).mkdir()
    for journal in ("accepted", "ended"):
        (home / "queue" / "ledger" / journal / "current").touch()
    for maildir in (home / "Maildir", *(home / "queue" / "home" / house for house in HOUSES)):
        for part in ("tmp", "new", "cur"):
            (maildir / part).mkdir(parents=True)
