"""The ledger: journals that survive being torn, and sums that come out."""

from collections.abc import Iterator

import pytest

from notqmail.queue.ledger import ACCEPTED, ENDED, Journal, encode_group, file_lines, journal_lines, last_line
from notqmail.queue.ledger_book import Events, Totals, balance
from notqmail.queue.ledger_sums import sum_up
from notqmail.queue.store import QueueStore
from notqmail.send.books import Books
from notqmail.send.log import Log
from notqmail.testing.fake_disk import FakeDisk


def kept_disk() -> FakeDisk:
    disk = FakeDisk()
    for directory in (ACCEPTED, ENDED):
        disk.create(directory + b"/current", [])
    return disk


def totals(accepted: bytes, events: bytes, in_todo: dict[int, int], undone: dict[int, int]) -> Totals:
    read = Events()
    read.read(events.split(b"\n"))
    return balance(accepted.split(b"\n"), read, in_todo, undone)


def test_without_its_file_a_journal_keeps_nothing() -> None:
    disk = FakeDisk()
    journal = Journal(disk, ENDED)
    journal.note(b"k 1")
    journal.flush()
    assert not journal.kept and disk.everything() == {}


def test_lines_come_back_in_order_also_from_journals_put_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notqmail.queue.ledger.JOURNAL_MAX", 20)
    disk = kept_disk()
    journal = Journal(disk, ENDED, lambda *_: None)
    for number in range(12):
        journal.note(b"k %d" % number)
        journal.flush()
    assert journal_lines(disk, ENDED) == [b"k %d" % number for number in range(12)]
    assert len(disk.names(ENDED)) > 2


@pytest.mark.parametrize("length", range(1, 40))
def test_wherever_a_power_cut_tears_it_whole_lines_stay_and_later_ones_are_read(length: int) -> None:
    disk = kept_disk()
    journal = Journal(disk, ENDED)
    for number in (1234, 5678, 9012):
        journal.note(b"k %d" % number)
        journal.flush()
    whole = disk.read(ENDED + b"/current")
    torn = FakeDisk()
    torn.create(ENDED + b"/current", [whole[:length]])
    after = Journal(torn, ENDED)
    after.note(b"start")
    after.flush()
    lines = journal_lines(torn, ENDED)
    assert lines[-1] == b"start"
    assert set(lines) <= {b"k 1234", b"k 5678", b"k 9012", b"torn", b"start"}, "a torn line was taken for a whole one"
    read = Events()
    read.read(lines)
    assert read.damaged == 0, "a power cut is no damage"


def test_a_full_disk_keeps_the_lines_for_the_next_time() -> None:
    disk = kept_disk()
    journal = Journal(disk, ENDED)
    journal.note(b"k 1")
    disk.fail_at = 0
    with pytest.raises(OSError):
        journal.flush()
    disk.fail_at = None
    journal.note(b"- 1")
    journal.flush()
    assert journal_lines(disk, ENDED) == [b"k 1", b"- 1"]


CASES = [
    # name, accepted, events, in_todo, undone, (delivered, bounced, discarded, waiting, repeated)
    ("nothing", b"", b"", {}, {}, (0, 0, 0, 0, 0)),
    ("not yet seen", b"+ 5 100 2", b"", {5: 100}, {}, (0, 0, 0, 2, 0)),
    ("interrupted", b"+ 5 100 2", b"", {}, {}, (0, 0, 0, 0, 0)),
    ("delivered", b"+ 5 100 1", b"n 5 100 1\ns 5\nk 5\n- 5", {}, {}, (1, 0, 0, 0, 0)),
    ("one of two waits", b"+ 5 100 2", b"n 5 100 2\ns 5\nk 5\ns 5\nz 5", {}, {5: 1}, (1, 0, 0, 1, 0)),
    ("in todo", b"+ 5 100 1", b"n 5 100 1\ns 5", {5: 100}, {}, (0, 0, 0, 1, 0)),
    ("bounced", b"+ 5 100 2", b"n 5 100 2\ns 5\nk 5\ns 5\nb 5\n- 5", {}, {}, (1, 1, 0, 0, 0)),
    ("triple bounce", b"+ 5 100 1", b"n 5 100 1\ns 5\nb 5\nt 5\n- 5", {}, {}, (0, 0, 1, 0, 0)),
    ("a failure that could not be told yet", b"+ 5 9 1", b"n 5 9 1\ns 5\nb 5\nr 5", {}, {5: 1}, (0, 0, 0, 1, 0)),
    ("twice after a crash", b"+ 5 9 1", b"n 5 9 1\ns 5\nk 5\nn 5 9 1\ns 5\nk 5\n- 5", {}, {}, (1, 0, 0, 0, 1)),
    ("a number used again", b"+ 5 1 1\n+ 5 2 1", b"n 5 1 1\ns 5\nk 5\n- 5\nn 5 2 1", {5: 2}, {}, (1, 0, 0, 1, 0)),
    ("lost line made good", b"+ 5 9 2", b"n 5 9 2\ns 5\nk 5\nm 5 1\n- 5", {}, {}, (2, 0, 0, 0, 0)),
    ("older than the ledger", b"", b"s 5\nk 5\n- 5", {}, {}, (0, 0, 0, 0, 0)),
]


@pytest.mark.parametrize(("name", "accepted", "events", "in_todo", "undone", "want"), CASES, ids=[c[0] for c in CASES])
def test_what_was_accepted_is_delivered_bounced_discarded_or_waits(
    name: str, accepted: bytes, events: bytes, in_todo: dict[int, int], undone: dict[int, int], want: tuple[int, ...]
) -> None:
    got = totals(accepted, events, in_todo, undone)
    assert got.faults == []
    assert (got.delivered, got.bounced, got.discarded, got.waiting, got.repeated) == want
    assert got.recipients == got.delivered + got.bounced + got.discarded + got.waiting


@pytest.mark.parametrize(
    ("events", "in_todo", "undone"),
    [
        (b"n 5 9 2\ns 5\nk 5\n- 5", {}, {}),  # ended with one recipient unexplained
        (b"n 5 9 2\ns 5\nk 5", {}, {}),  # gone
        (b"n 5 9 2", {}, {5: 1}),  # one record vanished
        (b"n 5 9 1", {5: 8}, {}),  # another message stands in its place
        (b"nonsense", {}, {}),
    ],
)
def test_a_recipient_that_cannot_be_explained_is_a_fault(
    events: bytes, in_todo: dict[int, int], undone: dict[int, int]
) -> None:
    assert totals(b"+ 5 9 2", events, in_todo, undone).faults


def test_only_programs_without_a_ledger_are_named_when_nobody_noted_the_acceptance() -> None:
    got = totals(b"", b"n 5 9 1\ns 5\nk 5\n- 5", {}, {})
    assert (got.foreign, got.faults) == (1, [])


def test_a_message_that_ended_but_was_still_in_todo_when_qmail_send_died_is_a_repetition() -> None:
    first = b"start\nn 5 77 1\ns 5\nk 5\n- 5\n"
    again = b"start\nn 5 77 1\ns 5\nk 5\n- 5\n"
    found = totals(b"+ 5 77 1", first + again, {}, {})
    assert (found.messages, found.recipients, found.delivered, found.repeated) == (1, 1, 1, 1)
    assert found.faults == []


def test_after_a_clean_stop_the_same_two_numbers_are_another_message() -> None:
    once = b"start\nn 5 77 1\ns 5\nk 5\n- 5\nstop\n"
    found = totals(b"", once + once, {}, {})
    assert (found.messages, found.recipients, found.delivered, found.repeated) == (2, 2, 2, 0)


def test_what_was_interrupted_before_it_was_accepted_is_counted_and_so_is_what_may_arrive_twice() -> None:
    found = totals(b"+ 5 77 1\n+ 6 78 2", b"start\nn 5 77 1\ns 5\nstart\n! 5 1\ns 5\nk 5\n- 5\n", {}, {})
    assert (found.interrupted, found.maybe_twice, found.messages) == (1, 1, 1)
    assert found.faults == []


def test_deliveries_that_are_noted_as_possibly_repeated_are_under_way_no_more() -> None:
    events = Events()
    events.read([b"n 5 77 3", b"s 5", b"s 5", b"s 5", b"k 5"])
    assert events.living[5].under_way == 2
    events.read([b"! 5 2"])
    assert events.living[5].under_way == 0


class ReadsCounted(FakeDisk):
    """Remembers which files were read."""

    def __init__(self) -> None:
        super().__init__()
        self.were_read: set[bytes] = set()

    def read(self, path: bytes) -> bytes:
        self.were_read.add(path)
        return super().read(path)

    def read_chunks(self, path: bytes, size: int = 65_536) -> Iterator[bytes]:
        self.were_read.add(path)
        return super().read_chunks(path, size)


def start_with_old_journals(last_line: bytes) -> ReadsCounted:
    disk = ReadsCounted()
    for number in range(1, 13):
        disk.create(ENDED + b"/%d" % number, [b"\n\nn %d 7 1\n.\n" % number])
    disk.create(ENDED + b"/current", [b"\n\n" + last_line + b"\n.\n"])
    sum_up(disk, ENDED)
    disk.were_read.clear()
    Books(QueueStore(disk), Log(-1)).open()
    return disk


def test_a_start_after_a_clean_stop_reads_no_old_journals_however_many_there_are() -> None:
    disk = start_with_old_journals(b"stop")
    assert disk.were_read == {ENDED + b"/current"}
    assert journal_lines(disk, ENDED)[-1] == b"start"


def test_a_start_after_a_crash_makes_good_what_was_open_and_reads_the_sums_in_place_of_old_journals() -> None:
    disk = start_with_old_journals(b"k 12")
    assert disk.were_read == {ENDED + b"/totals", ENDED + b"/12", ENDED + b"/current"}
    made_good = list(file_lines(disk, ENDED, b"current"))[1:]
    assert made_good == [b"m %d 1" % n if i == 0 else b"- %d" % n for n in range(1, 12) for i in (0, 1)] + [
        b"- 12", b"start"
    ]  # fmt: skip


def test_the_last_line_is_found_where_a_power_cut_has_torn_the_newest_journal_at_its_beginning() -> None:
    disk = FakeDisk()
    assert last_line(disk, ENDED) == b""
    disk.create(ENDED + b"/1", [encode_group([b"k 5", b"stop"])])
    assert last_line(disk, ENDED) == b"stop"
    disk.create(ENDED + b"/current", [b""])
    assert last_line(disk, ENDED) == b"stop"
    disk.append(ENDED + b"/current", encode_group([b"start"])[:4])
    assert last_line(disk, ENDED) == b"torn"
    disk.append(ENDED + b"/current", encode_group([b"s 5"] * 40_000))
    assert last_line(disk, ENDED) == b"s 5"
