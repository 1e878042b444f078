"""The end of the ledger's journals: sums that say what the journals said, however often they are made."""

import random

import pytest

from notqmail.admin.ledger import as_text, look_at
from notqmail.queue import ledger, ledger_sums
from notqmail.queue.ledger import ACCEPTED, ENDED, TOTALS, Journal, encode_group, journal_lines, summed_through
from notqmail.queue.ledger_book import Events, Totals, balance
from notqmail.queue.ledger_sums import sum_up
from notqmail.testing.fake_disk import FakeDisk

COUNTS = (
    "messages", "recipients", "delivered", "bounced", "discarded", "waiting", "repeated", "doubtful", "doubted",
    "maybe_again", "failed_in_doubt", "maybe_twice", "unexplained",
)  # fmt: skip


def no_sums(*_: object) -> None:
    """For journals that are to stay as they are."""


def history(seed: int, messages: int) -> tuple[list[bytes], list[bytes], dict[int, int]]:
    """Lines of both journals as a life of many messages leaves them, and who waits at its end."""
    chance = random.Random(seed)
    accepted, ended, undone = [], [b"start"], {}
    waiting: list[list[int]] = []  # number, qp, recipients left
    for qp in range(1, messages + 1):
        free = set(range(1, 40)) - {one[0] for one in waiting}
        one = [chance.choice(sorted(free)), qp, chance.randrange(1, 4)]
        accepted.append(b"+ %d %d %d" % tuple(one))
        if chance.random() < 0.03:
            continue  # interrupted before it was accepted
        ended.append(b"n %d %d %d" % tuple(one))
        waiting.append(one)
        while len(waiting) > 12 or (waiting and chance.random() < 0.6):
            play(chance, waiting, ended)
        if chance.random() < 0.02:
            ended += [b"stop", b"start"]
    return accepted, ended, {number: left for number, _, left in waiting} | undone


def play(chance: random.Random, waiting: list[list[int]], ended: list[bytes]) -> None:
    """One attempt for somebody who waits."""
    one = chance.choice(waiting)
    number, kind = one[0], chance.choices((b"k", b"b", b"?", b"z", b"!"), (12, 2, 2, 2, 1))[0]
    which = b" %d" % (2 * one[2] + 1) if kind in (b"k", b"b", b"?") else b" 1" if kind == b"!" else b""
    ended += [b"s %d" % number, b"%b %d%b" % (kind, number, which)]
    one[2] -= kind in (b"k", b"b")
    if one[2] == 0:
        if chance.random() < 0.1:
            ended.append(b"t %d" % number)
        ended.append(b"- %d" % number)
        waiting.remove(one)
        if chance.random() < 0.05:  # a crash before todo/N was gone: the same message again
            ended += [b"start", b"n %d %d 1" % (number, one[1]), b"s %d" % number, b"k %d 3" % number, b"- %d" % number]


def found(disk: FakeDisk, undone: dict[int, int]) -> Totals:
    events = Events()
    events.read(journal_lines(disk, ENDED))
    return balance(journal_lines(disk, ACCEPTED), events, {}, undone)


def written(lines: list[bytes], directory: bytes, disk: FakeDisk, sum_up_too: bool) -> None:
    disk.create(directory + b"/current", ())
    journal = Journal(disk, directory, sum_up if sum_up_too else no_sums)
    for start in range(0, len(lines), 5):
        for line in lines[start : start + 5]:
            journal.note(line)
        journal.flush()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("recent", [1, 3, 1_000])
def test_sums_say_what_the_journals_say(seed: int, recent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted, ended, undone = history(seed, 300)
    monkeypatch.setattr(ledger, "JOURNAL_MAX", 400)
    monkeypatch.setattr(ledger_sums, "JOURNALS_KEPT", 2)
    monkeypatch.setattr("notqmail.queue.ledger_events._RECENT_MAX", recent)
    plain, summed = FakeDisk(), FakeDisk()
    for directory, lines in ((ACCEPTED, accepted), (ENDED, ended)):
        written(lines, directory, plain, sum_up_too=False)
        written(lines, directory, summed, sum_up_too=True)
        assert len(summed.names(directory)) < 7 < len(plain.names(directory))
        assert summed_through(summed, directory) > 2
    want, got = found(plain, undone), found(summed, undone)
    assert want.faults == got.faults == []
    for name in COUNTS:
        assert getattr(got, name) == getattr(want, name), name
    assert (got.interrupted, got.foreign) == (want.interrupted, want.foreign)
    assert sorted(count for _, _, count in got.in_doubt) == sorted(count for _, _, count in want.in_doubt)


def test_a_journal_goes_only_when_there_are_newer_ones_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FakeDisk()
    for number in range(1, 14):
        disk.create(ENDED + b"/%d" % number, [encode_group([b"n %d 7 1" % number, b"s %d" % number])])
    sum_up(disk, ENDED)
    assert summed_through(disk, ENDED) == 12, "a writer may still be adding to the newest"
    assert ledger.journal_numbers(disk, ENDED) == [5, 6, 7, 8, 9, 10, 11, 12, 13]
    before = disk.everything()
    sum_up(disk, ENDED)
    assert disk.everything() == before, "nothing new: nothing is done"


def test_numbers_go_on_from_the_totals_also_when_no_journal_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "JOURNAL_MAX", 5)
    disk = FakeDisk()
    disk.create(ENDED + b"/totals", [encode_group([b"through 41", Events().sums.encode()])])
    disk.create(ENDED + b"/current", [encode_group([b"n 5 9 1", b"s 5"])])
    journal = Journal(disk, ENDED)
    journal.note(b"k 5")
    journal.flush()
    assert ledger.journal_numbers(disk, ENDED) == [42]
    assert found(disk, {}).faults == ["message 5 (qp 9) is gone with 0 recipients unexplained"]


def test_a_writer_looks_again_before_it_puts_aside_what_another_one_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "JOURNAL_MAX", 40)
    disk = FakeDisk()
    disk.create(ACCEPTED + b"/current", ())
    one, other = Journal(disk, ACCEPTED, no_sums), Journal(disk, ACCEPTED, no_sums)
    for qp in range(4):
        for journal in (one, other):
            journal.note(b"+ 5 %d 1" % qp)
            journal.flush()
    assert ledger.journal_numbers(disk, ACCEPTED) == [1, 2]
    assert len([line for line in journal_lines(disk, ACCEPTED) if line[:1] == b"+"]) == 8


def test_damaged_totals_are_named_and_never_replaced() -> None:
    disk = FakeDisk()
    for number in range(1, 12):
        disk.create(ENDED + b"/%d" % number, [encode_group([b"n %d 7 1" % number])])
    sum_up(disk, ENDED)
    totals = ENDED + b"/" + TOTALS
    content = disk.read(totals)
    for place in range(len(content)):
        disk.write_at(totals, place, bytes([content[place] ^ 1]))
        disk.create(ENDED + b"/12", [encode_group([b"n 12 7 1"])])
        before = disk.everything()
        sum_up(disk, ENDED)
        assert disk.everything() == before, f"byte {place}"
        events = Events()
        events.read(journal_lines(disk, ENDED))
        assert events.damage and events.damaged, f"byte {place}"
        disk.unlink(ENDED + b"/12")
        disk.write_at(totals, place, content[place : place + 1])


@pytest.mark.parametrize("journal", [ENDED, ACCEPTED])
def test_no_bit_of_a_journal_that_turns_round_gives_a_wrong_sum_in_silence(journal: bytes) -> None:
    accepted, ended, undone = history(5, 8)
    disk = FakeDisk()
    written(accepted, ACCEPTED, disk, sum_up_too=False)
    written([*ended, b"stop"], ENDED, disk, sum_up_too=False)
    want = found(disk, undone)
    path = journal + b"/current"
    content = disk.read(path)
    silent = []
    for place in range(2, len(content)):
        for bit in range(8):
            disk.write_at(path, place, bytes([content[place] ^ 1 << bit]))
            got = found(disk, undone)
            wrong = [name for name in COUNTS if getattr(got, name) != getattr(want, name)]
            if wrong and not got.faults:
                silent.append((place, bit, wrong))
        disk.write_at(path, place, content[place : place + 1])
    assert silent == []


DAMAGED = [
    # name, line in ended
    ("an unknown letter", b"x 5"),
    ("a letter with a sign", b"k -5"),
    ("no number", b"k"),
    ("an empty number", b"k "),
    ("two blanks", b"k  5"),
    ("a number too many", b"s 5 1"),
    ("three numbers", b"k 5 1 1"),
    ("a beginning without its count", b"n 5 9"),
    ("a beginning with one too many", b"n 5 9 1 1"),
    ("more digits than there are numbers", b"k " + b"9" * 5_000),
    ("digits of another script", "k ٣".encode()),
    ("NULs", b"\0\0\0\0"),
    ("a line of the other journal", b"+ 5 9 1"),
    ("stop with a number", b"stop 5"),
    ("a word that only begins like one", b"stopp"),
    ("sums with a number missing", b"sums 1 2 3"),
    ("an account with a number missing", b"a 1 2 3 4 5 6 7 8 9 10 11"),
    ("an account with half a doubt", b"a 1 2 3 4 5 6 7 8 9 10 11 0 5"),
    ("a blank at the end", b"k 5 "),
]


@pytest.mark.parametrize(("name", "line"), DAMAGED, ids=[case[0] for case in DAMAGED])
def test_a_line_that_is_none_is_counted_and_named(name: str, line: bytes) -> None:
    disk = FakeDisk()
    disk.create(ENDED + b"/current", [encode_group([b"start", b"n 5 9 1", line, b"s 5", b"k 5", b"- 5"])])
    disk.create(ACCEPTED + b"/current", [encode_group([b"+ 5 9 1"])])
    totals = look_at(disk, b"/home")  # type: ignore[arg-type]
    assert (totals.messages, totals.delivered) == (1, 1), "the others count"
    assert totals.faults[0] == "1 lines of the journals in ledger/ended are damaged: what they said is not in the sums"
    assert totals.faults[1] == f"ledger/ended: no line of a ledger: {line[:60]!r}"


@pytest.mark.parametrize(
    "line", [b"x", b"+ 5 9", b"+ 5 9 1 1", b"+ 5 9 -1", b"k 5", b"+ 5 9 " + b"1" * 5_000, b"sums 1"]
)
def test_a_line_of_the_accepted_journal_that_is_none_is_counted_and_named(line: bytes) -> None:
    disk = FakeDisk()
    disk.create(ENDED + b"/current", ())
    disk.create(ACCEPTED + b"/current", [encode_group([line])])
    text = as_text(look_at(disk, b"/home"))  # type: ignore[arg-type]
    assert "FAULT: 1 lines of the journals in ledger/accepted are damaged" in text
    assert f"no line of a ledger: {line[:60]!r}" in text
    assert text.endswith("does NOT balance: please report this.")


def test_a_journal_that_is_missing_is_named_and_what_is_left_counts() -> None:
    disk = FakeDisk()
    for number in (1, 2, 5):
        disk.create(ENDED + b"/%d" % number, [encode_group([b"n %d 9 1" % number, b"k %d" % number, b"- %d" % number])])
    events = Events()
    events.read(journal_lines(disk, ENDED))
    assert (events.damage, len(events.accounts)) == (["journals 3 to 4 are missing"], 3)
    sum_up(disk, ENDED)
    disk.create(ENDED + b"/6", [encode_group([b"stop"])])
    sum_up(disk, ENDED)
    again = Events()
    again.read(journal_lines(disk, ENDED))
    assert (again.damaged, again.damage) == (1, []), "it stays counted when its name is no longer known"


def test_many_damaged_lines_name_only_the_first_ones() -> None:
    events = Events()
    events.read([b"y %d" % number for number in range(1_000)])
    assert (events.damaged, len(events.damage)) == (1_000, 20)


def test_a_recipient_count_that_differs_between_the_journals_is_a_fault() -> None:
    events = Events()
    events.read([b"n 5 9 1", b"s 5", b"k 5", b"- 5"])
    assert balance([b"+ 5 9 2"], events, {}, {}).faults == [
        "message 5 (qp 9) was accepted for 2 recipients, seen with 1"
    ]


def test_what_is_unexplained_stays_a_fault_when_it_is_summed_up_and_the_first_ones_keep_their_names() -> None:
    events = Events(forgetful=True)
    events.read([line for n in range(1, 1_203) for line in (b"n %d 7 2" % n, b"s %d" % n, b"k %d" % n, b"- %d" % n)])
    again = Events()
    again.read(events.totals_lines())
    totals = balance([], again, {}, {})
    assert totals.recipients == 2_404
    assert "102 recipients of 102 messages that ended long ago are unexplained" in totals.faults
    assert "message 1 (qp 7) ended with 1 recipients unexplained" in totals.faults


def test_a_message_that_waits_in_todo_while_its_journal_is_summed_up_waits_still() -> None:
    disk = FakeDisk()
    for qp in (1, 2, 3):
        disk.create(ACCEPTED + b"/%d" % qp, [encode_group([b"+ %d %d 2" % (qp, qp)])])
    disk.create(ENDED + b"/current", ())
    for qp in (1, 2, 3):
        disk.create(b"mess/%d/%d" % (qp, qp), [b"m"])
        disk.create(b"todo/%d" % qp, [b"u1\0p%d\0Fs@x\0Ta@x\0Tb@x\0" % qp])
    sum_up(disk, ACCEPTED)
    totals = look_at(disk, b"/home")  # type: ignore[arg-type]
    assert (totals.messages, totals.recipients, totals.waiting) == (3, 6, 6)
    assert (totals.interrupted, totals.foreign, totals.faults) == (0, 0, [])
