"""The ledger's journals: what was accepted, and what became of it, one short line for each event.

Two journals, each with one writing side: `ledger/accepted/current` is the queue's writers', `ledger/ended/current`
qmail-send's. They are kept where they exist (`notqmail init` makes them); C programs neither write nor mind them.

    accepted:  + N QP RECIPIENTS     written, and kept, before the message gets its name in todo
    ended:     n N QP RECIPIENTS     qmail-send has seen the message (again, after a crash before it was settled)
               s N                   a delivery to one recipient begins
               k N W / b N W / z N   ... has succeeded / has failed for good / is put off
               ? N W                 ... is put off and in doubt: nobody knows whether it has arrived
               u N W                 ... the same, and its time is over: failed for good
               m N COUNT             marked done before a crash whose line was lost
               ! N COUNT             under way when qmail-send or a spawner died: may arrive twice
               r N                   ... that failure could not be noted for the bounce: put off
               t N                   its failures could be told to nobody (triple bounce): discarded
               - N                   ended; kept before the message file goes
               start / stop          qmail-send has started / stopped with nothing under way

N is the message number, QP the number that people see, W the recipient (`which`), left out when it is 0. Lines wait in
memory until `flush`, once or twice a turn; they are in the page cache before the step they tell of, so only a power
cut can lose one, and then the next start sees it from the marks (`m`). What is flushed together stands between an empty
line and a line with a dot and a checksum: where the dot is missing, a power cut has torn the last line. A journal that
is full is put aside under a number; ledger_sums.py gives it its end. docs/adr/0017 and 0020 have the reasons,
ledger_book.py the arithmetic.
"""

from zlib import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from notqmail.unix.durable import Disk

    SumUp = Callable[[Disk, bytes], None]

ACCEPTED = b"ledger/accepted"
ENDED = b"ledger/ended"
JOURNAL_MAX = 16_777_216  # bytes; then the journal is put aside under a number and a new one begun
TOTALS = b"totals"
_LOOKS = 4  # at journals that are put aside or removed while they are read
_END_BYTES = 65_536
_DIGITS_MAX = 20


def which(channel: bytes, offset: int) -> int:
    """A recipient of a message as a number: its record in queue/local (even) or queue/remote (odd)."""
    return 2 * offset + (channel == b"remote")


def channel_and_offset(recipient: int) -> tuple[bytes, int]:
    """The inverse of `which`."""
    return (b"remote" if recipient & 1 else b"local"), recipient >> 1


def sum_up_here(disk: "Disk", directory: bytes) -> None:
    """The sums of what was put aside, made at once; a resident gives the work to a process apart (ledger_apart.py)."""
    from notqmail.queue.ledger_sums import sum_up

    sum_up(disk, directory)


class Journal:
    """One journal, for appending. Where its file does not exist it keeps nothing and costs nothing."""

    __slots__ = ("_disk", "_lines", "_names_to_sync", "_size", "_sum_up", "directory", "kept", "path")

    def __init__(self, disk: "Disk", directory: bytes, sum_up: "SumUp" = sum_up_here) -> None:
        """`sum_up` is what happens when a journal was put aside. Raises OSError when it is there and cannot be read."""
        self._disk, self.directory, self.path = disk, directory, directory + b"/current"
        self._sum_up = sum_up
        self._lines: list[bytes] = []
        self._names_to_sync: list[bytes] = []
        state = disk.state(self.path)
        self.kept = state is not None or has_older(disk, directory)
        self._size = state.size if state is not None else 0
        if self.kept and state is None:  # who put it aside has not begun a new one, or dies before it does
            self._names_to_sync = [self.path, directory]

    def note(self, line: bytes) -> None:
        """Remembers an event, for the next `flush`."""
        if self.kept:
            self._lines.append(line)

    def flush(self) -> None:
        """Appends what waits. Raises OSError; the lines then wait for the next time."""
        if not self._lines:
            return
        data = encode_group(self._lines)
        if self._size > JOURNAL_MAX:
            self._turn_over()
        if self.directory == ENDED:  # with one writer, who will write these lines again, half of them must not stay
            self._disk.append_whole(self.path, data)
        else:
            self._disk.append(self.path, data)
        self._size += len(data)
        self._lines.clear()
        if self._names_to_sync:
            self._disk.sync(self._names_to_sync)
            self._names_to_sync = []
            try:
                self._sum_up(self._disk, self.directory)
            except OSError:
                pass  # the journals are all there, and the next one that is put aside brings another try

    def each_line(self) -> "Iterator[bytes]":
        """All that is known: `each_line` of its directory. Raises OSError."""
        return each_line(self._disk, self.directory)

    def last_line(self) -> bytes:
        """The newest line, b"" when there is none. Raises OSError."""
        return last_line(self._disk, self.directory)

    def forget(self) -> None:
        """Drops what waits: the events did not happen after all."""
        self._lines.clear()

    def _turn_over(self) -> None:
        """Puts a full journal aside. Two writers may come here at once, and none may take the name from a file that the
        other one has just begun: hence the file's lock.
        """
        state = self._disk.state(self.path)
        if state is not None and state.size > JOURNAL_MAX:
            current = self._disk.open_shared(self.path)
            try:
                current.lock()
                if current.has_its_name():
                    self._put_aside()
            finally:
                current.close()
            state = self._disk.state(self.path)
        self._size = state.size if state is not None else 0
        # Once: from here on only the new file's content is synced with what it tells of, not its name.
        self._names_to_sync = [self.path, self.directory]

    def _put_aside(self) -> None:
        """Gives the file a number, durably, before its name is given to a new one: either finds it after a power cut.
        Whoever dies here leaves what the next one ends.
        """
        newest = max(journal_numbers(self._disk, self.directory), default=0)
        aside = self.directory + b"/%d" % newest
        if not self._is_one_file(aside, self.path):
            aside = self.directory + b"/%d" % (max(newest, summed_through(self._disk, self.directory)) + 1)
            self._disk.link(self.path, aside)
        self._disk.sync([aside, self.directory])
        self._disk.discard(self.path)

    def _is_one_file(self, one: bytes, other: bytes) -> bool:
        states = self._disk.state(one), self._disk.state(other)
        return states[0] is not None and states[1] is not None and states[0].inode == states[1].inode


def encode_group(lines: list[bytes]) -> bytes:
    """The bytes of lines that are flushed together."""
    text = b"\n".join(lines) + b"\n"
    return b"\n\n%b. %08x\n" % (text, crc32(text))


def journal_numbers(disk: "Disk", directory: bytes) -> list[int]:
    """The journals put aside that are there, oldest first. Raises OSError."""
    names = disk.names(directory)
    return sorted(int(name) for name in names if name.isdigit() and len(name) < _DIGITS_MAX and name[:1] != b"0")


def has_older(disk: "Disk", directory: bytes) -> bool:
    """Whether a journal was kept here before, even if there is no current one. Raises OSError."""
    try:
        return bool(journal_numbers(disk, directory)) or disk.state(directory + b"/" + TOTALS) is not None
    except FileNotFoundError:
        return False


def summed_through(disk: "Disk", directory: bytes) -> int:
    """The newest journal that is in the totals; 0 when there are none. Raises OSError."""
    try:
        lines = file_lines(disk, directory, TOTALS)
        words = next(lines, b"").split(b" ")
    except FileNotFoundError:
        return 0
    good = len(words) == 2 and words[0] == b"through" and words[1].isdigit() and len(words[1]) < _DIGITS_MAX
    return int(words[1]) if good else 0


def journal_lines(disk: "Disk", directory: bytes) -> list[bytes]:
    """The lines of `each_line`, at rest: looked at anew when a journal was put aside or removed meanwhile."""
    for _ in range(_LOOKS):
        try:
            return list(each_line(disk, directory))
        except FileNotFoundError:
            continue
    return list(each_line(disk, directory))


def each_line(disk: "Disk", directory: bytes) -> "Iterator[bytes]":
    """The lines of a journal, oldest first: the totals, then what is not in them yet; `group_lines` says what shows of
    lines that are torn or damaged.

     Raises OSError; FileNotFoundError also when a journal was put aside, or summed up and removed, while it was read.
    """
    through = summed_through(disk, directory)
    numbers = [number for number in journal_numbers(disk, directory) if number > through]
    if disk.state(directory + b"/" + TOTALS) is not None:
        yield from file_lines(disk, directory, TOTALS, must_be_whole=True)
    for number in numbers:
        yield from missing(through, number)
        yield from file_lines(disk, directory, b"%d" % number)
        through = number
    current, newest = disk.state(directory + b"/current"), disk.state(directory + b"/%d" % through)
    if current is not None and (newest is None or newest.inode != current.inode):  # else it is being put aside
        yield from file_lines(disk, directory, b"current")
    if journal_numbers(disk, directory)[-1:] > [through]:
        raise FileNotFoundError(2, "it was put aside meanwhile", directory + b"/current")


def last_line(disk: "Disk", directory: bytes) -> bytes:
    """The newest line there is, b"" for none; however large the journals, only the ends of them are looked at.

    Two of them: the newest may have been begun by a flush that a power cut has torn. Raises OSError.
    """
    for name in (b"current", *[b"%d" % number for number in journal_numbers(disk, directory)[:-2:-1]]):
        end = b""
        try:
            for chunk in disk.read_chunks(directory + b"/" + name):
                end = (end + chunk)[-_END_BYTES:]
        except FileNotFoundError:
            continue
        lines = list(group_lines((end,), name))
        if lines:
            return lines[-1]
    return b""


def missing(through: int, number: int) -> "Iterator[bytes]":
    """A line for a gap between two journals: their sums are not in."""
    if number != through + 1:
        yield b"damaged: journals %d to %d are missing" % (through + 1, number - 1)


def file_lines(disk: "Disk", directory: bytes, name: bytes, *, must_be_whole: bool = False) -> "Iterator[bytes]":
    """The lines of one file, as `group_lines`. Raises OSError."""
    return group_lines(disk.read_chunks(directory + b"/" + name), name, must_be_whole=must_be_whole)


def group_lines(chunks: "Iterable[bytes]", name: bytes, *, must_be_whole: bool = False) -> "Iterator[bytes]":
    """The lines of a journal; `torn` stands for a torn line, a `damaged` line before a group with a wrong checksum.

    A group without its dot is a power cut's: its last line is torn. Not so in a file that `must_be_whole`, which is one
    group.
    """
    rest, place, count = b"", 0, 0
    for chunk in _and_the_end(chunks):
        groups = [rest] if chunk is None else (rest + chunk).split(b"\n\n")
        if chunk is not None:
            rest = groups.pop()
        for group in groups:
            begins, place = place, place + len(group) + 2
            # ext4 may have the new size of a file and not yet what was added to it: then these are NULs.
            text, _, last = group.strip(b"\n\0").rpartition(b"\n")
            if not last:
                continue
            count += 1
            if not _is_right(text, last, must_be_whole):
                yield b"damaged: %b at byte %d: the checksum is wrong" % (name, begins)
            if text:
                yield from text.split(b"\n")
            if last[:1] != b".":
                yield b"torn"
    if must_be_whole and count != 1:
        yield b"damaged: %b: not whole" % name


def _and_the_end(chunks: "Iterable[bytes]") -> "Iterator[bytes | None]":
    yield from chunks
    yield None


def _is_right(text: bytes, last: bytes, must_be_whole: bool) -> bool:
    right = b". %08x" % crc32(text + b"\n")
    if must_be_whole or last[:1] != b".":
        return last == right or not must_be_whole  # what does not begin with a dot is a torn line
    return right.startswith(last)  # torn itself; or without a checksum, as the first version wrote it
