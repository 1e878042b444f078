"""The ledger's journals: what was accepted, and what became of it, one short line for each event.

Two journals, each with one writing side: `ledger/accepted/current` is the queue's writers', `ledger/ended/current`
qmail-send's. They are kept where they exist (`notqmail init` makes them); C programs neither write nor mind them.

    accepted:  + N QP RECIPIENTS     written, and synced, before the message gets its name in todo
    ended:     n N QP RECIPIENTS     qmail-send has seen the message (again, after a crash before it was settled)
               s N                   a delivery to one recipient begins
               k N / b N / z N       ... has succeeded / has failed for good / is put off
               ? N                   ... is put off and in doubt: the connection died after the final dot
               m N COUNT             marked done before a crash whose line was lost
               ! N COUNT             under way when qmail-send died: may arrive twice
               r N                   ... that failure could not be noted for the bounce: put off
               t N                   its failures could be told to nobody (triple bounce): discarded
               - N                   ended; synced before the message file goes
               start / stop          qmail-send has started / stopped with nothing under way

N is the message number, QP the number that people see. Lines wait in memory until `flush`, once or twice a turn;
they are in the page cache before the step they tell of, so only a power cut can lose one, and then the next start
sees it from the marks (`m`). What is flushed together stands between an empty line and a line with a dot: where
the dot is missing, a power cut has torn the last line. docs/adr/0017 has the reasons, ledger_book.py the arithmetic.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.unix.durable import Disk

ACCEPTED = b"ledger/accepted"
ENDED = b"ledger/ended"
JOURNAL_MAX = 16_777_216  # bytes; then the journal is put aside under a number and a new one begun


class Journal:
    """One journal, for appending. Where its file does not exist it keeps nothing and costs nothing."""

    __slots__ = ("_disk", "_lines", "_names_to_sync", "_size", "directory", "kept", "path")

    def __init__(self, disk: "Disk", directory: bytes) -> None:
        """Raises OSError when it is there and cannot be read."""
        self._disk, self.directory, self.path = disk, directory, directory + b"/current"
        self._lines: list[bytes] = []
        self._names_to_sync: list[bytes] = []
        state = disk.state(self.path)
        self.kept = state is not None
        self._size = state.size if state is not None else 0

    def note(self, line: bytes) -> None:
        """Remembers an event, for the next `flush`."""
        if self.kept:
            self._lines.append(line)

    def flush(self) -> None:
        """Appends what waits. Raises OSError; the lines then wait for the next time."""
        if not self._lines:
            return
        data = b"\n\n%b\n.\n" % b"\n".join(self._lines)
        if self._size > JOURNAL_MAX:
            self._put_aside()
        self._disk.append(self.path, data)
        self._size += len(data)
        self._lines.clear()
        if self._names_to_sync:
            self._disk.sync(self._names_to_sync)
            self._names_to_sync = []

    def forget(self) -> None:
        """Drops what waits: the events did not happen after all."""
        self._lines.clear()

    def _put_aside(self) -> None:
        numbers = [int(name) for name in self._disk.names(self.directory) if name.isdigit()]
        aside = self.directory + b"/%d" % (max(numbers, default=0) + 1)
        # Once: from here on only the new file's content is synced with what it tells of, not its name.
        self._names_to_sync = [self.path, self.directory]
        try:
            self._disk.rename(self.path, aside)
            self._names_to_sync.append(aside)
        except FileNotFoundError:
            pass  # another writer has just done it
        self._size = 0


def journal_lines(disk: "Disk", directory: bytes, newest: int | None = None) -> list[bytes]:
    """The lines of a journal, oldest first, torn ones left out: all of them, or those of its `newest` files.

    Raises OSError.
    """
    names = disk.names(directory)
    in_order = sorted((name for name in names if name.isdigit()), key=int)
    in_order += [name for name in names if name == b"current"]
    lines: list[bytes] = []
    for name in in_order if newest is None else in_order[-newest:]:
        for group in disk.read(directory + b"/" + name).split(b"\n\n"):
            lines += group.strip(b"\n").split(b"\n")[:-1]  # the last is the dot, or torn
    return lines
