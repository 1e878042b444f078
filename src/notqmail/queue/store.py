"""The queue as qmail-send sees it: messages with a number, whose recipients wait in two channels.

This is the small interface a site could back with something else; here it is qmail's directory (layout.py). Every
method is one step of a message's life, named after what it means. What must be durable before the next step is
said in each docstring; the crash tests cut the power between any two.
"""

from notqmail.queue.layout import SPLIT, number_of, split_directory, split_path
from notqmail.queue.ledger import ENDED, Journal, sum_up_here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from notqmail.queue.ledger import SumUp
    from notqmail.unix.durable import Disk, FileState

LOCAL, REMOTE = b"local", b"remote"
CHANNELS = (LOCAL, REMOTE)
_INFO_SENDER = b"F"
_DIGITS_MAX = 20


class BadRecord(Exception):
    """A queue file does not say what it should; `path` is the file."""

    def __init__(self, path: bytes) -> None:
        super().__init__(f"unknown record type in {path!r}")
        self.path = path


class Accepted:
    """What todo/N says: who queued it (`uid`, `pid`), the sender, the recipients as they were given."""

    __slots__ = ("number", "pid", "recipients", "sender", "size", "uid")

    def __init__(self, number: int, uid: int, pid: int, sender: bytes, recipients: list[bytes], size: int) -> None:
        self.number, self.uid, self.pid, self.size = number, uid, pid, size
        self.sender, self.recipients = sender, recipients


class Waiting:
    """A preprocessed message found at start-up: when each channel is due (absent: that channel is finished)."""

    __slots__ = ("due_s", "number")

    def __init__(self, number: int, due_s: "Mapping[bytes, int]") -> None:
        self.number, self.due_s = number, due_s


class QueueStore:
    """qmail's queue directory. All methods raise OSError (WriteFailed) when the disk does not do it.

    `ledger` is the journal of what becomes of the messages (ledger.py); `sum_up` makes sums of old ones.
    """

    def __init__(self, disk: "Disk", sum_up: "SumUp" = sum_up_here) -> None:
        self._disk = disk
        self.ledger = Journal(disk, ENDED, sum_up)

    # ── S4: accepted ────────────────────────────────────────────────────────────────────────────────────

    def accepted_numbers(self) -> "Iterator[int]":
        """The messages in todo, bit by bit; strange names are left alone."""
        for name in self._disk.each_name(b"todo"):
            number = number_of(name)
            if number is not None:
                yield number

    def read_accepted(self, number: int) -> Accepted:
        """What is known of a message in todo. Raises BadRecord as well."""
        path = b"todo/%d" % number
        uid = pid = 0
        sender: bytes | None = None
        recipients = []
        records = self._disk.read(path).split(b"\0")
        for record in records[:-1]:  # what follows the last NUL was never ended, so it is no record
            letter, value = record[:1], record[1:]
            if letter == b"T":
                recipients.append(value)
            elif letter == b"F":
                sender = value
            elif letter == b"u" and _is_number(value):
                uid = int(value)
            elif letter == b"p" and _is_number(value):
                pid = int(value)
            elif letter not in (b"u", b"p"):
                raise BadRecord(path)
        if sender is None:
            raise BadRecord(path)
        mess = self.message_state(number)
        if mess is None:
            raise FileNotFoundError(2, "no message", split_path(b"mess", number))
        return Accepted(number, uid, pid, sender, recipients, mess.size)

    def write_preprocessed(
        self, number: int, sender: bytes, recipients: "Mapping[bytes, Sequence[bytes]]", birth_s: int
    ) -> list[bytes]:
        """info, local and remote of S5 beside todo, from scratch; what an earlier try left goes first.

        Returns the files for `keep_preprocessed`; only after that may `todo/N` go to qmail-clean.
        """
        for kind in (LOCAL, REMOTE, b"info"):
            self._disk.discard(split_path(kind, number))
        self._disk.discard(b"bounce/%d" % number)  # of a life before a power cut: its recipients are tried anew
        files: list[bytes] = []
        info = split_path(b"info", number)
        try:
            for channel, addresses in recipients.items():
                path = split_path(channel, number)
                self._disk.create(path, (b"".join([b"T%b\0" % address for address in addresses]),))
                files.append(path)
            self._disk.create(info, (b"F%b\0" % sender,))
            self._disk.set_modified(info, birth_s)
        except OSError:
            for path in (*files, info):  # it may end straight from todo, and these would stay for ever
                self._disk.discard(path)
            raise
        return [*files, info]

    def keep_preprocessed(self, files: "Sequence[bytes]") -> None:
        """From now on todo/N may go: what `write_preprocessed` wrote, and the ledger's lines of it, are found wherever
        its absence is, and nothing else says which message this is.
        """
        try:
            self.ledger.flush()
        except OSError:
            pass  # its lines wait, and mail does not wait for them (send/books.py)
        directories = sorted({path[: path.rindex(b"/")] for path in files})
        self._disk.barrier([*files, *self._ledger_path()], directories, before=b"todo")

    # ── S5: preprocessed ────────────────────────────────────────────────────────────────────────────────

    def waiting(self) -> "Iterator[Waiting]":
        """All preprocessed messages, at start-up; one that is still in todo will be preprocessed again instead.

        A channel file's mtime is when it is due: now or in the past, but after a clean exit.
        """
        in_todo = set(self.accepted_numbers())
        for part in range(SPLIT):
            present = {
                channel: {number_of(name) for name in self._disk.names(b"%b/%d" % (channel, part))}
                for channel in CHANNELS
            }
            for name in self._disk.names(b"info/%d" % part):
                number = number_of(name)
                if number is None or number % SPLIT != part or number in in_todo:
                    continue
                due_s = {}
                for channel in CHANNELS:
                    if number in present[channel]:
                        state = self._disk.state(split_path(channel, number))
                        if state is not None:
                            due_s[channel] = state.modified_s
                yield Waiting(number, due_s)

    def birth_and_sender(self, number: int) -> tuple[int, bytes]:
        """When the message was first seen (info's mtime, so `touch` rejuvenates it) and its sender.

        Raises BadRecord, FileNotFoundError.
        """
        path = split_path(b"info", number)
        state = self._disk.state(path)
        if state is None:
            raise FileNotFoundError(2, "no info", path)
        record = self._disk.read(path).split(b"\0", 1)[0]
        if record[:1] != _INFO_SENDER:
            raise BadRecord(path)
        return state.modified_s, record[1:]

    def recipients(self, number: int, channel: bytes) -> bytes:
        """The channel file: records `T` (to do) or `D` (done), address, NUL."""
        return self._disk.read(split_path(channel, number))

    def mark_done(self, number: int, channel: bytes, offset: int) -> None:
        """This recipient is finished. Not synced: after a power cut it may be delivered again, never forgotten."""
        self._disk.write_at(split_path(channel, number), offset, b"D")

    def channel_done(self, number: int, channel: bytes) -> None:
        """Nobody waits in this channel any more."""
        self._disk.discard(split_path(channel, number))

    def save_due(self, number: int, channel: bytes, due_s: int) -> None:
        """Remembers over a restart when the channel is due."""
        self._disk.set_modified(split_path(channel, number), due_s)

    # ── bounces ─────────────────────────────────────────────────────────────────────────────────────────

    def append_bounces(self, paragraphs: "Iterable[tuple[int, bytes]]") -> None:
        """Failure texts, durable on return: only then may their recipients be marked done, or the sender might
        never hear of it.
        """
        paths = [b"bounce", *self._ledger_path()]
        for number, paragraph in paragraphs:
            path = b"bounce/%d" % number
            self._disk.append_whole(path, paragraph)
            paths.append(path)
        self._disk.sync(paths)

    def has_bounce(self, number: int) -> bool:
        """Whether somebody could not be reached. A file without a text was begun on a full disk, or before a crash."""
        state = self._disk.state(b"bounce/%d" % number)
        if state is not None and state.size == 0:
            self.bounce_done(number)
            return False
        return state is not None

    def bounce_chunks(self, number: int) -> "Iterator[bytes]":
        """The failure texts. NULs in their place are from a power cut, which leaves a size without the text for it."""
        return (chunk.replace(b"\0", b"") for chunk in self._disk.read_chunks(b"bounce/%d" % number))

    def message_chunks(self, number: int) -> "Iterator[bytes]":
        """The message."""
        return self._disk.read_chunks(split_path(b"mess", number))

    def bounce_done(self, number: int) -> None:
        """The bounce is queued, or must not be: forget the texts."""
        self._disk.discard(b"bounce/%d" % number)

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────

    def forget(self, number: int) -> None:
        """Removes info. The message file may go (qmail-clean's `foop`) only after `keep_ended`."""
        self._disk.discard(split_path(b"info", number))

    def has_leftovers(self, number: int) -> bool:
        """Whether a message in todo has files that an earlier, unfinished settling left beside it."""
        paths = [split_path(kind, number) for kind in (b"info", LOCAL, REMOTE)]
        return any(self._disk.state(path) is not None for path in (*paths, b"bounce/%d" % number))

    def forget_leftovers(self, number: int) -> None:
        """What a power cut may have left of a message without info and todo; then as after `forget`."""
        for channel in CHANNELS:
            self._disk.discard(split_path(channel, number))
        self._disk.discard(b"bounce/%d" % number)

    def keep_ended(self, numbers: "Iterable[int]") -> None:
        """From now on these messages' files may go: wherever they are not found, none of their other names is.

        Their number is an inode number and will be somebody else's: if after a power cut an old info or todo
        came back beside a new message, that one would go to the old one's recipients.
        """
        directories = {b"todo", b"intd", b"bounce"}
        for number in numbers:
            directories |= {split_directory(kind, number) for kind in (LOCAL, REMOTE, b"info")}
        self._disk.barrier(self._ledger_path(), sorted(directories), before=b"mess")

    def _ledger_path(self) -> list[bytes]:
        """The journal, where one is kept: it becomes durable with what it tells of."""
        return [self.ledger.path] if self.ledger.kept else []

    # ── cleaning ────────────────────────────────────────────────────────────────────────────────────────

    def message_numbers(self) -> "Iterator[int]":
        """All message files there are, bit by bit."""
        for part in range(SPLIT):
            for name in self._disk.each_name(b"mess/%d" % part):
                number = number_of(name)
                if number is not None and number % SPLIT == part:
                    yield number

    def message_state(self, number: int) -> "FileState | None":
        """The message file's size and times."""
        return self._disk.state(split_path(b"mess", number))

    def is_accepted(self, number: int) -> bool:
        """Whether the message is in todo."""
        return self._disk.state(b"todo/%d" % number) is not None

    def undone(self, number: int) -> int | None:
        """How many recipients wait in S5; None when there is no such message."""
        if self._disk.state(split_path(b"info", number)) is None:
            return None
        count = 0
        for channel in CHANNELS:
            if self._disk.state(split_path(channel, number)) is not None:
                records = self.recipients(number, channel).split(b"\0")
                count += sum(record[:1] == b"T" for record in records)
        return count

    def is_known(self, number: int) -> bool:
        """Whether the message is accepted or preprocessed."""
        return any(self._disk.state(path) for path in (split_path(b"info", number), b"todo/%d" % number))


def _is_number(value: bytes) -> bool:
    """Digits, and not so many that nobody wrote them in earnest."""
    return value.isdigit() and len(value) <= _DIGITS_MAX
