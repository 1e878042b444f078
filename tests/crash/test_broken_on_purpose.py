"""The queue is broken on purpose, one step at a time, and the power-cut rules have to notice every time.

Each sync is left out, and each path of each sync; each step changes places with the next one. What may be changed
without harm is in HARMLESS with the reason; everything else must be noticed. So a step that is added to the way of a
message is either covered by the rules here, or this test fails and asks for the reason.
"""

import random
from collections.abc import Callable, Iterator

import pytest
from breakage import Recorder, ReplayDisk, Step, left_out, replay, swapped
from machine import Machine, World
from queue_states import FixedClock, legal_states
from test_life_power_cuts import WORKLOADS, check_ledger, check_world, request, with_ledger

from notqmail.queue.ledger import ACCEPTED, ENDED, journal_lines
from notqmail.queue.ledger_book import Events, balance
from notqmail.receive.enqueue import Enqueuer
from notqmail.testing.fake_disk import FakeDisk
from notqmail.wire import queue_exit
from notqmail.wire.reports import Report

OURS: dict[str, tuple[list[list[bytes]], dict[bytes, list[bytes]]]] = {
    **WORKLOADS,
    "nothing but failures": (
        [[b"no@me.test", b"never@me.test"]],
        {b"no@me.test": [b"Dno"], b"never@me.test": [b"Dno"]},
    ),
    "two far ones, then a new message": ([[b"a@far.test", b"b@far.test"], [b"c@me.test"]], {}),
}
WORKLOAD_NAMES = [name for name in OURS if name != "nobody"]
SURVIVORS = 8

ONLY_C = "only C's qmail-queue makes names in intd; ours has none that could come back"

# Reason: the changes that it holds for, as `breakage` names them.
HARMLESS: dict[str, list[str]] = {
    "either journal alone says which message it was: the writer's `+` line or qmail-send's `n` line": [
        "enqueue: sync ledger+mess+mess/+pid, without ledger",
        "enqueue: sync ledger+mess+mess/+pid BEFORE _record: append ledger",
        "settle: sync info+info/+ledger+local+local/, without ledger",
        "settle: sync info+info/+ledger+remote+remote/, without ledger",
        "settle: sync info+info/+ledger+local+local/+remote+remote/, without ledger",
        "settle: sync info+info/+ledger+local+local/ BEFORE settle: append ledger",
        "settle: sync info+info/+ledger+remote+remote/ BEFORE settle: append ledger",
        "settle: sync info+info/+ledger+local+local/+remote+remote/ BEFORE settle: append ledger",
    ],
    "the next start finds from the marks, or from whose the number is now, what the lost lines said (`m`, `-`)": [
        "_finish_ended: sync bounce/+info/+intd/+ledger+local/+remote/+todo/, without ledger",
        "_finish_ended: sync bounce/+info/+intd/+ledger+local/+remote/+todo/ BEFORE turn: append ledger",
        "append_bounces: sync bounce+bounce/+ledger, without ledger",
        "_leave_todo: unlink todo BEFORE turn: append ledger",
        "channel_done: unlink local BEFORE enter: append ledger",
        "channel_done: unlink remote BEFORE enter: append ledger",
        "mark_done: write_at remote BEFORE enter: append ledger",
        "turn: append ledger BEFORE forget: unlink info",
    ],
    ONLY_C: [
        "_finish_ended: sync bounce/+info/+intd/+ledger+local/+remote/+todo/, without intd/",
    ],
    "nothing of the message counts before the sync that both come before": [
        "_stage: create pid (envelope) BEFORE _stage: create pid",
        "_stage: link mess BEFORE _stage: create pid (envelope)",
        "_record: append ledger BEFORE _stage: unlink pid",
        "write_preprocessed: create remote BEFORE write_preprocessed: create local",
        "write_preprocessed: create info BEFORE write_preprocessed: create local",
        "write_preprocessed: create info BEFORE write_preprocessed: create remote",
        "append_bounces: create bounce BEFORE enter: append ledger",
    ],
    "the names go in any order: one sync covers them all before the message file goes, and todo or info alone decide": [
        "forget: unlink info BEFORE channel_done: unlink remote",
        "forget: unlink info BEFORE bounce_done: unlink bounce",
    ],
    "whether the last qmail-send stopped by itself is told by its very last line, whatever `start` came before": [
        "turn: append ledger BEFORE open: append ledger",
    ],
    "a name left in pid/ is only a stale file": [
        "enqueue: sync todo/ BEFORE _name: unlink pid (envelope)",
    ],
    "neither concerns the other: two messages, or a line of the ledger and a later step": [
        "open: append ledger BEFORE accepted",
        "write_preprocessed: create local BEFORE open: append ledger",
        "write_preprocessed: create remote BEFORE open: append ledger",
        "turn: append ledger BEFORE settle: unlink todo",
        "enter: append ledger BEFORE channel_done: unlink local",
        "enter: append ledger BEFORE turn: append ledger",
        "enter: append ledger BEFORE _finish_ended: unlink mess",
        "_finish_ended: sync bounce/+info/+intd/+ledger+local/+remote/+todo/ BEFORE delivered",
        "_stage: create pid BEFORE channel_done: unlink local",
        "_stage: create pid BEFORE _finish_ended: unlink mess",
    ],
    "no program can do it: the report comes after the delivery": [
        "enter: append ledger BEFORE delivered",
    ],
}


class WatchedWorld(World):
    """Tells the recorder what was delivered, at the moment it was."""

    def __init__(self, answers: dict[bytes, list[bytes]], recorder: Recorder) -> None:
        super().__init__(answers)
        self._recorder = recorder

    def attempt(self, sender: bytes, recipient: bytes, message: bytes) -> Report:
        report = super().attempt(sender, recipient, message)
        if report.succeeded:
            self._recorder.said("delivered", sender, recipient, message)
        return report


def record(name: str) -> list[Step]:
    """A workload as it should be."""
    messages, answers = OURS[name]
    disk = Recorder()
    with_ledger(disk)
    disk.steps.clear()
    world = WatchedWorld(answers, disk)
    for index, recipients in enumerate(messages):
        one = request(index, recipients)
        Enqueuer(disk, FixedClock(disk.now_s), 9).enqueue([one])
        assert one.exit_code == queue_exit.ACCEPTED
        disk.said("accepted", index)
        Machine(disk, world, disk.now_s).run_until_empty()
    return disk.steps


def fault(name: str, steps: list[Step]) -> str | None:
    """What the rules find wrong with these steps when the power is cut before any of them; None when nothing."""
    messages, answers = OURS[name]
    accepted: set[int] = set()
    delivered: list[tuple[bytes, bytes, bytes]] = []

    def said(words: str, *arguments: object) -> None:
        if words == "accepted":
            accepted.update(arguments)  # type: ignore[arg-type]
        else:
            delivered.append(arguments)  # type: ignore[arg-type]

    disk = ReplayDisk()
    with_ledger(disk)
    try:
        for cut, now in enumerate(replay(steps, disk, said)):
            for survivor in (now.killed(), *now.survivors(random.Random(cut), limit=SURVIVORS)):
                after = World(answers)
                after.delivered = list(delivered)
                check_restart(survivor, after, messages, accepted, answers)
            check_repetitions_are_counted(now.killed(), delivered, answers)
    except (AssertionError, OSError, LookupError, ValueError) as found:
        return f"{type(found).__name__}: {found}".split("\n", 1)[0]
    return None


def check_restart(
    disk: FakeDisk, world: World, messages: list[list[bytes]], accepted: set[int], answers: dict[bytes, list[bytes]]
) -> None:
    legal_states(disk)
    Machine(disk, world, disk.now_s + 60).run_until_empty()
    check_world(world, messages, accepted, answers)
    assert set(legal_states(disk).values()) <= {"S2"}
    check_ledger(disk, repeated_at_most=2)


def check_repetitions_are_counted(
    disk: FakeDisk, delivered: list[tuple[bytes, bytes, bytes]], answers: dict[bytes, list[bytes]]
) -> None:
    """When only the process dies, the ledger knows of every delivery that may have been repeated."""
    world = World(answers)
    world.delivered = list(delivered)
    Machine(disk, world, disk.now_s + 60).run_until_empty()
    events = Events()
    events.read(journal_lines(disk, ENDED))
    totals = balance(journal_lines(disk, ACCEPTED), events, {}, {})
    told = totals.repeated + totals.maybe_twice
    repeated = len(world.delivered) - len(set(world.delivered))
    assert repeated <= told, "a repetition that the ledger does not know"


Breaking = Callable[[list[Step]], Iterator[tuple[str, list[Step]]]]


def test_the_recorded_program_itself_is_without_fault() -> None:
    for name in WORKLOAD_NAMES:
        assert fault(name, record(name)) is None


@pytest.mark.parametrize("breaking", [left_out, swapped])
def test_each_step_left_out_or_swapped_is_noticed(breaking: Breaking) -> None:
    harmless = {change for changes in HARMLESS.values() for change in changes}
    noticed: dict[str, str | None] = {}
    for name in WORKLOAD_NAMES:
        for change, steps in breaking(record(name)):
            if change not in harmless and not noticed.get(change):
                noticed[change] = fault(name, steps)
    assert len(noticed) > 10
    assert [change for change, found in noticed.items() if not found] == [], "nobody notices these"


def test_what_is_called_harmless_is_there() -> None:
    programs = [record(name) for name in WORKLOAD_NAMES]
    there = {change for steps in programs for breaking in (left_out, swapped) for change, _ in breaking(steps)}
    assert [change for changes in HARMLESS.values() for change in changes if change not in there] == []
