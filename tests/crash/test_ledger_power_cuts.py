"""The power is cut while old ledger journals are summed up: every line counts once, whatever survives.

Each message in these journals is for another power of two of recipients, so a sum of recipients says by itself which
messages are in it, and how often.
"""

import random
from collections.abc import Callable, Iterator

import pytest

from notqmail.queue import ledger, ledger_sums
from notqmail.queue.ledger import ACCEPTED, ENDED, Journal, journal_lines, journal_numbers
from notqmail.queue.ledger_book import Events, Noted, Sums, Totals, balance
from notqmail.queue.ledger_sums import sum_up
from notqmail.testing.fake_disk import FakeDisk, PowerCut

MESSAGES = 40
SURVIVORS = 48


@pytest.fixture(autouse=True)
def small_journals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "JOURNAL_MAX", 120)
    monkeypatch.setattr(ledger_sums, "JOURNALS_KEPT", 0)  # the least: a journal goes as soon as it may
    monkeypatch.setattr("notqmail.queue.ledger_events._RECENT_MAX", 2)


def begin(disk: FakeDisk, directory: bytes) -> None:
    disk.create(directory + b"/current", ())
    disk.sync([directory + b"/current", directory])
    disk.effects = 0


def lines_of(directory: bytes, index: int) -> list[bytes]:
    """Message `index`, from its beginning to its end. In the ended journal one number serves again and again."""
    if directory == ACCEPTED:
        return [b"+ %d %d %d" % (index, index + 1, 1 << index)]
    number = index % 3
    return [b"n %d %d %d" % (number, index + 1, 1 << index), b"m %d %d" % (number, 1 << index), b"- %d" % number]


class Promised:
    """How many messages are in synced lines, and in lines that were written."""

    def __init__(self) -> None:
        self.synced = self.written = 0


def live(disk: FakeDisk, directory: bytes, promised: Promised) -> None:
    """Writes and syncs as the queue does; journals are put aside and summed up on the way."""
    journal = Journal(disk, directory)
    for index in range(promised.written, MESSAGES):
        for line in lines_of(directory, index):
            journal.note(line)
        promised.written = index + 1
        journal.flush()
        if index % 3 == 2:
            disk.sync([journal.path])
            promised.synced = index + 1


def counted(disk: FakeDisk, directory: bytes) -> int:
    """The recipients in the sums. Asserts that nothing is damaged and nothing counts twice."""
    if directory == ACCEPTED:
        noted = Noted()
        noted.read(journal_lines(disk, directory))
        assert noted.damage == []
        messages, recipients = noted.messages, noted.recipients
    else:
        events = Events()
        events.read(journal_lines(disk, directory))
        totals = balance([], events, {}, {account.number: account.left for account in events.living.values()})
        # A cut may have torn the end of the newest message; qmail-send's next start makes that good.
        assert [fault for fault in totals.faults if "unexplained" in fault or "damaged" in fault] == []
        assert totals.repeated == 0
        messages, recipients = totals.messages, totals.recipients
    assert recipients.bit_count() == messages, f"{messages} messages for {recipients:b}"
    return recipients


def check(disk: FakeDisk, directory: bytes, promised: Promised) -> None:
    recipients = counted(disk, directory)
    must, may = (1 << promised.synced) - 1, (1 << promised.written) - 1
    assert recipients & must == must, "synced lines are lost"
    assert recipients | may == may, "lines that nobody wrote"


def cut_at_each_step(kind: type[FakeDisk], directory: bytes) -> Iterator[tuple[FakeDisk, Promised]]:
    reference = kind()
    begin(reference, directory)
    live(reference, directory, Promised())
    for cut in range(reference.effects + 1):
        disk, promised = kind(), Promised()
        begin(disk, directory)
        disk.cut_at = cut
        try:
            live(disk, directory, promised)
        except PowerCut:
            pass  # the point of it
        for survivor in disk.survivors(random.Random(cut), limit=SURVIVORS):
            yield survivor, promised


@pytest.mark.parametrize("directory", [ACCEPTED, ENDED])
def test_whatever_the_cut_each_line_that_was_durable_counts_once(directory: bytes) -> None:
    reference = FakeDisk()
    begin(reference, directory)
    live(reference, directory, Promised())
    assert len(journal_numbers(reference, directory)) <= 4, "there is an end to them"
    assert counted(reference, directory) == (1 << MESSAGES) - 1
    count = 0
    for survivor, promised in cut_at_each_step(FakeDisk, directory):
        check(survivor, directory, promised)
        before = counted(survivor, directory)
        sum_up(survivor, directory)  # what the next journal that is put aside brings
        assert counted(survivor, directory) == before
        count += 1
    assert count > reference.effects


@pytest.mark.parametrize("directory", [ACCEPTED, ENDED])
def test_a_second_cut_while_the_leftovers_of_the_first_are_summed_up(directory: bytes) -> None:
    cuts = 0
    for index, (survivor, promised) in enumerate(cut_at_each_step(FakeDisk, directory)):
        if index % 7:
            continue
        before = counted(survivor, directory)
        for cut in range(8):
            [copy] = list(survivor.survivors(random.Random(0), limit=1))
            copy.effects, copy.cut_at = 0, cut
            try:
                sum_up(copy, directory)
            except PowerCut:
                cuts += 1
            for again in copy.survivors(random.Random(cut), limit=8):
                assert counted(again, directory) == before
                check(again, directory, promised)
    assert cuts > 100


@pytest.mark.parametrize("directory", [ACCEPTED, ENDED])
def test_a_disk_that_fails_from_any_step_on_costs_no_line_and_counts_none_twice(directory: bytes) -> None:
    reference = FakeDisk()
    begin(reference, directory)
    live(reference, directory, Promised())
    for failing in range(reference.effects):
        disk, promised = FakeDisk(), Promised()
        begin(disk, directory)
        disk.fail_at = failing
        try:
            live(disk, directory, promised)
        except OSError:
            pass  # the journal's owner hears of it, and its lines wait
        disk.fail_at = None
        sum_up(disk, directory)
        recipients = counted(disk, directory)
        assert recipients | 1 << promised.written - 1 == (1 << promised.written) - 1, failing


# What must be noticed when it is missing.


class ForgetsTheContent(FakeDisk):
    """The new totals are not synced."""

    def sync(self, paths: object) -> None:
        assert isinstance(paths, list | tuple)
        super().sync([path for path in paths if not path.endswith(b"totals.new")])


class ForgetsTheName(FakeDisk):
    """Nor is their name."""

    def sync(self, paths: object) -> None:
        assert isinstance(paths, list | tuple)
        super().sync(paths if paths[:1] not in ([ACCEPTED], [ENDED]) else [])


class ForgetsWhatIsPutAside(FakeDisk):
    """The journal's number is not durable when its old name goes."""

    def sync(self, paths: object) -> None:
        assert isinstance(paths, list | tuple)
        super().sync([] if paths[0].rpartition(b"/")[2].isdigit() else paths)


class ForgetsTheNextOne(FakeDisk):
    """The name of the journal that begins is not durable."""

    def sync(self, paths: object) -> None:
        assert isinstance(paths, list | tuple)
        super().sync(paths[:1] if paths[0].endswith(b"current") else paths)


class RemovesFirst(FakeDisk):
    """The journals go before the totals have their name."""

    def rename(self, old: bytes, new: bytes) -> None:
        if old.endswith(b"totals.new"):
            directory = old[: old.rfind(b"/")]
            for number in journal_numbers(self, directory)[:-1]:
                self.discard(directory + b"/%d" % number)
        super().rename(old, new)


def through_all(disk: FakeDisk, directory: bytes) -> int:
    return 0


def no_through(patch: pytest.MonkeyPatch) -> None:
    """Readers do not look what is in the totals already."""
    patch.setattr(ledger, "summed_through", through_all)


def the_newest_too(patch: pytest.MonkeyPatch) -> None:
    """Totals that forget what was open."""
    encode = Events.totals_lines
    patch.setattr(Events, "totals_lines", lambda self: [line for line in encode(self) if line[:2] != b"a "])


def unchanged(patch: pytest.MonkeyPatch) -> None:
    """Only the disk is another."""


@pytest.mark.parametrize("directory", [ACCEPTED, ENDED])
@pytest.mark.parametrize(
    ("kind", "breaking"),
    [
        (ForgetsTheContent, unchanged),
        (ForgetsTheName, unchanged),
        (RemovesFirst, unchanged),
        (ForgetsWhatIsPutAside, unchanged),
        (ForgetsTheNextOne, unchanged),
        (FakeDisk, no_through),
    ],
)
def test_a_step_that_is_left_out_is_noticed(
    kind: type[FakeDisk], breaking: Callable[[pytest.MonkeyPatch], None], directory: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    breaking(monkeypatch)
    with pytest.raises((AssertionError, OSError)):
        for survivor, promised in cut_at_each_step(kind, directory):
            check(survivor, directory, promised)


def test_totals_that_forget_what_is_open_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    the_newest_too(monkeypatch)
    with pytest.raises(AssertionError):
        for survivor, promised in cut_at_each_step(FakeDisk, ENDED):
            check(survivor, ENDED, promised)


def test_the_sums_and_what_is_shown_have_the_same_names() -> None:
    assert set(Sums.__slots__) <= {name for kind in Totals.__mro__ for name in getattr(kind, "__slots__", ())}
