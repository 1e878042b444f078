"""The whole way on one disk, the power cut at every effect: in, into Maildirs and mbox files, marked, bounced, ended.

Both models of a disk, as in test_life_power_cuts.py.
"""

import random
import re
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from houses import Houses, Mailboxes, check_mailboxes
from machine import Machine
from queue_states import FixedClock, legal_states
from test_life_power_cuts import ALL_OF_THEM, MODELS, Model, check_ledger, limit_for, with_ledger

from notqmail.receive.enqueue import Enqueuer, Request
from notqmail.testing.disk_models import OrderedModel, StrictModel
from notqmail.testing.fake_disk import FakeDisk, PowerCut
from notqmail.wire import queue_exit

WORKLOADS: dict[str, list[list[bytes]]] = {
    "one Maildir": [[b"dir@me.test"]],
    "one mbox": [[b"box@me.test"]],
    "a Maildir and an mbox": [[b"dir@me.test", b"box@me.test"]],
    "two mbox files": [[b"box@me.test", b"box2@me.test"]],
    "an mbox, and a failure that bounces": [[b"box@me.test", b"no@me.test"]],
    "a number used twice, for the same mbox": [[b"box@me.test"], [b"box@me.test"]],
}

_TOP = (
    rb"Return-Path: <[^>\n]*>\nDelivered-To: [^\n]+\nReceived: \(qmail \d+ invoked (?:by uid 7|for bounce)\); [^\n]+\n"
)
_BODY = rb"Subject: m(\d)\n\nfirst (\d)\n\nFrom here\nlast (\d)\n"
_NOTICE = rb"Date: [^\n]+\nFrom: [^\n]+\nTo: [^\n]+\nSubject: failure notice\n\n.*<no@me\.test>:\n.*" + _BODY
IS_WHOLE = re.compile(_TOP + rb"(?:" + _BODY + rb"|" + _NOTICE + rb")", re.DOTALL)


def live(disk: FakeDisk, world: Houses, messages: list[list[bytes]], accepted: set[int]) -> None:
    """Queues and delivers one message after the other, so that message numbers are used again."""
    enqueuer = Enqueuer(disk, FixedClock(disk.now_s), 9)
    for index, recipients in enumerate(messages):
        text = b"Subject: m%d\n\nfirst %d\n\nFrom here\nlast %d\n" % (index, index, index)
        one = Request([text], [b"s@me.test", *recipients], uid=7, pid=100 + index, invoked=b"by uid 7")
        enqueuer.enqueue([one])
        assert one.exit_code == queue_exit.ACCEPTED
        accepted.add(index)
        Machine(disk, world, disk.now_s).run_until_empty()


def check_reported(found: Mailboxes, world: Houses) -> None:
    """What qmail-send was told is delivered is there, to the last byte."""
    for message, recipient in world.reported:
        assert any(whole.endswith(message) for whole in found.whole.get(recipient, [])), "a delivered message was lost"


def check_all(disk: FakeDisk, world: Houses, messages: list[list[bytes]], accepted: set[int]) -> int:
    """After everything is done; returns how many torn messages are left in mbox files."""
    found = check_mailboxes(disk, IS_WHOLE, again_at_most=1)
    check_reported(found, world)
    bounces = found.whole.get(b"s@me.test", [])
    for index in accepted:
        for recipient in messages[index]:
            there = bounces if recipient.startswith(b"no") else found.whole.get(recipient, [])
            assert any(b"\nSubject: m%d\n" % index in whole for whole in there), "an accepted message was lost"
    assert set(found.whole) <= {b"s@me.test", *(recipient for recipients in messages for recipient in recipients)}
    assert set(legal_states(disk).values()) <= {"S2"}
    check_ledger(disk, repeated_at_most=2)
    return len(found.torn)


def restarted_after_each_cut(
    new_disk: Callable[[], FakeDisk], effects: int, messages: list[list[bytes]], limit: int
) -> Iterator[tuple[FakeDisk, Houses, set[int]]]:
    """Cuts the power at each effect; for each set of survivors, and for the mere death of all processes: the disk and
    the world after a new start has done all there was to do, and what had been accepted.
    """
    for cut in range(effects + 1):
        disk, world, accepted = new_disk(), Houses({}), set[int]()
        with_ledger(disk)
        disk.cut_at = cut
        try:
            live(disk, world, messages, accepted)
        except PowerCut:
            pass  # the point of it
        survivors = [disk.killed(), *disk.survivors(random.Random(cut), limit=limit)]
        assert len(survivors) < ALL_OF_THEM or isinstance(disk.model, StrictModel), "an ordered disk may show more"
        for survivor in survivors:
            legal_states(survivor)
            check_reported(Mailboxes(survivor, IS_WHOLE), world)
            after = Houses({})
            after.reported, after.clock = list(world.reported), world.clock
            Machine(survivor, after, disk.now_s + 60).run_until_empty()
            yield survivor, after, accepted


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", WORKLOADS)
def test_whatever_the_cut_everything_accepted_is_in_a_mailbox_after_a_restart(
    name: str, model: Model, survivors_limit: int, record_property: Callable[[str, object], None]
) -> None:
    messages = WORKLOADS[name]
    reference, world, accepted = FakeDisk(model=model), Houses({}), set[int]()
    with_ledger(reference)
    live(reference, world, messages, accepted)
    assert check_all(reference, world, messages, accepted) == 0
    assert accepted == set(range(len(messages)))
    restarts = torn = 0
    limit = limit_for(model, survivors_limit)
    for survivor, after, accepted in restarted_after_each_cut(
        partial(FakeDisk, model=model), reference.effects, messages, limit
    ):
        torn += check_all(survivor, after, messages, accepted)
        restarts += 1
    assert restarts > reference.effects
    if torn or model is StrictModel or limit >= ALL_OF_THEM:  # else too few are tried for one to be among them
        assert (torn > 0) is (b"box" in repr(messages).encode()), "some cuts do leave a piece of a message in an mbox"
    record_property(f"crash: points in time, queue and mailboxes, {model.__name__}", reference.effects + 1)
    record_property(f"crash: restarts, queue and mailboxes, {model.__name__}", restarts)
    record_property(f"crash: of them with a torn message in an mbox, {model.__name__}", torn)


class ForgetfulDisk(FakeDisk):
    """A disk whose syncs leave out what `forgets` says: do the rules notice?"""

    forgets = b""

    def sync(self, paths: object) -> None:
        assert isinstance(paths, list | tuple)
        super().sync([path for path in paths if not re.match(self.forgets, path)])

    def barrier(self, files: object, directories: object, before: bytes) -> None:
        assert isinstance(files, list | tuple) and isinstance(directories, list | tuple)
        kept = [[path for path in paths if not re.match(self.forgets, path)] for paths in (files, directories)]
        super().barrier(kept[0], kept[1], before)


@pytest.mark.parametrize(
    ("forgets", "model"),
    [
        *((forgets, StrictModel) for forgets in (b"home/box$", b"home$", b"home/dir/tmp", b"home/dir/new$")),
        *((forgets, OrderedModel) for forgets in (b"home/box$", b"home/dir/tmp", b"home/dir/new$")),
    ],
)
def test_every_sync_of_a_mailbox_that_is_left_out_is_noticed(
    forgets: bytes, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ForgetfulDisk, "forgets", forgets)
    messages = WORKLOADS["a Maildir and an mbox"]
    reference = ForgetfulDisk(model=model)
    with_ledger(reference)
    live(reference, Houses({}), messages, set())
    disks = partial(ForgetfulDisk, model=model)
    with pytest.raises(AssertionError):
        for survivor, after, accepted in restarted_after_each_cut(disks, reference.effects, messages, 64):
            check_all(survivor, after, messages, accepted)
