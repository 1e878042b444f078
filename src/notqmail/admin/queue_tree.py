"""The queue's tree for those who look after it: the seam of unix/durable.py, and what only they need of a file system.

Paths are relative to the queue. Owners, modes and empty directories are not mail: setting them anew after a power cut
is no harm, so those steps promise nothing. Names of files change through the methods of Disk alone.
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


class Aspect:
    """What lstat told. `sort` is one of FILE, DIRECTORY, FIFO, OTHER; `accessed_s` is in whole seconds."""

    __slots__ = ("accessed_s", "gid", "inode", "mode", "size", "sort", "uid")

    def __init__(self, sort: str, inode: int, size: int, accessed_s: int, uid: int, gid: int, mode: int) -> None:
        self.sort, self.inode, self.size, self.accessed_s = sort, inode, size, accessed_s
        self.uid, self.gid, self.mode = uid, gid, mode


class QueueTree(Disk):
    """A queue on this machine. Every directory is synced by itself: parts of a queue may be on several file systems."""

    def whole(self, path: bytes) -> bytes:
        """The path as the process may use it."""
        return self._at(path)

    def aspect(self, path: bytes) -> Aspect | None:
        """What is there, symbolic links not followed; None for nothing. Raises OSError."""
        try:
            found = os.lstat(self._at(path) or b".")
        except FileNotFoundError:
            return None
        sort = OTHER
        if stat.S_ISREG(found.st_mode):
            sort = FILE
        elif stat.S_ISDIR(found.st_mode) or (stat.S_ISLNK(found.st_mode) and os.path.isdir(self._at(path))):
            sort = DIRECTORY  # some sites keep a part of the queue elsewhere, behind a link
        elif stat.S_ISFIFO(found.st_mode):
            sort = FIFO
        mode = stat.S_IMODE(found.st_mode)
        if stat.S_ISLNK(found.st_mode) and sort == DIRECTORY:
            found = os.stat(self._at(path))
            mode = stat.S_IMODE(found.st_mode)
        return Aspect(
            sort, found.st_ino, found.st_size, int(found.st_atime), found.st_uid, found.st_gid, mode
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
        """Owner, group (None: whatever it is) and mode. Raises OSError."""
        place = self._at(path) or b"."
        found = os.stat(place)
        group = -1 if gid is None else gid
        if found.st_uid != uid or (gid is not None and found.st_gid != gid):
            os.chown(place, uid, group)
        if stat.S_IMODE(os.stat(place).st_mode) != mode:
            os.chmod(place, mode)

    def link_or_copy(self, old: bytes, new: bytes) -> None:
        """A second name, or on another file system a copy, which is synced. Raises OSError (FileExistsError)."""
        try:
            self.link(old, new)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                raise
            self.create(new, self.read_chunks(old, _COPY_BYTES))
            self.sync([new])


def owner_of(accounts: "Accounts", role: str) -> tuple[int, int | None]:
    """uid and gid that a path of this role should have; gid None where it does not matter (one user for everything)."""
    return accounts.uids[role], None if accounts.single_user else accounts.gids["queue"]
