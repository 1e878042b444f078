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
SURVIVORS = 64

HARMLESS: dict[str, str] = {}


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
    noticed: dict[str, str | None] = {}
    for name in WORKLOAD_NAMES:
        for change, steps in breaking(record(name)):
            if change not in HARMLESS and not noticed.get(change):
                noticed[change] = fault(name, steps)
    assert len(noticed) > 10
    assert [change for change, found in noticed.items() if not found] == []
