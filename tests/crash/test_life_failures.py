"""A message's whole life on a disk that fails for a while at every step, and among files that do not belong there."""

import random
from itertools import islice

import pytest
from machine import Machine, World
from queue_states import FixedClock, legal_states
from test_life_power_cuts import WORKLOADS, check_world, live, request

from notqmail.queue.layout import SPLIT, split_path
from notqmail.receive.enqueue import Enqueuer
from notqmail.testing.fake_disk import FakeDisk, PowerCut
from notqmail.unix.durable import WriteFailed
from notqmail.wire import queue_exit


class TroubledDisk(FakeDisk):
    """Fails `failures` effects from `fail_at` on, then works again."""

    failures = 1

    def _effect(self) -> None:
        first = self.fail_at
        self.fail_at = None
        super()._effect()
        self.fail_at = first
        if first is not None and first < self.effects <= first + self.failures:
            raise WriteFailed(28, "out of disk space")


def turn(machine: Machine, times: int) -> None:
    for _ in range(times):
        machine.loop.turn()


def live_with_trouble(disk: FakeDisk, world: World, messages: list[list[bytes]], accepted: set[int]) -> None:
    """As `live`, but a message that is refused is simply not accepted; its sender does not try again."""
    for index, recipients in enumerate(messages):
        one = request(index, recipients)
        Enqueuer(disk, FixedClock(disk.now_s), 9).enqueue([one])
        if one.exit_code == queue_exit.ACCEPTED:
            accepted.add(index)
        else:
            assert queue_exit.report_for_exit(one.exit_code).kind == b"Z"
        Machine(disk, world, disk.now_s).run_until_empty()


@pytest.mark.parametrize("failures", [1, 2, 5])
@pytest.mark.parametrize("name", WORKLOADS)
def test_whenever_the_disk_fails_everything_accepted_arrives_when_it_works_again(name: str, failures: int) -> None:
    messages, answers = WORKLOADS[name]
    reference = FakeDisk()
    live(reference, World(answers), messages, set())
    refused = 0
    for failing in range(reference.effects + 1):
        disk, world, accepted = TroubledDisk(), World(answers), set[int]()
        disk.fail_at, disk.failures = failing, failures
        live_with_trouble(disk, world, messages, accepted)
        (check_world if failures == 1 else check_repetitions)(world, messages, accepted, answers)
        assert set(legal_states(disk).values()) <= {"S2"}, "at most a file for the collector is left"
        refused += len(messages) - len(accepted)
    assert refused > 0, "some failures do refuse a message"


@pytest.mark.parametrize("name", ["local and remote, one deferred first", "a failure bounces"])
def test_a_power_cut_while_the_disk_fails_loses_nothing(name: str) -> None:
    messages, answers = WORKLOADS[name]
    reference = FakeDisk()
    live(reference, World(answers), messages, set())
    for failing in range(0, reference.effects, 3):
        for cut in range(failing, reference.effects + 1, 2):
            disk, world, accepted = TroubledDisk(), World(answers), set[int]()
            disk.fail_at, disk.failures, disk.cut_at = failing, 2, cut
            try:
                live_with_trouble(disk, world, messages, accepted)
            except PowerCut:
                pass  # the point of it
            delivered = list(world.delivered)
            for survivor in islice(disk.survivors(random.Random(cut), limit=2), 4):
                legal_states(survivor)
                after = World(answers)
                after.delivered = list(delivered)
                # What was not accepted may leave an info file cut short, which a person has to look at.
                turn(Machine(survivor, after, disk.now_s + 60), 60)
                check_repetitions(after, messages, accepted, answers)


def check_repetitions(
    world: World, messages: list[list[bytes]], accepted: set[int], answers: dict[bytes, list[bytes]]
) -> None:
    """As check_world; a failing disk and a cut may each repeat a delivery."""
    arrived = {(recipient, message) for _, recipient, message in world.delivered}
    once = World(answers)
    once.delivered = [(b"", recipient, message) for recipient, message in arrived]
    check_world(once, messages, accepted, answers)


def test_a_read_only_disk_refuses_mail_and_keeps_what_it_has() -> None:
    disk, world = FakeDisk(), World({})
    one = request(0, [b"a@me.test", b"b@me.test"])
    Enqueuer(disk, FixedClock(disk.now_s), 9).enqueue([one])
    before = disk.everything()
    disk.fail_at = disk.effects
    machine = Machine(disk, world)
    turn(machine, 20)
    other = request(1, [b"a@me.test"])
    Enqueuer(disk, FixedClock(disk.now_s), 9).enqueue([other])
    assert other.exit_code != queue_exit.ACCEPTED
    assert disk.everything() == before
    disk.fail_at = None
    machine.run_until_empty()
    assert {recipient for _, recipient, _ in world.delivered} == {b"a@me.test", b"b@me.test"}


STRANGE = [
    b"todo/core", b"todo/.nfs0001", b"todo/007", b"info/0/README", b"info/3/4", b"local/5/x", b"remote/6/-1",
    b"mess/7/8", b"mess/9/lost+found", b"bounce/what", b"intd/99999999999999999999999", b"pid/strange",
]  # fmt: skip


def test_strange_files_are_neither_mail_nor_in_the_way() -> None:
    disk, world = FakeDisk(), World({})
    for path in STRANGE:
        disk.create(path, [b"?\0junk"])
    for index, recipients in enumerate([[b"a@me.test"], [b"b@me.test", b"c@far.test"]]):
        Enqueuer(disk, FixedClock(disk.now_s), 9).enqueue([request(index, recipients)])
        turn(Machine(disk, world), 40)
    assert len(world.delivered) == 3
    assert set(disk.everything()) == set(STRANGE)


@pytest.mark.parametrize("kind", ["todo", "info", "local"])
def test_a_truncated_queue_file_never_invents_mail_nor_stops_other_mail(kind: str) -> None:
    """Not by us or a power cut, but by a damaged file system: each length the file can have."""
    whole = {
        "todo": b"u7\0p9\0Fs@me.test\0Ta@me.test\0Tbb@far.test\0",
        "info": b"Fs@me.test\0",
        "local": b"Ta@me.test\0",
    }
    for length in range(len(whole[kind])):
        disk, world = FakeDisk(), World({})
        number = 5 * SPLIT
        disk.create(split_path(b"mess", number), [b"Subject: m0\n\nbody\n"])
        for path, name in (
            [(b"todo/%d" % number, "todo")] if kind == "todo"
            else [(split_path(b"info", number), "info"), (split_path(b"local", number), "local")]
        ):  # fmt: skip
            disk.create(path, [whole[name][:length] if name == kind else whole[name]])
        one = request(1, [b"good@me.test"])
        Enqueuer(disk, FixedClock(disk.now_s), 9).enqueue([one])
        turn(Machine(disk, world), 40)
        recipients = [recipient for _, recipient, _ in world.delivered]
        assert b"good@me.test" in recipients
        assert set(recipients) <= {b"good@me.test", b"a@me.test", b"bb@far.test"}
