"""Targets: the ledger's journals and totals, as a disk may give them back."""

from fuzz_driver import target

from notqmail.admin.ledger import as_text, look_at
from notqmail.queue.ledger import ACCEPTED, ENDED, encode_group, group_lines, journal_lines, last_line
from notqmail.queue.ledger_book import Events, Noted, balance
from notqmail.queue.ledger_sums import sum_up
from notqmail.queue.store import QueueStore
from notqmail.send.books import Books
from notqmail.send.log import Log
from notqmail.testing.fake_disk import FakeDisk

_LINES = (
    b"n 5 9 2", b"s 5", b"k 5", b"k 5 1", b"b 5 15", b"z 5", b"? 5 1", b"u 5 1", b"m 5 1", b"! 5 1", b"r 5", b"t 5",
    b"- 5",
    b"start", b"stop", b"torn", b"+ 5 9 2", b"through 3", b"sums 0 0 0", b"a 5 9 2 1 0 0 0 0 0 0 0 0",
    b"sums 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
)  # fmt: skip
_WORDS = (
    *_LINES,
    b"\n",
    b"\n\n",
    b".",
    b". 00000000",
    b"9" * 30,
    b"\0",
    encode_group([b"n 5 9 1", b"s 5", b"k 5 1", b"- 5"]),
)


def _understood(line: bytes) -> bool:
    """Whether a line is one of a journal: read a second time by other rules than the book's."""
    words = line.split(b" ")
    arguments = {
        b"n": (3,), b"s": (1,), b"k": (1, 2), b"b": (1, 2), b"z": (1,), b"?": (1, 2), b"u": (1, 2), b"m": (1, 2),
        b"!": (1, 2), b"r": (1,), b"t": (1,), b"-": (1,), b"start": (0,), b"stop": (0,), b"torn": (0,), b"": (0,),
        b"through": (1,), b"sums": (14,), b"a": range(12, 10_000, 2),
    }  # fmt: skip
    numbers = words[1:]
    return len(numbers) in arguments.get(words[0], ()) and all(w.isdigit() and len(w) <= 20 for w in numbers)


@target("ledger-journal", *_WORDS)
def journals(data: bytes) -> None:
    lines = list(group_lines((data,), b"current"))
    assert lines == list(group_lines([data[at : at + 7] for at in range(0, len(data), 7)], b"current"))
    torn = lines.count(b"torn")
    events = Events()
    events.read(lines)
    strange = sum(not _understood(line) for line in lines)
    assert strange <= events.damaged <= strange + torn, "each line that is none is counted"
    assert bool(events.damage) == bool(events.damaged)
    totals = balance([], events, {}, {})
    assert not events.damaged or any("damaged" in fault for fault in totals.faults)
    assert totals.recipients == sum(account.recipients for account in events.accounts) + events.sums.recipients
    # Summed up at any place, it says the same.
    half = len(lines) // 2
    before, after = Events(forgetful=True), Events()
    before.read(lines[:half])
    after.read(before.totals_lines())
    after.read(lines[half:])
    assert after.damaged == events.damaged
    if not events.damaged:
        assert balance([], after, {}, {}).recipients == totals.recipients


@target("ledger-accepted", *_WORDS)
def accepted_journals(data: bytes) -> None:
    noted = Noted()
    noted.read(group_lines((data,), b"current"))
    assert bool(noted.damage) <= bool(noted.damaged)
    again = Noted()
    again.read(noted.totals_lines())
    assert (again.messages, again.recipients, again.damaged) == (noted.messages, noted.recipients, noted.damaged) or (
        max(noted.messages, noted.recipients, noted.damaged) >= 10**20
    )


@target("ledger-totals", *_WORDS)
def totals_files(data: bytes) -> None:
    disk = FakeDisk()
    for directory in (ACCEPTED, ENDED):
        disk.create(directory + b"/totals", (data,))
        for number in (1, 2, 3, 4, 5):
            disk.create(directory + b"/%d" % number, (encode_group([b"start" if directory == ENDED else b"+ 1 1 1"]),))
        disk.create(directory + b"/current", ())
    before = as_text(look_at(disk, b"/home"))  # type: ignore[arg-type]
    assert last_line(disk, ENDED)
    is_whole = not any(line.startswith(b"damaged") for line in group_lines((data,), b"totals", must_be_whole=True))
    for directory in (ACCEPTED, ENDED):
        sum_up(disk, directory)
        if not is_whole:
            assert disk.read(directory + b"/totals") == data, "damaged totals are never replaced"
            assert any(line.startswith(b"damaged") for line in journal_lines(disk, directory))
    if not is_whole:
        assert "damaged" in before
    Books(QueueStore(disk), Log(-1)).open()
