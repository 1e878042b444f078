"""What Linux offers to those who write many files at once: one wait for all of them, or none where order is enough.

`syncfs` makes a whole file system durable: one wait however many files there are.

Some file systems also keep an order: what is done to names there reaches the disk in the order in which it was done,
and no file's data later than what says how long the file is. There nothing need be waited for *between* two steps; the
last one's sync makes all of them durable (docs/adr/0021). We know this of ext4 with data=ordered, its default, and of
nothing else, so we look: /proc/fs/ext4 has the options of each mounted one.

What is not ours to assume of ext4: that a file's data is under way just because its name is. It assigns blocks late,
so a journal may hold a name whose file is still empty. `write_out` has the blocks assigned and the data written, after
which the new size is in the journal, before whatever comes next.

Only residents use this: ctypes takes a one-shot program longer to import than the syncs take.
"""

import errno
import os

from notqmail.unix.clock import Clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable, Iterable, Sequence

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO that somebody put there must not hold us
_SYNCFS_REPORTS_ERRORS = (5, 8)  # Linux; before, a failed write could go unnoticed: then each file is synced
# Files at once: two messages, their envelopes and the ledger. Beyond it a syncfs takes less of the processor for each,
# and in the time that it takes longer others gather, who share it.
_WRITE_OUT_MAX = 5
_DEVICES_MAX = 1_000
_BELIEVED_S = 1.0  # what was seen of a file system
_START, _FINISH = 2, 7  # sync_file_range(2): begin writing what is dirty; the same and wait until it is written


class BulkSync:
    """syncfs(2) and sync_file_range(2), given as functions of a descriptor that raise OSError.

    `start_writing` and `finish_writing` are None where the system has none; `keeps_order` says of a device (st_dev)
    whether its file system keeps the order of the module's first lines.
    """

    def __init__(
        self,
        syncfs: "Callable[[int], None]",
        start_writing: "Callable[[int], None] | None" = None,
        finish_writing: "Callable[[int], None] | None" = None,
        keeps_order: "Callable[[int], bool]" = lambda device: False,
        clock: "Clock | None" = None,
    ) -> None:
        self._syncfs, self._start, self._finish = syncfs, start_writing, finish_writing
        self._keeps_order = keeps_order
        self._clock = clock or Clock()
        self._ordered: dict[int, tuple[float, bool]] = {}  # by device: until when that is believed
        self._devices: dict[bytes, int] = {}  # of directories; each file is looked at itself

    def sync(self, paths: "Sequence[bytes]") -> None:
        """Returns when all of these are durable: one wait for each file system. Raises OSError."""
        for group in _by_device(paths):
            descriptor = os.open(group[0], _READ)
            try:
                if len(group) == 1:
                    os.fsync(descriptor)
                else:
                    self._syncfs(descriptor)
            finally:
                os.close(descriptor)

    def write_out(self, files: "Sequence[bytes]", directories: "Sequence[bytes]", before: bytes) -> bool:
        """Has what these files hold written, if they and these directories are on the file system of the directory
        `before` and that keeps order: then no name made or removed there from now on is found after a power cut without
        what is in them and what was done to names before. False: it does not, or these are too many, and nothing is
        promised. Raises OSError.
        """
        if self._start is None or self._finish is None or len(files) > _WRITE_OUT_MAX:
            return False
        device = self._device(before)
        if not self._is_ordered(device) or any(self._device(directory) != device for directory in directories):
            return False
        descriptors: list[int] = []
        try:
            for path in files:
                descriptors.append(os.open(path, _READ))
                if os.fstat(descriptors[-1]).st_dev != device:
                    return False
            for descriptor in descriptors[1:]:  # all are under way before one is waited for
                self._start(descriptor)
            for descriptor in descriptors:
                self._finish(descriptor)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return False
            raise
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _device(self, directory: bytes) -> int:
        device = self._devices.get(directory)
        if device is None:
            if len(self._devices) >= _DEVICES_MAX:
                self._devices.clear()
            device = self._devices[directory] = os.stat(directory or b".").st_dev
        return device

    def _is_ordered(self, device: int) -> bool:
        until_s, is_ordered = self._ordered.get(device, (0.0, False))
        now_s = self._clock.steady_s()
        if now_s >= until_s:  # another file system may have got the number
            is_ordered = self._keeps_order(device)
            self._ordered[device] = now_s + _BELIEVED_S, is_ordered
        return is_ordered


def load_bulk_sync() -> BulkSync | None:
    """This machine's, or None where syncfs(2) is missing or reports no errors: then each path is synced by itself."""
    try:
        release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    except ValueError:
        return None
    if os.uname().sysname != "Linux" or release < _SYNCFS_REPORTS_ERRORS:
        return None
    import ctypes  # not free to import: only residents come here

    library = ctypes.CDLL(None, use_errno=True)
    number, offset, flags = ctypes.c_int, ctypes.c_int64, ctypes.c_uint
    syncfs = _raising(library.syncfs, [number], ())
    try:
        write = library.sync_file_range
    except AttributeError:
        return BulkSync(syncfs)
    types = [number, offset, offset, flags]
    return BulkSync(
        syncfs, _raising(write, types, (0, 0, _START)), _raising(write, types, (0, 0, _FINISH)), ext4_keeps_order
    )


def _raising(
    function: "ctypes._NamedFuncPointer", types: "Sequence[type]", rest: tuple[int, ...]
) -> "Callable[[int], None]":
    """`function(descriptor, *rest)` of the C library; -1 becomes an OSError."""
    import ctypes

    def call(descriptor: int) -> None:
        if function(descriptor, *rest) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    function.argtypes = types
    return call


def ext4_keeps_order(device: int, proc: str = "/proc/fs", sys: str = "/sys/dev/block") -> bool:
    """Whether this device (st_dev) holds an ext4 with its journal inside, data=ordered and barriers in use.

    False for everything else, and where it cannot be seen. With journal_async_commit ext4 does not wait for the data;
    an external journal has a device of its own, whose commits do not carry our data along. fast_commit, nobody's
    default, is another kind of journal (and Linux 6.18 could not always read it after a cut: tests/power).
    """
    try:
        name = os.path.basename(os.readlink(f"{sys}/{os.major(device)}:{os.minor(device)}"))
        options = set(_words(f"{proc}/ext4/{name}/options"))
        journals = os.listdir(f"{proc}/jbd2")
        fast_commits = _words(f"{proc}/ext4/{name}/fc_info")[2:3]  # behind "fc stats:"; Linux before 5.10 has none
    except FileNotFoundError as missing:
        if not str(missing.filename).endswith("/fc_info"):
            return False
        fast_commits = []
    except OSError:
        return False
    inside = any(journal.startswith(name + "-") and journal[len(name) + 1 :].isdigit() for journal in journals)
    usual = {b"rw", b"data=ordered", b"barrier"} <= options and fast_commits in ([], [b"0"])
    return inside and usual and not {b"journal_async_commit", b"fc_debug_force"} & options


def _words(path: str) -> list[bytes]:
    with open(path, "rb") as file:  # bytes: a worker that is a user may be unable to import a codec
        return file.read().split()


def _by_device(paths: "Sequence[bytes]") -> "Iterable[list[bytes]]":
    groups: dict[int, list[bytes]] = {}
    for path in paths:
        groups.setdefault(os.stat(path or b".").st_dev, []).append(path)
    return groups.values()
