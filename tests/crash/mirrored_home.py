"""A real home whose every change is also made on a FakeDisk, which knows what a power cut may leave of it.

The code under test works on real files, for it looks at them in many ways; its writes go through `MirroredTree`. At
the cut the FakeDisk says which disks may be found, and `lay` makes a home of one of them, to go on with. Directories,
owners and modes are not the FakeDisk's: a directory stays as it was at the cut, a mode is what `mode_of` says for the
content.
"""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from notqmail.admin.queue_tree import QueueTree
from notqmail.testing.disk_models import OrderedModel, StrictModel
from notqmail.testing.fake_disk import FakeDisk


class QuickTree(QueueTree):
    """For going on after the cut: nothing has to survive any more."""

    def sync(self, paths: object) -> None:
        """Costs nothing."""


class MirroredTree(QueueTree):
    """See the module. `fake` raises PowerCut before its effect; then the real change is not made either."""

    def __init__(self, home: Path, fake: FakeDisk) -> None:
        super().__init__(bytes(home))
        self._fake = fake
        self._gone: list[bytes] = []  # directories removed, what was in them with them

    def create(self, path: bytes, chunks: "Iterable[bytes | bytearray | memoryview]", mode: int = 0o600) -> int:
        """As QueueTree.create."""
        content = b"".join(chunks)
        self._fake.create(path, (content,))
        return super().create(path, (content,), mode)

    def link(self, old: bytes, new: bytes) -> None:
        """As QueueTree.link."""
        self._fake.link(old, new)
        super().link(old, new)

    def unlink(self, path: bytes) -> None:
        """As QueueTree.unlink."""
        self._fake.unlink(path)
        super().unlink(path)

    def discard(self, path: bytes) -> None:
        """As QueueTree.discard."""
        self._fake.discard(path)
        super().discard(path)

    def rename(self, old: bytes, new: bytes) -> None:
        """As QueueTree.rename."""
        self._fake.rename(old, new)
        super().rename(old, new)

    def remove_directory(self, path: bytes) -> bool:
        """As QueueTree.remove_directory."""
        self._gone.append(path)
        return super().remove_directory(path)

    def sync(self, paths: "Iterable[bytes]") -> None:
        """As QueueTree.sync, but for the waiting."""
        durable = list(paths)
        durable += [gone for gone in self._gone if any(gone.startswith(path + b"/") for path in paths)]
        self._fake.sync(durable)


def fake_of(home: Path, model: type[StrictModel] | type[OrderedModel]) -> FakeDisk:
    """A FakeDisk with the files of the home, all durable; what has two names has them there too."""
    fake = FakeDisk(model=model)
    known: dict[int, bytes] = {}
    for path in sorted(home.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        name = bytes(path.relative_to(home))
        first = known.setdefault(path.stat().st_ino, name)
        if first == name:
            fake.create(name, (path.read_bytes(),))
        else:
            fake.link(first, name)
    fake.sync([*fake.everything(), *fake.changed_directories()])
    fake.effects = 0
    return fake


def lay(cut: Path, survivor: FakeDisk, home: Path, mode_of: Callable[[str, bytes], int]) -> None:
    """Makes `home`: directories and other things that are not files as `cut` has them, the files as `survivor` has."""
    shutil.copytree(cut, home, ignore=_ordinary_files, symlinks=True)
    by_number: dict[int, Path] = {}
    for name, content in survivor.everything().items():
        path = home / os.fsdecode(name)
        state = survivor.state(name)
        assert state is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        if state.inode in by_number and by_number[state.inode].read_bytes() == content:
            os.link(by_number[state.inode], path)
            continue
        by_number[state.inode] = path
        path.write_bytes(content)
        path.chmod(mode_of(os.fsdecode(name), content))


def _ordinary_files(directory: str, names: list[str]) -> list[str]:
    return [name for name in names if not os.path.isdir(os.path.join(directory, name))]
