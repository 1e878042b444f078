"""Writing a message into a Maildir or an mbox file (maildir(5), mbox(5)).

Promise of both: when they say it is done, a power cut cannot undo it. Every failure is temporary.

A Maildir message is written whole under tmp/, made durable, linked into new/ under the same name, and the entry
in new/ made durable. Many messages take these steps together, so that they share two waits for the disk. Names
hold time, microsecond, process, count and host: they do not repeat, so nobody waits for a free one.

An mbox is appended in place under flock(2); when writing fails while we hold the lock, the file is cut back to
what it was. A power cut or a kill in the middle may leave the beginning of a message as its last one: only of a message
that is not delivered yet and comes again. The next one begins behind an empty line, whatever the file ended in.
"""

import errno
import os
import signal

from notqmail.message.mbox import quote_from_lines
from notqmail.unix.durable import Disk, WriteFailed
from notqmail.unix.errors import error_text, is_temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType

    from notqmail.unix.clock import Clock
    from notqmail.unix.durable import SharedFile

CHUNK_BYTES = 65_536
_MBOX_TRIES = 20  # times that an mbox may be replaced while we wait for its lock
LOCK_WAIT_S = 30.0
MAILDIR_WAIT_S = 86_400.0
_NAME_TRIES = 3
_NO_SUCH_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ESTALE)

_NO_MAILDIR = b"Unable to chdir to maildir. (#4.2.1)"
_CANNOT_READ = b"Unable to read message. (#4.3.0)"
_TIMED_OUT = b"Timeout on maildir delivery. (#4.3.0)"
_TROUBLE = b"Temporary error on maildir delivery. (#4.3.0)"
_SLOW_LOCK = b"File has been locked for 30 seconds straight. (#4.3.0)"


class MessageUnreadable(Exception):
    """The message file cannot be read; `error` says why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class DeliveryFailed(Exception):
    """The mailbox does not have the message, try later; `text` is for the report."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


class TimedOut(Exception):
    """The time that `within` gave is over."""


class Message:
    """The message file: an open descriptor of which the first CHUNK_BYTES are in memory already.

    It is read by position, so the offset that programs see on descriptor 0 stays where it is.
    """

    __slots__ = ("descriptor", "head")

    def __init__(self, descriptor: int) -> None:
        """Reads the beginning. Raises MessageUnreadable."""
        self.descriptor = descriptor
        self.head = self._read(0)

    def _read(self, position: int) -> bytes:
        try:
            return os.pread(self.descriptor, CHUNK_BYTES, position)
        except OSError as error:
            raise MessageUnreadable(error) from error

    @property
    def is_short(self) -> bool:
        """Whether `head` is all of it."""
        return len(self.head) < CHUNK_BYTES

    def chunks(self) -> "Iterator[bytes]":
        """The whole message in pieces. Raises MessageUnreadable."""
        yield self.head
        if self.is_short:
            return
        position = len(self.head)
        while chunk := self._read(position):
            yield chunk
            position += len(chunk)


class within:
    """`with within(seconds):` raises TimedOut in the block when it lasts longer. For a process without threads."""

    __slots__ = ("_before", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, _ring)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)


def _ring(_number: int, _frame: "FrameType | None") -> None:
    raise TimedOut


# -- Maildir ---------------------------------------------------------------------------------------------------


class UniqueNames:
    """Names for Maildir files: `TIME.M<usec>P<pid>Q<count>.HOST`. One for each process, made after its fork."""

    __slots__ = ("_clock", "_count", "_host", "_pid")

    def __init__(self, clock: "Clock", *, pid: int | None = None, host: bytes | None = None) -> None:
        self._clock, self._count = clock, 0
        self._pid = os.getpid() if pid is None else pid
        name = os.fsencode(os.uname().nodename) if host is None else host
        # A slash would be a directory and a colon begins the flags (maildir(5)).
        self._host = name.replace(b"/", b"\\057").replace(b":", b"\\072")

    def next(self) -> bytes:
        """A name this process has not given before, nor any other with its pid, host and microsecond."""
        self._count += 1
        seconds, microseconds = divmod(self._clock.now_us(), 1_000_000)
        return b"%d.M%dP%dQ%d.%b" % (seconds, microseconds, self._pid, self._count, self._host)


class MaildirJob:
    """One message for one Maildir: `directory` is absolute and ends in a slash, `top` goes before the message."""

    __slots__ = ("directory", "message", "top")

    def __init__(self, directory: bytes, top: bytes, message: Message) -> None:
        self.directory, self.top, self.message = directory, top, message

    def content(self) -> "Iterable[bytes]":
        """The file's bytes in pieces."""
        if self.message.is_short:
            return (self.top + self.message.head,)
        return self._pieces()

    def _pieces(self) -> "Iterator[bytes]":
        yield self.top
        yield from self.message.chunks()


def can_enter(directory: bytes) -> bool:
    """False when the directory is missing or closed to us for good; a passing trouble counts as yes."""
    try:
        os.stat(directory + b".")
    except OSError as error:
        return is_temporary(error)
    return True


def deliver_batch(
    jobs: "Sequence[MaildirJob]", disk: Disk, names: UniqueNames, enter: "Callable[[bytes], bool]" = can_enter
) -> list[bytes | None]:
    """For each job None, and then the message is durable in new/, or the text of a temporary failure.

    One job's failure leaves the others alone; a failed sync fails all that were in it.
    """
    results: list[bytes | None] = [None] * len(jobs)
    written: list[tuple[int, bytes]] = []
    for number, job in enumerate(jobs):
        try:
            written.append((number, _write_under_tmp(job, disk, names)))
        except MessageUnreadable:
            results[number] = _CANNOT_READ
        except OSError:
            results[number] = _TROUBLE if enter(job.directory) else _NO_MAILDIR
        except TimedOut:
            results[number] = _TIMED_OUT
    if written:
        _move_to_new(jobs, written, disk, results)
    return results


def _write_under_tmp(job: MaildirJob, disk: Disk, names: UniqueNames) -> bytes:
    """The name under which it is now in tmp/. `Disk.create` leaves no file behind when it raises."""
    for attempt in range(_NAME_TRIES):
        name = names.next()
        try:
            disk.create(job.directory + b"tmp/" + name, job.content())
            break
        except FileExistsError:
            if attempt == _NAME_TRIES - 1:
                raise
    return name


def _move_to_new(
    jobs: "Sequence[MaildirJob]", written: "list[tuple[int, bytes]]", disk: Disk, results: "list[bytes | None]"
) -> None:
    def keep_files(some: "list[tuple[int, bytes]]") -> None:
        # A link into new/ can only be made on the file system of tmp/.
        files = [jobs[number].directory + b"tmp/" + name for number, name in some]
        disk.barrier(files, [], before=jobs[some[0][0]].directory + b"tmp")

    def keep_names(some: "list[tuple[int, bytes]]") -> None:
        disk.sync(list(dict.fromkeys([jobs[number].directory + b"new" for number, _name in some])))

    try:
        try:
            linked = _link(jobs, _all_or_each(keep_files, written), disk, results)
        finally:
            for number, name in written:
                _unlink_tmp(disk, jobs[number].directory + b"tmp/" + name)
        durable = {number for number, _name in _all_or_each(keep_names, linked)}
    except (OSError, TimedOut) as error:
        durable = set()
        for number, _name in written:
            results[number] = _TIMED_OUT if isinstance(error, TimedOut) else _TROUBLE
    for number, _name in written:
        if number not in durable and results[number] is None:
            results[number] = _TROUBLE


def _all_or_each(
    step: "Callable[[list[tuple[int, bytes]]], None]", entries: "list[tuple[int, bytes]]"
) -> "list[tuple[int, bytes]]":
    """Those for which the step could be done: for all at once, or for each by itself where one of their Maildirs has
    gone meanwhile. Raises OSError for what concerns the disk: then nothing is certain of any.
    """
    if not entries:
        return []
    try:
        step(entries)
        return entries
    except OSError as error:
        if error.errno not in _NO_SUCH_PLACE:
            raise
    if len(entries) == 1:
        return []
    return [entry for entry in entries if _all_or_each(step, [entry])]


def _link(
    jobs: "Sequence[MaildirJob]", written: "list[tuple[int, bytes]]", disk: Disk, results: "list[bytes | None]"
) -> "list[tuple[int, bytes]]":
    linked = []
    for number, name in written:
        directory = jobs[number].directory
        try:
            disk.link(directory + b"tmp/" + name, directory + b"new/" + name)
            linked.append((number, name))
        except OSError:
            results[number] = _TROUBLE
    return linked


def _unlink_tmp(disk: Disk, path: bytes) -> None:
    try:
        disk.unlink(path)
    except OSError:
        pass  # a name left in tmp/ holds no mail back: mail readers sweep it after 36 hours


# -- mbox ------------------------------------------------------------------------------------------------------


def deliver_mbox(path: bytes, top: bytes, message: Message, disk: Disk, *, lock_wait_s: float = LOCK_WAIT_S) -> bool:
    """Appends the message to the mbox `path`; `top` is UFLINE, RPLINE and DTLINE. Raises DeliveryFailed.

    Returns whether the file had ended in the middle of a line: what some crash has cut short there stays, and is now
    separated from this message.
    """
    for _ in range(_MBOX_TRIES):
        try:
            file = disk.open_shared(path)
        except OSError as error:
            raise DeliveryFailed(b"Unable to open %b: %b. (#4.2.1)" % (path, error_text(error))) from error
        try:
            locked = _lock(file, lock_wait_s)
            if file.has_its_name():
                return _append(file, path, top, message, disk, locked=locked)
        finally:
            file.close()
    raise DeliveryFailed(b"%b is replaced again and again. (#4.2.1)" % path)


def _lock(file: "SharedFile", wait_s: float) -> bool:
    """Whether we hold the lock; where the file system knows none, delivery goes on without, as in C."""
    try:
        with within(wait_s):
            file.lock()
    except TimedOut:
        raise DeliveryFailed(_SLOW_LOCK) from None
    except OSError:
        return False
    return True


def _append(file: "SharedFile", path: bytes, top: bytes, message: Message, disk: Disk, *, locked: bool) -> bool:
    end: int | None = None
    try:
        end, last_bytes = file.end()
        for piece in _large_pieces(_mbox_text(_separation(last_bytes) + top, message)):
            file.write(piece)
        file.sync()
        _sync_name(file, path, disk)
    except (OSError, MessageUnreadable) as error:
        if locked and end is not None:
            file.cut_back(end)
        if isinstance(error, MessageUnreadable):
            text = b"Unable to read message: %b. (#4.3.0)" % error_text(error.error)
        else:
            text = b"Unable to write %b: %b. (#4.3.0)" % (path, error_text(error))
        raise DeliveryFailed(text) from error
    return last_bytes[-1:] not in (b"", b"\n")


def _separation(last_bytes: bytes) -> bytes:
    """What makes a file that ends in these bytes end in an empty line, where a From_ line may begin (mbox(5))."""
    if last_bytes in (b"", b"\n\n"):
        return b""
    return b"\n" if last_bytes.endswith(b"\n") else b"\n\n"


def _mbox_text(top: bytes, message: Message) -> "Iterator[bytes]":
    yield top
    last = b"\n"
    for piece in quote_from_lines(message.chunks()):
        yield piece
        last = piece[-1:] or last
    yield b"\n" if last == b"\n" else b"\n\n"


def _large_pieces(pieces: "Iterable[bytes]") -> "Iterator[bytes]":
    """The same in pieces of CHUNK_BYTES or more: a short message is one write, which a kill does not tear."""
    pending: list[bytes] = []
    size = 0
    for piece in pieces:
        pending.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield b"".join(pending)
            pending, size = [], 0
    yield b"".join(pending)


def _sync_name(file: "SharedFile", path: bytes, disk: Disk) -> None:
    """Without this a power cut could take a young file away whole. Who made it may have died before doing this."""
    try:
        disk.sync([os.path.dirname(path) or b"."])
    except WriteFailed as error:
        if file.is_new or error.errno != errno.EACCES:
            raise
        # A directory that we may not open, and a file that was there before us: it is its maker's affair.
