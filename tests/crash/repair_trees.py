"""A queue on a FakeDisk for the repair's tests: directories, owners and modes beside the files that forget."""

from notqmail.admin.queue_survey import MOVING
from notqmail.admin.queue_target import KINDS, Target, file_owner
from notqmail.admin.queue_tree import DIRECTORY, FIFO, FILE, Aspect
from notqmail.queue.layout import DIRECTORIES, TCPTO, TCPTO_BYTES, TRIGGER
from notqmail.testing.fake_disk import FakeDisk
from notqmail.unix.accounts import GROUPS, USERS, Accounts

ME = Accounts(True, dict.fromkeys(USERS, 0), dict.fromkeys(GROUPS, 0))
DEVICE = 1  # all of it is on one file system
_MODES = {path.split(b"/")[0]: mode for path, _, mode in DIRECTORIES if path.count(b"/") == 0}
_FIXTURE_MODES = {b"lock/sendmutex": 0o600, b"lock/tcpto": 0o644, b"lock/trigger": 0o622}


class FakeTree:
    """A QueueTree whose names and contents are a FakeDisk's; directories are durable as soon as they are made."""

    def __init__(self, disk: FakeDisk, directories: set[bytes]) -> None:
        self.disk, self.directories = disk, directories

    def __getattr__(self, name: str) -> object:
        return getattr(self.disk, name)

    def names(self, directory: bytes) -> list[bytes]:
        start = directory + b"/" if directory else b""
        depth = start.count(b"/")
        inner = [
            path[len(start) :] for path in self.directories if path.count(b"/") == depth and path.startswith(start)
        ]
        return sorted({*self.disk.names(directory), *inner} - {b""}) if depth < 2 else self.disk.names(directory)

    def aspect(self, path: bytes) -> Aspect | None:
        state = self.disk.state(path)
        if state is not None:
            sort = FIFO if path == TRIGGER else FILE
            return Aspect(sort, DEVICE, state.inode, state.size, state.accessed_s, 0, 0, _mode(path))
        if path in self.directories:
            ledger = {b"ledger/accepted": 0o700, b"ledger/ended": 0o700}
            return Aspect(DIRECTORY, DEVICE, 0, 0, 0, 0, 0, ledger.get(path, _MODES.get(path.split(b"/")[0], 0o700)))
        return None

    def make_directory(self, path: bytes) -> None:
        self.directories.add(path)

    def remove_directory(self, path: bytes) -> bool:
        if self.disk.names(path):
            return False
        self.directories.discard(path)
        return True

    def make_fifo(self, path: bytes) -> None:
        self.disk.create(path, ())

    def settle(self, path: bytes, uid: int, gid: int | None, mode: int) -> None:
        assert (uid, gid) == (0, None)

    def link_or_copy(self, old: bytes, new: bytes) -> None:
        self.disk.link(old, new)


def _mode(path: bytes) -> int:
    kind = path.split(b"/")[0]
    if kind in KINDS or kind == b"pid":
        return file_owner(kind)[1]
    return _FIXTURE_MODES.get(path, 0o600)


def empty_tree(target: Target, disk: FakeDisk | None = None) -> FakeTree:
    """A sound, empty queue of this layout, all of it durable."""
    disk = FakeDisk() if disk is None else disk
    tree = FakeTree(disk, {path for path, _, _ in target.directories(ledger=False)})
    for path, _, _ in target.fixtures(ledger=False):
        disk.create(path, (bytes(TCPTO_BYTES),) if path == TCPTO else ())
    return tree


def make_durable(disk: FakeDisk) -> None:
    """What there is now survives a power cut; counting of effects begins."""
    disk.sync([*disk.changed_directories(), *disk.everything()])
    disk.effects = 0


def messages(disk: FakeDisk, target: Target) -> dict[bytes, dict[bytes, bytes]]:
    """Message text -> kind -> content, of those in their right places under the right number. Fails on mixtures."""
    found = {}
    everything = disk.everything()
    for path in everything:
        kind, _, name = path.rpartition(b"/")
        if not kind.startswith(b"mess") or not name.isdigit() or path != target.path(b"mess", int(name)):
            continue
        number = int(name)
        state = disk.state(path)
        assert state is not None
        if state.inode != number:
            continue
        files = {kind: everything[place] for kind in KINDS if (place := target.path(kind, number)) in everything}
        found[everything[path]] = files
    return found


def staged(disk: FakeDisk) -> list[bytes]:
    """Names between two numbers."""
    return [path for path in disk.everything() if path.endswith(MOVING)]
