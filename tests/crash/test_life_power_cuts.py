"""A message's whole life, with the power cut at every effect: after a restart everything accepted still arrives.

Both models of a disk; what an ordered one may show is few enough to be tried without leaving anything out, which
`make crash` does.
"""

import random
import re
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from machine import Machine, World
from queue_states import FixedClock, legal_states

from notqmail.queue.ledger import ACCEPTED, ENDED, journal_lines
from notqmail.queue.ledger_book import Events, balance
from notqmail.receive.enqueue import Enqueuer, Request
from notqmail.testing.disk_models import OrderedModel, StrictModel
from notqmail.testing.fake_disk import FakeDisk, PowerCut
from notqmail.wire import queue_exit

LIFETIME_S = 604_800

WORKLOADS: dict[str, tuple[list[list[bytes]], dict[bytes, list[bytes]]]] = {
    # name: (recipients of each message, answers other than "delivered")
    "one local recipient": ([[b"a@me.test"]], {}),
    "local and remote, one deferred first": ([[b"a@me.test", b"b@far.test"]], {b"b@far.test": [b"Zlater", b"K"]}),
    "a failure bounces": ([[b"a@me.test", b"no@me.test"]], {b"no@me.test": [b"Dno such user"]}),
    "a number used twice": ([[b"a@me.test"], [b"c@far.test"]], {}),
    "nobody": ([[]], {}),
}


def request(index: int, recipients: list[bytes]) -> Request:
    return Request(
        [b"Subject: m%d\n\nbody\n" % index], [b"s%d@me.test" % index, *recipients], uid=7, pid=100 + index,
        invoked=b"by uid 7",
    )  # fmt: skip


def machine_disk() -> FakeDisk:
    """An empty queue with a ledger, all of it durable."""
    disk = FakeDisk()
    with_ledger(disk)
    return disk


def with_ledger(disk: FakeDisk) -> None:
    for directory in (ACCEPTED, ENDED):
        disk.create(directory + b"/current", [])
        disk.sync([directory + b"/current", directory])
    disk.effects = 0


def check_ledger(disk: FakeDisk, repeated_at_most: int) -> None:
    events = Events()
    events.read(journal_lines(disk, ENDED))
    totals = balance(journal_lines(disk, ACCEPTED), events, {}, {})
    assert totals.faults == [], totals.faults
    assert totals.recipients == totals.delivered + totals.bounced + totals.discarded
    assert totals.waiting == 0 and totals.repeated <= repeated_at_most
    assert journal_lines(disk, ENDED)[-1] == b"stop" or not events.living


def live(disk: FakeDisk, world: World, messages: list[list[bytes]], accepted: set[int]) -> None:
    """Queues and delivers one message after the other, so that message numbers are used again."""
    enqueuer = Enqueuer(disk, FixedClock(disk.now_s), 9)
    for index, recipients in enumerate(messages):
        one = request(index, recipients)
        enqueuer.enqueue([one])
        assert one.exit_code == queue_exit.ACCEPTED
        accepted.add(index)
        Machine(disk, world, disk.now_s).run_until_empty()


def check_world(
    world: World, messages: list[list[bytes]], accepted: set[int], answers: dict[bytes, list[bytes]]
) -> None:
    seen: dict[tuple[int, bytes], int] = {}
    bounced: set[tuple[int, bytes]] = set()
    for _sender, recipient, message in world.delivered:
        if b"Subject: failure notice" in message:
            index = int(recipient[1 : recipient.index(b"@")])
            # After a cut a paragraph may follow the torn beginning of itself, in the same line.
            bounced |= {(index, address) for address in re.findall(rb"<([^<>\n]+)>:\n", message)}
            continue
        index = int(message[message.index(b"Subject: m") + 10 :].split(b"\n", 1)[0])
        assert recipient in messages[index], "delivered to somebody it was not for"
        assert message.endswith(b"Subject: m%d\n\nbody\n" % index), "half a message was delivered"
        seen[index, recipient] = seen.get((index, recipient), 0) + 1
    for index in accepted:
        for recipient in messages[index]:
            if answers.get(recipient, [b"K"])[-1].startswith(b"D"):
                assert (index, recipient) in bounced, "a failure was never told"
            else:
                assert (index, recipient) in seen, "an accepted message was lost"
    assert all(count <= 2 for count in seen.values()), "more than one repetition for one power cut"


Model = type[StrictModel] | type[OrderedModel]
MODELS: list[Model] = [StrictModel, OrderedModel]
THOROUGH = 200
ALL_OF_THEM = 4_000  # more than an ordered disk may show after any cut here


def limit_for(model: Model, survivors_limit: int) -> int:
    """Survivors of a cut: some of what a strict disk may show; of what an ordered one may all, in a thorough run."""
    return survivors_limit if model is StrictModel or survivors_limit < THOROUGH else max(ALL_OF_THEM, survivors_limit)


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", WORKLOADS)
def test_whatever_the_cut_everything_accepted_arrives_after_a_restart(
    name: str, model: Model, survivors_limit: int, record_property: Callable[[str, object], None]
) -> None:
    messages, answers = WORKLOADS[name]
    reference, world, accepted = machine_disk(), World(answers), set[int]()
    live(reference, world, messages, accepted)
    check_world(world, messages, accepted, answers)
    check_ledger(reference, repeated_at_most=0)
    assert accepted == set(range(len(messages)))
    restarts = 0
    limit = limit_for(model, survivors_limit)
    for survivor, after, accepted in restarted_after_each_cut(
        partial(FakeDisk, model=model), reference.effects, name, limit
    ):
        check_world(after, messages, accepted, answers)
        assert set(legal_states(survivor).values()) <= {"S2"}
        check_ledger(survivor, repeated_at_most=2)
        restarts += 1
    assert restarts > reference.effects
    record_property(f"crash: points in time, the queue alone, {model.__name__}", reference.effects + 1)
    record_property(f"crash: restarts, the queue alone, {model.__name__}", restarts)


def restarted_after_each_cut(
    new_disk: Callable[[], FakeDisk], effects: int, name: str, limit: int
) -> Iterator[tuple[FakeDisk, World, set[int]]]:
    """Cuts the power at each effect of a workload; for each set of survivors (at most `limit` a cut) that is in legal
    states: the disk and the world after a new start has done all there was to do, and what had been accepted.
    """
    messages, answers = WORKLOADS[name]
    for cut in range(effects + 1):
        disk, world, accepted = new_disk(), World(answers), set[int]()
        with_ledger(disk)
        disk.cut_at = cut
        try:
            live(disk, world, messages, accepted)
        except PowerCut:
            pass  # the point of it
        delivered = list(world.delivered)
        for count, survivor in enumerate(disk.survivors(random.Random(cut), limit=limit)):
            assert count < ALL_OF_THEM - 1 or isinstance(disk.model, StrictModel), "an ordered disk may show more"
            legal_states(survivor)
            after = World(answers)
            after.delivered = list(delivered)
            Machine(survivor, after, disk.now_s + 60).run_until_empty()
            yield survivor, after, accepted


class ForgetfulDisk(FakeDisk):
    """A disk whose syncs leave out what `forgets` says: does the suite notice?"""

    forgets = b""

    def sync(self, paths: object) -> None:
        assert isinstance(paths, list | tuple)
        super().sync([path for path in paths if not path.startswith(self.forgets)])

    def barrier(self, files: object, directories: object, before: bytes) -> None:
        assert isinstance(files, list | tuple) and isinstance(directories, list | tuple)
        kept = [[path for path in paths if not path.startswith(self.forgets)] for paths in (files, directories)]
        super().barrier(kept[0], kept[1], before)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("forgets", [b"mess/", b"pid/", b"todo", b"info/", b"local/", b"bounce"])
def test_every_sync_that_is_left_out_is_noticed(forgets: bytes, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ForgetfulDisk, "forgets", forgets)
    name = "a failure bounces"
    messages, answers = WORKLOADS[name]
    reference = ForgetfulDisk(model=model)
    with_ledger(reference)
    live(reference, World(answers), messages, set())
    disks = partial(ForgetfulDisk, model=model)
    with pytest.raises((AssertionError, OSError, LookupError, ValueError)):
        for _survivor, after, accepted in restarted_after_each_cut(disks, reference.effects, name, limit=64):
            check_world(after, messages, accepted, answers)
