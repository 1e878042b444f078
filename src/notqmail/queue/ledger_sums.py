"""The end of the ledger's journals: what was put aside is added up into one small file, and the oldest ones go.

    ledger/*/totals    through K        journals 1 to K are in these sums
                       sums ...         messages that have ended (ledger_account.Sums; accepted: messages, recipients,
                                        damaged lines)
                       a N QP ...       ended: each message that has not, and the newest that have (Account.encode)

The order of the steps is the promise:

    totals.new  <- the old totals and the journals put aside, but for the newest, to which a writer may still be adding
    sync: totals.new
    rename totals.new totals
    sync: the directory
    remove the journals that are older than the JOURNALS_KEPT newest

After a power cut at any step the totals are the old ones or the new ones, whole; they say themselves which journals
they have in them, so that nothing counts twice, and a journal goes only when the totals that have it are durable. What
is left over is passed over by readers and removed the next time. Totals that are damaged are never replaced:
`notqmail ledger` names them, and the journals stay.
"""

from notqmail.queue.ledger import (
    ACCEPTED,
    TOTALS,
    encode_group,
    file_lines,
    journal_numbers,
    missing,
    summed_through,
)
from notqmail.queue.ledger_events import Events, Noted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from notqmail.unix.durable import Disk

JOURNALS_KEPT = 8  # summed up already, for questions about single messages
_NEW = b"/totals.new"


def sum_up(disk: "Disk", directory: bytes) -> None:
    """Adds up what was put aside in this directory. Only one process may do this at a time. Raises OSError."""
    if not _totals_are_whole(disk, directory):
        return
    through = summed_through(disk, directory)
    numbers = journal_numbers(disk, directory)
    ready = [number for number in numbers if number > through][:-1]
    if ready:
        lines = _lines(disk, directory, through, ready)
        through = ready[-1]
        _replace(disk, directory, [b"through %d" % through, *_added_up(directory, lines)])
    for number in numbers:
        if number <= through - JOURNALS_KEPT:
            disk.discard(directory + b"/%d" % number)


def _totals_are_whole(disk: "Disk", directory: bytes) -> bool:
    """Also when there are none yet."""
    if disk.state(directory + b"/" + TOTALS) is None:
        return True
    first = b""
    for line in file_lines(disk, directory, TOTALS, must_be_whole=True):
        first = first or line
        if line.startswith(b"damaged"):
            return False
    return first.startswith(b"through ")


def _lines(disk: "Disk", directory: bytes, through: int, ready: "Sequence[int]") -> "Iterator[bytes]":
    """The old totals, then the journals."""
    if through:
        yield from file_lines(disk, directory, TOTALS, must_be_whole=True)
    for number in ready:
        yield from missing(through, number)
        yield from file_lines(disk, directory, b"%d" % number)
        through = number


def _added_up(directory: bytes, lines: "Iterator[bytes]") -> "Iterator[bytes]":
    if directory == ACCEPTED:
        noted = Noted(forgetful=True)
        noted.read(lines)
        return noted.totals_lines()
    events = Events(forgetful=True)
    events.read(lines)
    return events.totals_lines()


def _replace(disk: "Disk", directory: bytes, lines: list[bytes]) -> None:
    new = directory + _NEW
    disk.discard(new)
    disk.create(new, (encode_group(lines),))
    disk.sync([new])
    disk.rename(new, directory + b"/" + TOTALS)
    disk.sync([directory])
