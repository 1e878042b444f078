"""The queue's tree for those who look after it: the seam of unix/durable.py, and what only they need of a file system.

Paths are relative to the queue. Owners, modes and empty directories are not mail: setting them anew after a power cut
is no harm, so those steps promise nothing. Names of files change through the methods of Disk alone.

Root works here in directories of lesser accounts, who can put a symbolic link in the place of anything. A link to a
directory is followed only if it is root's or the caller's own (some sites keep a part of the queue elsewhere), and
owners and modes are set on what has been opened on the way, not on what has the name a moment later.
"""

import errno
import os
import stat

from notqmail.unix.durable import Disk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.unix.accounts import Accounts

FILE, DIRECTORY, FIFO, OTHER = "file", "directory", "fifo", "something else"
_COPY_BYTES = 65_536
_HOLD = os.O_PATH | os.O_CLOEXEC


class Aspect:
    """What lstat told. `sort` is one of FILE, DIRECTORY, FIFO, OTHER; `accessed_s` is in whole seconds.

    `inode` names a message; whether two names are the same file is for `identity` to say.
    """

    __slots__ = ("accessed_s", "device", "gid", "inode", "mode", "size", "sort", "uid")

    def __init__(
        self, sort: str, device: int, inode: int, size: int, accessed_s: int, uid: int, gid: int, mode: int
    ) -> None:  # fmt: skip
        self.sort, self.device, self.inode, self.size, self.accessed_s = sort, device, inode, size, accessed_s
        self.uid, self.gid, self.mode = uid, gid, mode

    @property
    def identity(self) -> tuple[int, int]:
        """The file, whatever its name: an inode number means nothing without its file system."""
        return self.device, self.inode


class QueueTree(Disk):
    """A queue on this machine. Every directory is synced by itself: parts of a queue may be on several file systems."""

    def whole(self, path: bytes) -> bytes:
        """The path as the process may use it."""
        return self._at(path)

    def aspect(self, path: bytes) -> Aspect | None:
        """What is there, None for nothing. Symbolic links are not followed, but to directories.

        Raises OSError, also for such a link of a lesser account.
        """
        try:
            found = os.lstat(self._at(path) or b".")
        except FileNotFoundError:
            return None
        if stat.S_ISLNK(found.st_mode) and os.path.isdir(self._at(path)):
            _check_link(found, path)
            found = os.stat(self._at(path))
        sort = OTHER
        if stat.S_ISREG(found.st_mode):
            sort = FILE
        elif stat.S_ISDIR(found.st_mode):
            sort = DIRECTORY
        elif stat.S_ISFIFO(found.st_mode):
            sort = FIFO
        mode = stat.S_IMODE(found.st_mode)
        return Aspect(
            sort, found.st_dev, found.st_ino, found.st_size, int(found.st_atime), found.st_uid, found.st_gid, mode
        )  # fmt: skip

    def make_directory(self, path: bytes) -> None:
        """A directory for its owner alone; one that is there stays. Raises OSError."""
        try:
            os.mkdir(self._at(path), 0o700)
        except FileExistsError:
            pass  # made by an earlier run

    def remove_directory(self, path: bytes) -> bool:
        """Whether an empty directory could be removed; one that is not empty stays. Raises OSError."""
        try:
            os.rmdir(self._at(path))
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                return False
            raise
        return True

    def make_fifo(self, path: bytes) -> None:
        """A new fifo. Raises OSError."""
        os.mkfifo(self._at(path), 0o600)

    def settle(self, path: bytes, uid: int, gid: int | None, mode: int) -> None:
        """Owner, group (None: whatever it is) and mode. Raises OSError, also for a link as above on the way."""
        held = self._hold(path)
        try:
            place = b"/proc/self/fd/%d" % held  # the thing itself: an O_PATH descriptor cannot be given to fchown
            found = os.stat(place)
            if found.st_uid != uid or (gid is not None and found.st_gid != gid):
                os.chown(place, uid, -1 if gid is None else gid)
            if stat.S_IMODE(os.stat(place).st_mode) != mode:
                os.chmod(place, mode)
        finally:
            os.close(held)

    def _hold(self, path: bytes) -> int:
        """A descriptor (O_PATH) of what this path names, reached step by step from the tree's top.

        The top is what the caller has named; of an absolute path that is all but the last step.
        """
        top, steps = self._prefix or b".", path.split(b"/")
        if path[:1] == b"/":
            top, steps = os.path.dirname(path), [os.path.basename(path)]
        held = os.open(top, _HOLD)
        for name in filter(None, steps):
            try:
                held, above = _step(held, name, path), held
            except OSError:
                os.close(held)
                raise
            os.close(above)
        return held

    def link_or_copy(self, old: bytes, new: bytes) -> None:
        """A second name, or on another file system a copy, which is synced. Raises OSError (FileExistsError)."""
        try:
            self.link(old, new)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                raise
            self.create(new, self.read_chunks(old, _COPY_BYTES))
            self.sync([new])


def _step(directory: int, name: bytes, path: bytes) -> int:
    """Into a directory, by a link only if that may be followed; a descriptor. Raises OSError."""
    held = os.open(name, _HOLD | os.O_NOFOLLOW, dir_fd=directory)
    found = os.fstat(held)
    if not stat.S_ISLNK(found.st_mode):
        return held
    try:
        _check_link(found, path)
        return os.open(os.readlink(b"", dir_fd=held), _HOLD, dir_fd=directory)  # of this link, whoever has the name now
    finally:
        os.close(held)


def _check_link(found: os.stat_result, path: bytes) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise OSError(errno.ELOOP, f"behind a symbolic link of uid {found.st_uid}: not followed", path)


def owner_of(accounts: "Accounts", role: str) -> tuple[int, int | None]:
    """uid and gid that a path of this role should have; gid None where it does not matter (one user for everything)."""
    return accounts.uids[role], None if accounts.single_user else accounts.gids["queue"]
