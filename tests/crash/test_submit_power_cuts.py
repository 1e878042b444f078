"""Every power cut while messages are being queued: at each effect, with every set of survivors."""

import random

import pytest
from queue_states import FixedClock, legal_states

from notqmail.queue.layout import split_path
from notqmail.receive.enqueue import Enqueuer, Request
from notqmail.testing.fake_disk import FakeDisk, PowerCut
from notqmail.wire import queue_exit


def make_request(number: int) -> Request:
    return Request(
        [b"Subject: %d\n\n" % number, b"body %d\n" % number], [b"s%d@x" % number, b"r%d@x" % number, b"q@x"],
        uid=7, pid=100 + number, invoked=b"by uid 7",
    )  # fmt: skip


def envelope(number: int) -> bytes:
    return b"u7\0p%d\0Fs%d@x\0Tr%d@x\0Tq@x\0" % (100 + number, number, number)


def check(disk: FakeDisk, requests: list[Request], acknowledged: bool) -> None:
    files = disk.everything()
    legal_states(disk)
    whole = {}
    for path, content in files.items():
        if path.startswith(b"todo/"):
            message = files[split_path(b"mess", int(path[5:]))]
            whole[content] = message
    for index in range(len(requests)):
        if acknowledged:
            assert envelope(index) in whole, "an accepted message is lost"
    for content, message in whole.items():
        index = [envelope(number) for number in range(len(requests))].index(content)
        assert message.endswith(b"Subject: %d\n\nbody %d\n" % (index, index)), "half a message is queued"


@pytest.mark.parametrize("batch", [1, 2])
def test_no_cut_loses_an_accepted_message_or_queues_half_of_one(batch: int) -> None:
    disk = FakeDisk()
    Enqueuer(disk, FixedClock(), 9).enqueue([make_request(number) for number in range(batch)])
    effects = disk.effects
    states = 0
    for cut in range(effects + 1):
        disk = FakeDisk()
        disk.cut_at = cut
        requests = [make_request(number) for number in range(batch)]
        try:
            Enqueuer(disk, FixedClock(), 9).enqueue(requests)
            acknowledged = True
            assert all(request.exit_code == queue_exit.ACCEPTED for request in requests)
        except PowerCut:
            acknowledged = False
        for survivor in disk.survivors(random.Random(cut), limit=4_096):
            check(survivor, requests, acknowledged)
            states += 1
    assert effects >= 9 and states > effects  # the enumeration did run


def test_a_full_disk_at_any_step_is_an_error_and_leaves_no_message_behind() -> None:
    reference = FakeDisk()
    Enqueuer(reference, FixedClock(), 9).enqueue([make_request(0)])
    for failing in range(reference.effects):
        disk = FakeDisk()
        disk.fail_at = failing
        request = make_request(0)
        Enqueuer(disk, FixedClock(), 9).enqueue([request])
        if request.exit_code == queue_exit.ACCEPTED:
            assert envelope(0) in disk.everything().values()
        else:
            assert queue_exit.report_for_exit(request.exit_code).kind == b"Z"
        legal_states(disk)


def test_one_bad_message_does_not_cost_the_others_of_its_batch() -> None:
    disk = FakeDisk()
    good, bad = make_request(0), make_request(1)
    bad.addresses = [b"s@x", b"a" * 1_003]
    Enqueuer(disk, FixedClock(), 9).enqueue([good, bad])
    assert (good.exit_code, bad.exit_code) == (queue_exit.ACCEPTED, queue_exit.ADDRESS_TOO_LONG)
    assert [path for path in disk.everything() if path.startswith(b"todo/")] == [b"todo/%d" % good.number]
    assert not [path for path in disk.everything() if path.startswith(b"pid/")]
