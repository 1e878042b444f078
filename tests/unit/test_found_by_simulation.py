"""Bugs that the simulation (tests/simulation) found, each as small as it gets, for a seed changes with the code."""

import random

import pytest

from notqmail.queue import ledger
from notqmail.queue.ledger import ENDED, Journal, journal_lines
from notqmail.send import todo
from notqmail.testing.fake_disk import FakeDisk
from send_bench import NOW_S, Bench


def test_mail_tried_from_todo_in_the_last_free_slot_ends_although_the_exit_came_first() -> None:
    # The pass was known to be over only when another slot became free: it was delivered again after the restart.
    disk = FakeDisk()
    bench = Bench(disk, concurrency=(1, 1))
    bench.queue([b"a@me.test"])
    bench.turn()
    assert len(bench.local.commands()) == 1
    bench.flags.exit = True
    bench.loop.turn()
    bench.local.report(0, b"K")
    bench.loop.run()
    bench.close()
    after = Bench(disk)
    after.turn(2)
    assert after.local.commands() == []
    after.close()


def test_new_mail_is_looked_at_although_the_clock_was_set_back_and_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    # With many waiting in todo the next look was put off by a second of the old time: for as long as the jump.
    monkeypatch.setattr(todo, "_MANY", 1)
    bench = Bench(concurrency=(1, 1))
    for _ in range(3):
        bench.queue([b"a@me.test"])
    bench.turn(2)
    bench.clock.now = bench.disk.now_s = NOW_S - 10_000
    bench.queue([b"c@far.test"])
    bench.turn(2)
    assert [command.recipient for command in bench.remote.commands()] == [b"c@far.test"]
    bench.close()


def kept_ledger() -> FakeDisk:
    disk = FakeDisk()
    disk.create(ENDED + b"/current", ())
    disk.sync([ENDED + b"/current", ENDED])
    return disk


def test_what_left_todo_is_in_the_ledger_after_a_power_cut() -> None:
    # Else nothing said which message it had been, and the sum of the accepted ones came out too small.
    bench = Bench(kept_ledger())
    number = bench.queue([b"a@me.test", b"b@me.test"])
    bench.turn(2)
    looked_at = 0
    for survivor in bench.disk.survivors(random.Random(1), limit=200):
        if b"todo/%d" % number not in survivor.everything():
            looked_at += 1
            assert b"n %d 100 2" % number in journal_lines(survivor, ENDED)  # type: ignore[arg-type]
    assert looked_at
    bench.close()


def test_a_ledger_that_was_put_aside_is_there_after_a_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    # Both names, the old file's new one and the new file's, must be durable before the new content counts as such.
    monkeypatch.setattr(ledger, "JOURNAL_MAX", 5)
    disk = kept_ledger()
    journal = Journal(disk, ENDED, lambda *_: None)  # type: ignore[arg-type]
    for number in (1, 2, 3):
        journal.note(b"s %d" % number)
        journal.flush()
        disk.sync([journal.path])
    survivors = list(disk.survivors(random.Random(1), limit=200))
    assert survivors
    for survivor in survivors:
        assert journal_lines(survivor, ENDED) == [b"s 1", b"s 2", b"s 3"]  # type: ignore[arg-type]
