"""The one seam to the file system for everything that must survive a power cut.

`Disk` is the machine's; `notqmail.testing.fake_disk.FakeDisk` is the same interface with a memory that forgets
what was not synced, and the crash tests cut its power at every step. Nothing else in the package calls fsync,
link or rename, but for a resident's own socket.

What may be relied on after a crash: the *content* of a file whose path was in a `sync` that returned, and the
*entries* (names made and removed) of a directory whose path was. Nothing else, in no order: so says POSIX. Where one
step must not survive without another, but need not yet survive, `barrier` stands between them: a sync, or on a file
system that is known to keep such an order something cheaper (bulk_sync.py).

Paths are bytes, relative to the root (b"" when the process has entered the directory itself) or absolute.
"""

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from notqmail.unix.bulk_sync import BulkSync

    Bytes = bytes | bytearray | memoryview

_FEW_PATHS = 2  # up to here single syncs are as fast, and do not wait for what others write
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO that somebody put there must not hold us


class WriteFailed(OSError):
    """Writing or syncing failed: the disk is full or broken, or a quota is used up. Nothing may be acknowledged."""


class FileState:
    """What `stat` told: the inode number, size in bytes, times in whole seconds, owner, and whether a plain file."""

    __slots__ = ("accessed_s", "inode", "is_file", "modified_s", "owner", "size")

    def __init__(self, inode: int, size: int, modified_s: int, accessed_s: int, owner: int, is_file: bool) -> None:
        self.inode, self.size, self.modified_s, self.accessed_s = inode, size, modified_s, accessed_s
        self.owner, self.is_file = owner, is_file


class Disk:
    """The real one. `bulk` is given by residents, who sync many files at once (`bulk_sync.load_bulk_sync`)."""

    def __init__(self, root: bytes = b"", bulk: "BulkSync | None" = None) -> None:
        self._prefix = root.rstrip(b"/") + b"/" if root else b""
        self._bulk = bulk

    def _at(self, path: bytes) -> bytes:
        return path if path[:1] == b"/" else self._prefix + path

    def create(self, path: bytes, chunks: "Iterable[Bytes]", mode: int = 0o600) -> int:
        """Makes a new file of these chunks; returns its inode number. It is not synced yet.

        Raises FileExistsError and other OSErrors when it cannot be made, WriteFailed when it cannot be written;
        what the chunks themselves raise passes through. After any failure there is no file.
        """
        place = self._at(path)
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            for chunk in chunks:
                _write(descriptor, chunk)
            return os.fstat(descriptor).st_ino
        except BaseException:
            os.unlink(place)
            raise
        finally:
            os.close(descriptor)

    def append(self, path: bytes, data: bytes, mode: int = 0o600) -> None:
        """Adds to the end of a file, made when missing. Raises OSError, WriteFailed (a part may then be there)."""
        descriptor = os.open(
            self._at(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, mode
        )
        try:
            _write(descriptor, data)
        finally:
            os.close(descriptor)

    def append_whole(self, path: bytes, data: bytes) -> None:
        """As `append`, for a file that nobody else writes: after WriteFailed it is as long as it was."""
        before = self.state(path)
        try:
            self.append(path, data)
        except WriteFailed:
            _cut_back(self._at(path), before.size if before is not None else 0)
            raise

    def open_shared(self, path: bytes, mode: int = 0o600) -> "SharedFile":
        """Opens a file for appending under a lock, made when missing: an mbox. Raises OSError."""
        return SharedFile(self._at(path), mode)

    def write_at(self, path: bytes, offset: int, data: bytes) -> None:
        """Overwrites bytes of an existing file in place. Raises OSError, WriteFailed."""
        descriptor = os.open(self._at(path), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if os.pwrite(descriptor, data, offset) != len(data):
                raise WriteFailed(errno.EIO, "short write")
        finally:
            os.close(descriptor)

    def read(self, path: bytes) -> bytes:
        """The whole content. Raises OSError."""
        descriptor = os.open(self._at(path), _READ)
        try:
            data = os.read(descriptor, 65_536)
            if len(data) < 65_536:
                return data
            rest = [data]
            while chunk := os.read(descriptor, 1_048_576):
                rest.append(chunk)
            return b"".join(rest)
        finally:
            os.close(descriptor)

    def read_chunks(self, path: bytes, size: int = 65_536) -> "Iterator[bytes]":
        """The content in pieces, for what must not be whole in memory. Raises OSError."""
        descriptor = os.open(self._at(path), _READ)
        try:
            while chunk := os.read(descriptor, size):
                yield chunk
        finally:
            os.close(descriptor)

    def link(self, old: bytes, new: bytes) -> None:
        """A second name for a file; never replaces one. Raises OSError (FileExistsError)."""
        os.link(self._at(old), self._at(new))

    def unlink(self, path: bytes) -> None:
        """Removes a name. Raises OSError (FileNotFoundError)."""
        os.unlink(self._at(path))

    def discard(self, path: bytes) -> None:
        """Removes a name if it is there. Raises OSError for everything but its absence."""
        try:
            os.unlink(self._at(path))
        except FileNotFoundError:
            pass  # it is gone, which is what was wanted

    def rename(self, old: bytes, new: bytes) -> None:
        """Moves a name, replacing the target. Raises OSError."""
        os.rename(self._at(old), self._at(new))

    def state(self, path: bytes) -> FileState | None:
        """What is there, or None when nothing is. Raises OSError for every other failure."""
        try:
            found = os.stat(self._at(path))
        except FileNotFoundError:
            return None
        return FileState(
            found.st_ino, found.st_size, int(found.st_mtime), int(found.st_atime), found.st_uid,
            stat.S_ISREG(found.st_mode),
        )  # fmt: skip

    def names(self, directory: bytes) -> list[bytes]:
        """The names in a directory, in no order. Raises OSError."""
        return os.listdir(self._at(directory) or b".")

    def each_name(self, directory: bytes) -> "Iterator[bytes]":
        """The same, bit by bit: for a directory that may hold a million. Raises OSError."""
        with os.scandir(self._at(directory) or b".") as entries:
            for entry in entries:
                yield entry.name

    def set_modified(self, path: bytes, modified_s: int) -> None:
        """Sets the file's times: in the queue a channel file's mtime is its next due time. Raises OSError."""
        os.utime(self._at(path), (modified_s, modified_s))

    def sync(self, paths: "Sequence[bytes]") -> None:
        """Returns when the content of these files and the entries of these directories are on the disk.

        Raises WriteFailed: then none of it may be relied on, also not after a second, successful sync.
        """
        try:
            if self._bulk is not None and len(paths) > _FEW_PATHS:
                self._bulk.sync([self._at(path) for path in paths])
                return
            for path in paths:
                descriptor = os.open(self._at(path) or b".", _READ)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        except OSError as error:
            raise WriteFailed(error.errno, error.strerror) from error

    def barrier(self, files: "Sequence[bytes]", directories: "Sequence[bytes]", before: bytes) -> None:
        """Returns when no name that is made or removed from now on, on the file system of the directory `before`, can
        be found after a power cut without the content of these files and the entries of these directories.

        It does not say that they are on the disk: the sync of a directory in which a name has changed since then does.
        Raises WriteFailed, as sync.
        """
        try:
            if self._bulk is not None and self._bulk.write_out(
                [self._at(path) for path in files], [self._at(path) for path in directories], self._at(before)
            ):
                return
        except OSError as error:
            raise WriteFailed(error.errno, error.strerror) from error
        self.sync([*files, *directories])


def _cut_back(place: bytes, size: int) -> None:
    try:
        os.truncate(place, size)
    except OSError:
        pass  # no regular file, or a disk too broken for it: the caller hears of the write that failed


class SharedFile:
    """A file that other programs append to as well, under flock(2), open for appending. `is_new`: we have made it."""

    __slots__ = ("_descriptor", "_place", "is_new")

    def __init__(self, place: bytes, mode: int) -> None:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_CLOEXEC  # a FIFO without a reader must not hold us
        self._place, self.is_new = place, False
        try:
            self._descriptor = os.open(place, flags)
        except FileNotFoundError:
            self._descriptor, self.is_new = os.open(place, flags | os.O_CREAT, mode), True

    def lock(self) -> None:
        """Waits until nobody else has it. Raises OSError where the file system knows no locks."""
        import fcntl  # who appends to an mbox needs it, and nobody else of those who come here

        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def has_its_name(self) -> bool:
        """Whether the name is still this file's: who rewrites an mbox puts a new one in its place, under the lock."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self._place))
        except FileNotFoundError:
            return False
        except OSError:
            return True  # nobody can say; as before there was a question

    def end(self) -> tuple[int, bytes]:
        """The size in bytes and the last two of them: fewer where there are not two, or we may not read, or this is
        no regular file.
        """
        found = os.fstat(self._descriptor)
        if not stat.S_ISREG(found.st_mode) or not found.st_size:
            return 0, b""
        return found.st_size, self._last_bytes(found)

    def _last_bytes(self, ours: os.stat_result) -> bytes:
        # A second descriptor: one that reads as well could not be had for a file that we may only write, and on a
        # FIFO would hide that nobody reads. The name may be another file's by now.
        try:
            descriptor = os.open(self._place, _READ)
        except OSError:
            return b""
        try:
            if not os.path.samestat(os.fstat(descriptor), ours):
                return b""
            return os.pread(descriptor, 2, max(0, ours.st_size - 2))
        except OSError:
            return b""
        finally:
            os.close(descriptor)

    def write(self, data: "Bytes") -> None:
        """Adds to the end. Raises WriteFailed (a part may then be there)."""
        _write(self._descriptor, data)

    def sync(self) -> None:
        """Returns when the content is on the disk. Raises WriteFailed."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise WriteFailed(error.errno, error.strerror) from error

    def cut_back(self, size: int) -> None:
        """Takes back what was added, as far as that is possible."""
        try:
            os.ftruncate(self._descriptor, size)
        except OSError:
            pass  # no regular file, or a disk too broken for it: the caller hears of the write that failed

    def close(self) -> None:
        """Gives up the lock too."""
        os.close(self._descriptor)


def _write(descriptor: int, chunk: "Bytes") -> None:
    try:
        written = os.write(descriptor, chunk)
        if written != len(chunk):
            rest = memoryview(chunk)[written:]
            while rest:
                rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        raise WriteFailed(error.errno, error.strerror) from error
