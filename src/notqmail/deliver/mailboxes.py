"""Writing a message into a Maildir or an mbox file (maildir(5), mbox(5)).

Promise of both: when they say it is done, a power cut cannot undo it. Every failure is temporary.

A Maildir message is written whole under tmp/, made durable, linked into new/ under the same name, and the entry
in new/ made durable. Many messages take these steps together, so that they share two waits for the disk. Names
hold time, microsecond, process, count and host: they do not repeat, so nobody waits for a free one.

An mbox is appended in place under flock(2). That cannot be made safe against a power cut in the middle; when
writing fails while we hold the lock, the file is cut back to what it was.
"""

import errno
import fcntl
import os
import signal

from notqmail.unix.durable import Disk
from notqmail.unix.errors import error_text, is_temporary
from notqmail.unix.processes import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType

    from notqmail.unix.clock import Clock

CHUNK_BYTES = 65_536
LOCK_WAIT_S = 30.0
MAILDIR_WAIT_S = 86_400.0
_NAME_TRIES = 3

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
    try:
        try:
            disk.sync([jobs[number].directory + b"tmp/" + name for number, name in written])
            linked = _link(jobs, written, disk, results)
        finally:
            for number, name in written:
                _unlink_tmp(disk, jobs[number].directory + b"tmp/" + name)
        if linked:
            disk.sync(list(dict.fromkeys([jobs[number].directory + b"new" for number in linked])))
    except (OSError, TimedOut) as error:
        for number, _name in written:
            results[number] = _TIMED_OUT if isinstance(error, TimedOut) else _TROUBLE


def _link(
    jobs: "Sequence[MaildirJob]", written: "list[tuple[int, bytes]]", disk: Disk, results: "list[bytes | None]"
) -> list[int]:
    linked = []
    for number, name in written:
        directory = jobs[number].directory
        try:
            disk.link(directory + b"tmp/" + name, directory + b"new/" + name)
            linked.append(number)
        except OSError:
            results[number] = _TROUBLE
    return linked


def _unlink_tmp(disk: Disk, path: bytes) -> None:
    try:
        disk.unlink(path)
    except OSError:
        pass  # a name left in tmp/ holds no mail back: mail readers sweep it after 36 hours


# -- mbox ------------------------------------------------------------------------------------------------------


def quote_from_lines(chunks: "Iterable[bytes]") -> "Iterator[bytes]":
    """The same text with one more `>` before every line that is `>`s and then `From ` (mboxrd), in any pieces."""
    carry = b""
    at_start = True  # of the current line nothing but `>`s has been given out, and carry
    for chunk in chunks:
        data = carry + chunk
        given = 0
        place = data.find(b"From ")
        while place >= 0:
            line = place  # becomes where the `>`s before it begin
            while line > given and data[line - 1] == 0x3E:
                line -= 1
            if (line == 0 and at_start) or (line > 0 and data[line - 1] == 0x0A):
                yield data[given:place] + b">"
                given = place
            place = data.find(b"From ", place + 5)
        last = data.rfind(b"\n") + 1
        tail = data[last:].lstrip(b">")
        at_start = (last > 0 or at_start) and len(tail) < 5 and b"From ".startswith(tail)
        carry = tail if at_start else b""
        yield data[given : len(data) - len(carry)]
    yield carry


def deliver_mbox(path: bytes, top: bytes, message: Message, *, lock_wait_s: float = LOCK_WAIT_S) -> None:
    """Appends the message to the mbox `path`; `top` is UFLINE, RPLINE and DTLINE. Raises DeliveryFailed."""
    try:
        descriptor, is_new = _open_for_append(path)
    except OSError as error:
        raise DeliveryFailed(b"Unable to open %b: %b. (#4.2.1)" % (path, error_text(error))) from error
    try:
        locked = _lock(descriptor, lock_wait_s)
        _append(descriptor, path, top, message, locked=locked)
        if is_new:
            _sync_directory_of(path)
    finally:
        os.close(descriptor)


def _open_for_append(path: bytes) -> tuple[int, bool]:
    """(descriptor, whether we made the file). O_NONBLOCK: a FIFO without a reader must not hold us."""
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(path, flags), False
    except FileNotFoundError:
        return os.open(path, flags | os.O_CREAT, 0o600), True


def _lock(descriptor: int, wait_s: float) -> bool:
    """Whether we hold the lock; where the file system knows none, delivery goes on without, as in C."""
    try:
        with within(wait_s):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except TimedOut:
        raise DeliveryFailed(_SLOW_LOCK) from None
    except OSError:
        return False
    return True


def _append(descriptor: int, path: bytes, top: bytes, message: Message, *, locked: bool) -> None:
    end = _end_of(descriptor)
    try:
        write_all(descriptor, top)
        last = b"\n"
        for piece in quote_from_lines(message.chunks()):
            write_all(descriptor, piece)
            last = piece[-1:] or last
        write_all(descriptor, b"\n" if last == b"\n" else b"\n\n")
        os.fsync(descriptor)  # not by unix/durable.py: the lock is on this descriptor, and so is the file we mean
    except (OSError, MessageUnreadable) as error:
        if locked:
            _cut_back(descriptor, end)
        if isinstance(error, MessageUnreadable):
            text = b"Unable to read message: %b. (#4.3.0)" % error_text(error.error)
        else:
            text = b"Unable to write %b: %b. (#4.3.0)" % (path, error_text(error))
        raise DeliveryFailed(text) from error


def _end_of(descriptor: int) -> int:
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    except OSError as error:
        if error.errno != errno.ESPIPE:
            raise
        return 0  # a FIFO or a terminal has no end; there is nothing to cut back either


def _cut_back(descriptor: int, end: int) -> None:
    try:
        os.ftruncate(descriptor, end)
    except OSError:
        pass  # no regular file, or a disk too broken for it: the report says that writing failed


def _sync_directory_of(path: bytes) -> None:
    """Without this a power cut could take the new file away whole."""
    try:
        Disk().sync([os.path.dirname(path) or b"."])
    except OSError as error:
        raise DeliveryFailed(b"Unable to write %b: %b. (#4.3.0)" % (path, error_text(error))) from error
