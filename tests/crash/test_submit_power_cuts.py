"""Every power cut while messages are being queued: at each effect, with every set of survivors."""

import os
import random
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from queue_states import FixedClock, legal_states

from notqmail.queue.layout import split_path
from notqmail.receive.enqueue import Enqueuer, Request
from notqmail.receive.queue_serve import QueueServer
from notqmail.testing.disk_models import OrderedModel, StrictModel
from notqmail.testing.fake_disk import FakeDisk, PowerCut
from notqmail.wire import queue_exit
from notqmail.wire.qmqp import encode_descriptor_package, encode_package


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


class TwoDisks(FakeDisk):
    """intd and todo are on a file system of their own."""

    def link(self, old: bytes, new: bytes) -> None:
        if old.startswith(b"pid/") and new.startswith((b"todo/", b"intd/")):
            raise OSError(18, "cross-device link")
        super().link(old, new)


@pytest.mark.parametrize("model", [StrictModel, OrderedModel])
@pytest.mark.parametrize("kind", [FakeDisk, TwoDisks])
@pytest.mark.parametrize("batch", [1, 2])
def test_no_cut_loses_an_accepted_message_or_queues_half_of_one(
    batch: int, kind: type[FakeDisk], model: type[StrictModel] | type[OrderedModel]
) -> None:
    disk = kind(model=model)
    Enqueuer(disk, FixedClock(), 9).enqueue([make_request(number) for number in range(batch)])
    effects = disk.effects
    states = 0
    for cut in range(effects + 1):
        disk = kind(model=model)
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


def submitted_as_files(disk: FakeDisk, place: Path) -> bool:
    """Two large messages and a small one, in one batch of the resident; whether all were acknowledged."""
    path = str(place / "s")
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as stack:
        listener.bind(path)
        stack.callback(os.unlink, path)
        listener.listen()
        listener.setblocking(False)
        server = QueueServer(bytes(place), disk, FixedClock(), listener, uids=None)
        stack.callback(server._poll.close)
        stack.callback(server._callers.drop_all)
        clients: list[socket.socket] = []
        for _ in range(3):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(path)
            clients.append(client)
            server.turn(0)
        for number, client in enumerate(clients):
            addresses = b"s%d@x" % number, [b"r%d@x" % number, b"q@x"]
            if number == 2:
                client.send(encode_package(body(number), *addresses))
            else:
                with open(os.memfd_create("m"), "r+b") as file:
                    file.write(body(number))
                    file.flush()
                    package = encode_descriptor_package(len(body(number)), *addresses)
                    socket.send_fds(client, [package], [file.fileno()])
        try:
            server.turn(0)
            return all(client.recv(100, socket.MSG_DONTWAIT)[4:6] == b"ok" for client in clients)
        except PowerCut:
            return False


def body(number: int) -> bytes:
    return b"Subject: %d\n\nbody %d\n" % (number, number)


def test_no_cut_loses_an_accepted_message_that_came_in_a_file(short_path: Path) -> None:
    disk = FakeDisk()
    assert submitted_as_files(disk, short_path)
    effects = disk.effects
    for cut in range(effects + 1):
        disk = FakeDisk()
        disk.cut_at = cut
        acknowledged = submitted_as_files(disk, short_path)
        assert acknowledged == (cut == effects)
        for survivor in disk.survivors(random.Random(cut), limit=512):
            legal_states(survivor)
            files = survivor.everything()
            whole = [files[split_path(b"mess", int(path[5:]))] for path in files if path.startswith(b"todo/")]
            assert len(whole) == 3 or not acknowledged
            assert all(message.split(b"\n", 1)[1] in {body(0), body(1), body(2)} for message in whole)
    assert effects >= 20


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
