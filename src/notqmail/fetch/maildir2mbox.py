"""maildir2mbox: the messages of a Maildir, the oldest first, moved to the end of an mbox.

The order of the steps is the promise. Old mbox and messages are written to a new file; it is made durable, takes the
mbox's name, and that name is made durable; only then are the messages removed. So whatever happens, each message is in
one of the two places, after a crash perhaps in both. The mbox is locked (flock(2)) while this goes on.
"""

import fcntl
import os

from notqmail.fetch import maildir
from notqmail.message.mbox import from_line_of_stored, quote_from_lines
from notqmail.unix.durable import WriteFailed
from notqmail.unix.errors import error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from notqmail.unix.durable import Disk

FIRST_LINE_MAX = 65_536  # bytes of a first line that may be a Return-Path; a longer one is none


class Failed(Exception):
    """Nothing of the Maildir was removed; `text` is for the person: what could not be done, and why."""

    def __init__(self, doing: bytes, error: OSError) -> None:
        super().__init__(doing, error)
        self.text = b"unable to " + doing + b": " + error_text(error)


def move(
    disk: "Disk", now_s: int, mbox: bytes, new_mbox: bytes,
    lock: "Callable[[bytes], int]", warn: "Callable[[bytes], None]",
) -> None:  # fmt: skip
    """Moves all there is. `disk` has the Maildir for a root, so paths that are not absolute begin there.

    `lock` gives a descriptor to close when done (see `lock_file`). `warn` hears of messages that could not be removed.
    Raises Failed, or what the disk raises for a power cut.
    """
    maildir.sweep(disk, now_s)
    try:
        messages = maildir.messages(disk, now_s)
    except maildir.CannotList as failed:
        raise Failed(b"scan $MAILDIR/" + failed.directory, failed.error) from failed
    if not messages:
        return
    try:
        descriptor = lock(mbox)
    except OSError as error:
        raise Failed(b"lock " + mbox, error) from error
    try:
        _write(disk, messages, mbox, new_mbox)
        _replace(disk, mbox, new_mbox)
    finally:
        os.close(descriptor)
    for message in messages:
        try:
            disk.unlink(message.path)
        except OSError as error:
            warn(b"$MAILDIR/%b will be delivered twice; unable to unlink: %b" % (message.path, error_text(error)))


def lock_file(path: bytes) -> int:
    """A descriptor of the file that has this name once its lock is ours; made when missing. Raises OSError.

    Who waited for the lock may get that of a file which another of us has replaced meanwhile: then again.
    """
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_named(descriptor, path):
                kept, descriptor = descriptor, -1
                return kept
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def _is_named(descriptor: int, path: bytes) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _write(disk: "Disk", messages: "list[maildir.Stored]", mbox: bytes, new_mbox: bytes) -> None:
    try:
        disk.discard(new_mbox)
        disk.create(new_mbox, _content(disk, messages, mbox))
        disk.sync([new_mbox])
    except WriteFailed as error:
        raise Failed(b"write to " + new_mbox, error) from error
    except OSError as error:
        raise Failed(b"create " + new_mbox, error) from error


def _replace(disk: "Disk", mbox: bytes, new_mbox: bytes) -> None:
    try:
        disk.rename(new_mbox, mbox)
        disk.sync([os.path.dirname(mbox) or b"."])
    except OSError as error:
        raise Failed(b"move " + new_mbox + b" to " + mbox, error) from error


def _content(disk: "Disk", messages: "list[maildir.Stored]", mbox: bytes) -> "Iterator[bytes]":
    end = b""
    for chunk in _read(disk, mbox, mbox):
        yield chunk
        end = (end + chunk[-2:])[-2:]
    # A From_ line needs an empty line before it; some crash may have left the mbox in the middle of one.
    yield b"" if end in (b"", b"\n\n") else b"\n" if end.endswith(b"\n") else b"\n\n"
    for message in messages:
        yield from _entry(_read(disk, message.path, b"$MAILDIR/" + message.path), message.modified_s)


def _read(disk: "Disk", path: bytes, shown: bytes) -> "Iterator[bytes]":
    try:
        yield from disk.read_chunks(path)
    except OSError as error:
        raise Failed(b"read " + shown, error) from error


def _entry(chunks: "Iterator[bytes]", modified_s: int) -> "Iterator[bytes]":
    """One message of an mbox: From_ line, the text quoted, with a line end if it has none, and an empty line."""
    begin = b""
    for chunk in chunks:
        begin += chunk
        if b"\n" in chunk or len(begin) > FIRST_LINE_MAX:
            break
    yield from_line_of_stored(_whole_line(begin), modified_s)
    last = b"\n"
    for piece in quote_from_lines(_joined(begin, chunks)):
        yield piece
        last = piece[-1:] or last
    yield b"\n" if last == b"\n" else b"\n\n"


def _whole_line(begin: bytes) -> bytes:
    """The first line, or b"" when it has no end."""
    line, newline, _ = begin.partition(b"\n")
    return line if newline else b""


def _joined(begin: bytes, rest: "Iterator[bytes]") -> "Iterator[bytes]":
    yield begin
    yield from rest
