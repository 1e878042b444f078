"""As test_broken_on_purpose.py, for what is rarer: mail that C's qmail-queue has queued, the collector after 36 hours,
and ledger journals that are put aside all the time.

C's own steps are not broken: it syncs no directory, so its promise holds only when the kernel has written back, which
happens here before its mail counts as accepted. What it leaves in intd/ is ours to remove.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import pytest
from breakage import Recorder, ReplayDisk, Step, left_out, replay, swapped
from machine import Machine, World, acting
from queue_states import FixedClock, legal_states
from test_broken_on_purpose import HARMLESS as ALREADY_HARMLESS
from test_broken_on_purpose import ONLY_C, WORKLOAD_NAMES, Breaking, WatchedWorld, record
from test_life_power_cuts import check_ledger, check_world, request, with_ledger

from notqmail.queue import ledger
from notqmail.queue.layout import CLEANUP_AGE_S, split_path
from notqmail.receive.enqueue import Enqueuer
from notqmail.testing.fake_disk import FakeDisk
from notqmail.wire import queue_exit

CLASSIC = "C's qmail-queue"
SURVIVORS = 4
SUMMING_UP = "_replace: "  # of journals put aside: test_ledger_power_cuts.py breaks that by itself
LONG_S = CLEANUP_AGE_S + 4 * 60 * 60

Recipients = list[bytes]


class Scenario:
    """Messages that come one after the other: `ways` says how each is queued."""

    answers: dict[bytes, list[bytes]] = {b"b@far.test": [b"Zlater", b"K"], b"no@me.test": [b"Dno such user"]}

    def __init__(self, *mail: tuple[str, Recipients]) -> None:
        self.ways = [way for way, _ in mail]
        self.messages = [recipients for _, recipients in mail]
        self.has_mail_of_c = CLASSIC in self.ways

    @contextmanager
    def circumstances(self) -> Iterator[None]:
        """What holds while it is played, and after each cut."""
        yield

    def prepare(self, disk: FakeDisk) -> None:
        """What is there before."""
        with_ledger(disk)

    def record(self) -> list[Step]:
        """As it should be."""
        disk = Recorder()
        with self.circumstances():
            self.prepare(disk)
            disk.steps.clear()
            world = WatchedWorld(self.answers, disk)
            for index, recipients in enumerate(self.messages):
                if self.ways[index] == CLASSIC:
                    queued_by_c(disk, index, recipients)
                else:
                    one = request(index, recipients)
                    Enqueuer(disk, FixedClock(disk.now_s), 9).enqueue([one])
                    assert one.exit_code == queue_exit.ACCEPTED
                disk.said("accepted", index)
                Machine(disk, world, disk.now_s).run_until_empty()
        for step in disk.steps:
            if step.role == CLASSIC:
                step.label = ""  # not to be broken
        return disk.steps

    def check(self, disk: FakeDisk, delivered: list[tuple[bytes, bytes, bytes]], accepted: set[int]) -> None:
        """Everything arrives after a restart, and two days later nothing is left over."""
        world = World(self.answers)
        world.delivered = list(delivered)
        legal_states(disk)
        Machine(disk, world, disk.now_s + 60).run_until_empty()
        check_world(world, self.messages, accepted, self.answers)
        check_ledger(disk, repeated_at_most=2)
        disk.now_s += LONG_S
        Enqueuer(disk, FixedClock(disk.now_s), 9).enqueue([request(9, [b"late@me.test"])])
        Machine(disk, world, disk.now_s).run_until_empty()  # pid/ is swept when there is something to do
        left = [path for path in disk.everything() if not path.startswith(b"ledger/")]
        assert left == [], f"left for ever: {left}"

    def fault(self, steps: list[Step]) -> str | None:
        """What the rules find wrong when the power is cut before any of these steps; None when nothing."""
        accepted: set[int] = set()
        delivered: list[tuple[bytes, bytes, bytes]] = []

        def said(words: str, *arguments: object) -> None:
            if words == "accepted":
                accepted.update(arguments)  # type: ignore[arg-type]
            else:
                delivered.append(arguments)  # type: ignore[arg-type]

        disk = ReplayDisk()
        with self.circumstances():
            self.prepare(disk)
            try:
                for cut, now in enumerate(replay(steps, disk, said)):
                    if cut < len(steps) and steps[cut].role == CLASSIC:
                        continue
                    for survivor in (now.killed(), *now.survivors(random.Random(cut), limit=SURVIVORS)):
                        self.check(survivor, delivered, accepted)
            except (AssertionError, OSError, LookupError, ValueError) as found:
                return f"{type(found).__name__}: {found}".split("\n", 1)[0]
        return None


def queued_by_c(disk: Recorder, index: int, recipients: Recipients) -> None:
    """The steps of the classic qmail-queue (INTERNALS of qmail, section 3), and then the kernel's."""
    with acting(disk, CLASSIC):
        pid = b"pid/%d" % (200 + index)
        number = disk.create(pid, ())
        mess, intd = split_path(b"mess", number), b"intd/%d" % number
        disk.link(pid, mess)
        disk.unlink(pid)
        disk.append(mess, b"Received: (qmail %d invoked by uid 7); date\nSubject: m%d\n\nbody\n" % (200 + index, index))
        disk.sync([mess])
        addresses = b"".join(b"T%b\0" % recipient for recipient in recipients)
        disk.create(intd, [b"u7\0p%d\0Fs%d@me.test\0%b" % (200 + index, index, addresses)])
        disk.sync([intd])
        disk.link(intd, b"todo/%d" % number)
        disk.sync([*disk.everything(), *disk.changed_directories()])


class Leftovers(Scenario):
    """Files of messages that were never accepted, or have ended, lie there for longer than any writer lives."""

    def prepare(self, disk: FakeDisk) -> None:
        super().prepare(disk)
        disk.now_s -= LONG_S
        numbers = [disk.create(b"pid/%d" % index, [b"half a mess"]) for index in range(4)]
        for index, number in enumerate(numbers[:3]):
            disk.link(b"pid/%d" % index, split_path(b"mess", number))
            disk.unlink(b"pid/%d" % index)
        disk.create(b"intd/%d" % numbers[1], [b"u7\0p9\0Fs@me.test\0Ta@me"])
        disk.create(split_path(b"local", numbers[2]), [b"Ta@me.test\0"])
        disk.create(split_path(b"remote", numbers[2]), [b"Tb@far.test\0"])
        disk.create(b"bounce/%d" % numbers[2], [b"<no@me.test>:\n"])
        disk.sync([*disk.everything(), *disk.changed_directories()])
        disk.now_s += LONG_S
        disk.effects = 0


class SmallJournals(Scenario):
    """Each ledger journal is full after a line or two."""

    @contextmanager
    def circumstances(self) -> Iterator[None]:
        before = ledger.JOURNAL_MAX
        ledger.JOURNAL_MAX = 20
        yield
        ledger.JOURNAL_MAX = before


OURS = "ours"
SCENARIOS = {
    "C's mail, the same number again and again": Scenario(
        (CLASSIC, [b"a@me.test"]), (CLASSIC, [b"a@me.test", b"b@far.test"]), (OURS, [b"c@me.test"]),
        (CLASSIC, [b"no@me.test"]),
    ),
    "what the collector finds": Leftovers((OURS, [b"a@me.test"]), (CLASSIC, [b"a@me.test", b"b@far.test"])),
    "journals put aside": SmallJournals((OURS, [b"a@me.test"]), (OURS, [b"b@far.test", b"no@me.test"])),
}  # fmt: skip

# Reason: the changes that it holds for.
HARMLESS: dict[str, list[str]] = {
    "a todo file counts with intd or without, and what is left in intd goes with the message file at the latest": [
        "settle: unlink intd BEFORE settle: sync info+info/+ledger+local+local/",
        "settle: unlink intd BEFORE settle: sync info+info/+ledger+local+local/+remote+remote/",
        "settle: unlink todo BEFORE settle: unlink intd",
        "_leave_todo: unlink todo BEFORE _leave_todo: unlink intd",
    ],
    "the next start finds from the marks what the lost lines said, and notes it": [
        "_leave_todo: unlink intd BEFORE turn: append ledger",
        "no open: sync ledger",
        "no enter: sync ledger",
        "open: sync ledger BEFORE open: create ledger",
        "enter: sync ledger BEFORE enter: create ledger",
        "turn: append ledger BEFORE enter: sync ledger",
    ],
    "either journal alone says which message it was: the writer's `+` line or qmail-send's `n` line": [
        "no _record: sync ledger",
        "_record: sync ledger BEFORE _record: create ledger",
        "enqueue: sync ledger+mess+mess/+pid BEFORE _record: sync ledger",
    ],
    "a journal that is put aside has both names for a while: it is one file, read once": [
        "_put_aside: link ledger BEFORE delivered",
        "_put_aside: link ledger BEFORE accepted",
        "_put_aside: link ledger BEFORE enter: append ledger",
        "_put_aside: link ledger BEFORE _stage: unlink pid",
        "_put_aside: link ledger BEFORE settle: unlink todo",
        "_put_aside: link ledger BEFORE forget: unlink info",
        "_put_aside: link ledger BEFORE _finish_ended: unlink mess",
    ],
    "while it is in todo all that is beside it is written anew": [
        "append_bounces: create bounce BEFORE settle: unlink todo",
        "write_preprocessed: create local BEFORE write_preprocessed: create remote",
    ],
    "the names go in any order: one sync covers them all before the message file goes": [
        "forget_leftovers: unlink remote BEFORE forget_leftovers: unlink local",
        "forget_leftovers: unlink bounce BEFORE forget_leftovers: unlink remote",
    ],
    "a name left in pid/ is only a stale file": [
        "sweep: unlink pid BEFORE turn: append ledger",
        "_leave_todo: unlink todo BEFORE sweep: unlink pid",
    ],
    "neither concerns the other: two messages, or a line of the ledger and a later step": [
        "write_preprocessed: create local BEFORE enter: append ledger",
        "forget_leftovers: unlink local BEFORE delivered",
        "enter: append ledger BEFORE forget_leftovers: unlink bounce",
        "_forget_intd: unlink intd BEFORE _finish_ended: unlink mess",
        "accepted BEFORE _finish_ended: unlink mess",
        "_stage: create pid BEFORE channel_done: unlink remote",
    ],
}


@cache
def tried_elsewhere(breaking: Breaking) -> frozenset[str]:
    """The changes of test_broken_on_purpose.py."""
    return frozenset(change for steps in map(record, WORKLOAD_NAMES) for change, _ in breaking(steps))


def new_changes(name: str, breaking: Breaking) -> Iterator[tuple[str, list[Step]]]:
    """What test_broken_on_purpose.py does not try, or calls harmless only because there is no mail of C's there."""
    tried = {*tried_elsewhere(breaking), *(change for changes in ALREADY_HARMLESS.values() for change in changes)}
    if SCENARIOS[name].has_mail_of_c:
        tried -= set(ALREADY_HARMLESS[ONLY_C])
    for change, steps in breaking(SCENARIOS[name].record()):
        if change not in tried and SUMMING_UP not in change:
            yield change, steps


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_recorded_program_itself_is_without_fault(name: str) -> None:
    assert SCENARIOS[name].fault(SCENARIOS[name].record()) is None


@pytest.mark.parametrize("breaking", [left_out, swapped])
def test_each_step_left_out_or_swapped_is_noticed(
    breaking: Breaking, record_property: Callable[[str, object], None]
) -> None:
    harmless = {change for changes in HARMLESS.values() for change in changes}
    noticed: dict[str, str | None] = {}
    for name, scenario in SCENARIOS.items():
        for change, steps in new_changes(name, breaking):
            if change not in harmless and not noticed.get(change):
                noticed[change] = scenario.fault(steps)
    assert noticed
    assert [change for change, found in noticed.items() if not found] == [], "nobody notices these"
    record_property("crash: broken on purpose, rarer things, noticed", len(noticed))


def test_what_is_called_harmless_is_there(record_property: Callable[[str, object], None]) -> None:
    there = {
        change for name in SCENARIOS for breaking in (left_out, swapped) for change, _ in new_changes(name, breaking)
    }
    harmless = [change for changes in HARMLESS.values() for change in changes]
    assert [change for change in harmless if change not in there] == []
    record_property("crash: broken on purpose, rarer things, harmless with a reason", len(harmless))
