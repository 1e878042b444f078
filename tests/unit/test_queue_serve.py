"""The resident qmail-queue's loop, one turn at a time, over real sockets and a FakeDisk."""

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from notqmail.queue.layout import split_path
from notqmail.receive import queue_callers, queue_copies, queue_line, queue_serve
from notqmail.receive.enqueue import Request
from notqmail.receive.queue_callers import Caller
from notqmail.receive.queue_copies import CHILDREN_OF_STRANGERS_MAX, CHILDREN_PER_UID_MAX, OURS, Copies
from notqmail.receive.queue_line import JOIN_MAX, Large
from notqmail.receive.queue_serve import QueueServer
from notqmail.testing.fake_disk import FakeDisk
from notqmail.wire.netstring import decode_all, encode
from notqmail.wire.qmqp import INLINE_MAX, RESIDENT_HELLO, encode_descriptor_package, encode_package
from send_bench import SteppedClock

GOOD = encode_package(b"a\n", b"s@x", [b"r@y"])


class CopiesInPlace(Copies):
    """Large messages without a child: the FakeDisk is in this process. (tests/process has the real ones.)"""

    def start(self, uid: int, keep: socket.socket, descriptors: list[int], copy: Callable[[], bytes]) -> int:
        keep.sendall(copy())
        done, end = os.pipe()
        os.close(end)  # readable at once: this child has ended
        self._uids[done], self._pids[done] = uid, 0
        return done

    def end(self, pidfd: int) -> bool:
        del self._uids[pidfd], self._pids[pidfd]
        os.close(pidfd)
        return True


class SlowCopies(CopiesInPlace):
    """Children that end only when `finish_one` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: list[tuple[int, Callable[[], None]]] = []

    def start(self, uid: int, keep: socket.socket, descriptors: list[int], copy: Callable[[], bytes]) -> int:
        done, end = os.pipe()
        self._uids[done], self._pids[done] = uid, 0
        result = copy()  # the file is closed here as soon as there is a child
        self.under_way.append((end, lambda: keep.sendall(result)))
        return done

    def finish_one(self) -> None:
        end, answer = self.under_way.pop(0)
        answer()
        os.close(end)


class Server:
    """The loop, and what its clients hear."""

    def __init__(self, place: Path) -> None:
        self.disk = FakeDisk()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.path = str(place / "socket")
        self._listener.bind(self.path)
        self._listener.listen(100)
        self._listener.setblocking(False)
        self.lifeline_in, self.lifeline_out = os.pipe()
        self.loop = QueueServer(
            os.fsencode(place),
            self.disk,
            SteppedClock(),
            self._listener,
            uids=None,
            lifeline_fd=self.lifeline_in,
            copies=CopiesInPlace(),
        )
        self._clients: list[socket.socket] = []

    def client(self, *data: bytes) -> socket.socket:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.connect(self.path)
        one.setblocking(False)
        self._clients.append(one)
        for part in data:
            one.send(part)
        return one

    def turns(self, times: int = 4) -> None:
        for _ in range(times):
            self.loop.turn(0)

    def answers(self, client: socket.socket) -> list[bytes]:
        """What this client has heard so far."""
        self.turns()
        try:
            return decode_all(client.recv(1_000_000))
        except BlockingIOError:
            return []

    def envelopes(self) -> list[bytes]:
        return sorted(content for path, content in self.disk.everything().items() if path.startswith(b"todo/"))

    def descriptors(self) -> int:
        return len(os.listdir("/proc/self/fd"))

    def close(self) -> None:
        self.loop.stopping = True
        self.loop.run()
        for one in (*self._clients, self._listener):
            one.close()
        self.loop._poll.close()
        for descriptor in (self.lifeline_in, self.lifeline_out):
            try:
                os.close(descriptor)
            except OSError:
                pass  # closed by the test


@pytest.fixture
def server(short_path: Path) -> Iterator[Server]:
    one = Server(short_path)
    yield one
    one.close()


def envelope(sender: bytes, recipient: bytes) -> bytes:
    return b"u%d\0p%d\0F%b\0T%b\0" % (os.getuid(), os.getpid(), sender, recipient)


def test_a_package_is_queued_with_the_kernel_s_uid_and_pid_and_answered(server: Server) -> None:
    client = server.client(GOOD)
    assert server.answers(client) == [b"Kok qp %d" % os.getpid()]
    assert server.envelopes() == [envelope(b"s@x", b"r@y")]
    (path,) = (path for path in server.disk.everything() if path.startswith(b"mess/"))
    assert server.disk.read(path).startswith(b"Received: (qmail %d invoked by uid %d); " % (os.getpid(), os.getuid()))


def test_a_resident_s_messages_have_numbers_of_their_own(server: Server) -> None:
    client = server.client(RESIDENT_HELLO, GOOD, GOOD)
    first, second = server.answers(client)
    assert first != second and first.startswith(b"Kok qp ") and second.startswith(b"Kok qp ")


def test_answers_come_in_the_order_of_the_packages_good_or_bad(server: Server) -> None:
    long_address = encode_package(b"b\n", b"s@x", [b"r" * 1_003])
    client = server.client(GOOD + long_address + GOOD)
    assert [answer[:1] for answer in server.answers(client)] == [b"K", b"D", b"K"]


def test_an_address_with_nul_costs_only_its_own_package(server: Server) -> None:
    client = server.client(GOOD + encode_package(b"b\n", b"s@x", [b"r\0Tvictim@y"]) + GOOD)
    assert [answer[:1] for answer in server.answers(client)] == [b"K", b"Z", b"K"]
    assert server.envelopes() == [envelope(b"s@x", b"r@y")] * 2
    client.send(GOOD)
    assert [answer[:1] for answer in server.answers(client)] == [b"K"], "the connection is still good"


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.0\r\n\r\n", b"5:hello!", encode(b"5:hello,"), encode(b""), encode(b"@5,1:s,")]
)
def test_garbage_is_answered_after_what_came_before_it_and_ends_the_connection(server: Server, garbage: bytes) -> None:
    client = server.client(GOOD + garbage + GOOD)
    assert [answer[:1] for answer in server.answers(client)] == [b"K", b"Z"]
    assert client.recv(1) == b"", "and it is closed"
    assert server.envelopes() == [envelope(b"s@x", b"r@y")]
    other = server.client(GOOD)
    assert len(server.answers(other)) == 1, "the others notice nothing"


def test_packages_of_many_clients_are_queued_together(server: Server) -> None:
    clients = [server.client() for _ in range(20)]
    server.turns(25)
    before = server.disk.effects
    for client in clients:
        client.send(GOOD)
    server.loop.turn(0)
    assert server.disk.effects - before < 20 * 9, "they share their syncs"
    assert [len(server.answers(client)) for client in clients] == [1] * 20


@pytest.mark.parametrize("cut", range(len(GOOD) + 1))
def test_a_client_may_vanish_at_any_byte(server: Server, cut: int) -> None:
    client = server.client(GOOD[:cut])
    server.turns()
    client.close()
    server.turns()
    assert len(server.envelopes()) == (cut == len(GOOD))
    assert len(server.answers(server.client(GOOD))) == 1


def large_file(content: bytes) -> int:
    descriptor = os.memfd_create("message")
    os.write(descriptor, content)
    return descriptor


@pytest.mark.parametrize(
    ("stored", "promised", "answer"),
    [
        (INLINE_MAX + 1, INLINE_MAX + 1, b"K"), (INLINE_MAX + 100, INLINE_MAX + 1, b"K"), (0, 0, b"K"),
        (INLINE_MAX, INLINE_MAX + 1, b"Z"), (0, 1, b"Z"), (10, 10**19, b"Z"),
    ],
)  # fmt: skip
def test_a_message_in_a_file_is_copied_to_its_promised_length(
    server: Server, stored: int, promised: int, answer: bytes
) -> None:
    descriptor, client = large_file(b"x" * stored), server.client()
    socket.send_fds(client, [encode_descriptor_package(promised, b"s@x", [b"r@y"])], [descriptor])
    os.close(descriptor)
    (heard,) = server.answers(client)
    assert heard[:1] == answer
    if answer == b"K":
        (path,) = (path for path in server.disk.everything() if path.startswith(b"mess/"))
        assert server.disk.read(path).split(b"\n", 1)[1] == b"x" * promised
    else:
        assert server.disk.everything() == {}
        assert heard == b"Zqq read error (#4.3.0)"


@pytest.mark.parametrize("kind", ["pipe", "directory", "write only", "device", "socket"])
def test_a_descriptor_that_is_no_readable_file_is_a_read_error(server: Server, kind: str) -> None:
    pipe_in, pipe_out = os.pipe()
    descriptor = {
        "pipe": lambda: os.dup(pipe_in), "directory": lambda: os.open("/", os.O_RDONLY),
        "write only": lambda: os.open(os.devnull, os.O_WRONLY), "device": lambda: os.open("/dev/zero", os.O_RDONLY),
        "socket": lambda: socket.socket().detach(),
    }[kind]()  # fmt: skip
    client = server.client()
    socket.send_fds(client, [encode_descriptor_package(5, b"s@x", [b"r@y"])], [descriptor])
    for one in (descriptor, pipe_in, pipe_out):
        os.close(one)
    assert server.answers(client) == [b"Zqq read error (#4.3.0)"]


def test_no_descriptor_is_kept(server: Server) -> None:
    client = server.client()
    server.turns()
    before = server.descriptors()
    for recipient in (b"r@y", b"with\0nul@y", b"r" * 1_003):
        descriptor = large_file(b"x")
        socket.send_fds(client, [encode_descriptor_package(1, b"s@x", [recipient])], [descriptor])
        os.close(descriptor)
        server.turns()
    assert server.descriptors() == before


def test_a_client_cannot_fill_the_server_with_descriptors(server: Server) -> None:
    client = server.client()
    server.turns()
    before, descriptor = server.descriptors(), large_file(b"x")
    for _ in range(60):
        try:
            socket.send_fds(client, [b"1"[:1]], [descriptor] * 8)
        except OSError:
            break
        server.turns(1)
    os.close(descriptor)
    assert server.descriptors() <= before + 16
    assert len(server.answers(server.client(GOOD))) == 1


def test_a_full_disk_is_a_temporary_answer_and_passes(server: Server) -> None:
    client = server.client()
    server.disk.fail_at = 0
    client.send(GOOD)
    assert server.answers(client) == [b"Zqq write error or disk full (#4.3.0)"]
    server.disk.fail_at = None
    client.send(GOOD)
    assert server.answers(client)[0][:1] == b"K"


def test_a_client_that_reads_no_answers_is_dropped_and_costs_nobody(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_callers, "_ANSWER_UNREAD_MAX", 1_000)
    client = server.client()
    server.turns()
    for one in server.loop._callers._all.values():
        one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    for _ in range(3_000):
        try:
            client.send(encode_package(b"", b"", []))
        except BlockingIOError:
            server.turns(2)
        except OSError:
            break
    else:
        raise AssertionError("it was never dropped")
    assert len(server.answers(server.client(GOOD))) == 1


def test_more_connections_than_it_takes_wait(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_callers, "CONNECTIONS_MAX", 3)
    clients = [server.client(GOOD) for _ in range(5)]
    server.turns(12)
    heard = [client for client in clients if server.answers(client)]
    assert len(heard) == 3
    for client in heard:
        client.close()
    server.turns(12)
    assert all(server.answers(client) for client in clients if client not in heard)


def test_the_lifeline_s_end_ends_it(server: Server) -> None:
    server.turns()
    assert not server.loop.stopping
    os.close(server.lifeline_out)
    server.turns(1)
    assert server.loop.stopping


def test_split_path_is_where_the_message_lies(server: Server) -> None:
    server.answers(server.client(GOOD))
    (todo,) = (path for path in server.disk.everything() if path.startswith(b"todo/"))
    assert split_path(b"mess", int(todo[5:])) in server.disk.everything()


def test_one_user_cannot_have_all_connections(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(queue_callers, "CONNECTIONS_PER_UID_MAX", 3)
    server.loop._callers.trusted = set()  # as if we were a user of the machine
    idle = [server.client() for _ in range(3)]
    server.turns()
    for _ in range(2):
        one_more = server.client()
        server.turns()
        one_more.settimeout(60)  # a thread closes it
        assert one_more.recv(1) == b""
    assert capfd.readouterr().err.count("refusing more") == 1
    idle[0].close()
    server.turns()
    assert server.answers(server.client(GOOD)) == [b"Kok qp %d" % os.getpid()]


def test_the_trigger_is_pulled_only_for_what_may_be_there(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    pulled: list[bytes] = []
    monkeypatch.setattr(queue_serve.trigger, "pull", pulled.append)
    server.answers(server.client(encode_package(b"b\n", b"s@x", [b"r" * 1_003])))
    assert pulled == [], "refused: qmail-send would look through todo for nothing"
    server.answers(server.client(GOOD))
    assert len(pulled) == 1


@pytest.fixture
def stranger(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, to which we are nobody in particular."""
    monkeypatch.setattr(server.loop._callers, "trusted", frozenset())
    return server


def lingering_socket() -> tuple[int, tuple[socket.socket, ...]]:
    """A TCP socket whose last close waits 100 seconds for a peer that does not read; and what keeps it so."""
    listener = socket.create_server(("127.0.0.1", 0))
    sender = socket.create_connection(listener.getsockname())
    peer, _ = listener.accept()
    sender.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sender.send(b"x" * 65_536)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 100))
    return sender.detach(), (listener, peer)


@pytest.mark.parametrize("with_it", [encode_descriptor_package(5, b"s@x", [b"r@y"]), b"garbage", b"1"])
def test_a_descriptor_whose_closing_would_take_long_keeps_nobody_waiting(stranger: Server, with_it: bytes) -> None:
    descriptor, kept = lingering_socket()
    client = stranger.client()
    socket.send_fds(client, [with_it], [descriptor])
    socket.send_fds(client, [b"more"], [descriptor])  # nobody may ever read this one
    client.close()
    os.close(descriptor)
    begun_s = time.monotonic()
    assert stranger.answers(stranger.client(GOOD))[0][:1] == b"K"
    assert time.monotonic() - begun_s < 60
    for one in kept:
        one.close()  # its unread data resets the connection, and the waiting ends


def test_who_has_too_many_slow_closings_has_to_wait(stranger: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stranger.loop._callers._closer, "is_stuck", {os.getuid()}.__contains__)
    client = stranger.client()
    stranger.turns()
    client.settimeout(60)
    assert client.recv(1) == b""


def test_what_can_never_fit_is_refused_before_a_byte_is_written(server: Server) -> None:
    descriptor, client = os.memfd_create("sparse"), server.client()
    os.ftruncate(descriptor, 2**62)
    socket.send_fds(client, [encode_descriptor_package(2**62, b"s@x", [b"r@y"])], [descriptor])
    os.close(descriptor)
    assert server.answers(client) == [b"Zqq write error or disk full (#4.3.0)"]
    assert server.disk.everything() == {}


@pytest.mark.parametrize(("name", "length"), [("/proc/self/mem", 5), ("/proc/self/environ", 1), ("/proc/self/maps", 0)])
def test_files_of_the_kernel_are_no_messages(server: Server, name: str, length: int) -> None:
    descriptor, client = os.open(name, os.O_RDONLY), server.client()
    socket.send_fds(client, [encode_descriptor_package(length, b"s@x", [b"r@y"])], [descriptor])
    os.close(descriptor)
    (heard,) = server.answers(client)
    assert heard == b"Zqq read error (#4.3.0)" if length else heard.startswith(b"K")  # of length 0 nothing is read


def test_without_another_thread_a_stranger_s_descriptor_is_closed_all_the_same(
    stranger: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", cannot)
    client = stranger.client()
    stranger.turns()
    before, descriptor = stranger.descriptors(), large_file(b"x")
    socket.send_fds(client, [encode_descriptor_package(1, b"s@x", [b"r@y"])], [descriptor])
    os.close(descriptor)
    assert stranger.answers(client)[0][:1] == b"K"
    assert stranger.descriptors() == before
    assert not stranger.loop._callers._closer.is_stuck(os.getuid())


def test_who_has_called_before_the_end_is_served_and_who_calls_after_finds_nobody(server: Server) -> None:
    early = server.client(GOOD)  # not even accepted yet
    server.loop.stopping = True
    server.loop.run()
    assert decode_all(early.recv(1_000))[0].startswith(b"Kok qp ")
    assert not os.path.exists(server.path)
    assert len(server.envelopes()) == 1


def send_file(client: socket.socket, length: int, sender: bytes = b"s@x") -> None:
    """A large message of zeros."""
    descriptor = os.memfd_create("message")
    os.ftruncate(descriptor, length)
    socket.send_fds(client, [encode_descriptor_package(length, sender, [b"r@y"])], [descriptor])
    os.close(descriptor)


@pytest.fixture
def slow(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowCopies]:
    """The server's children, which never end by themselves; two for each user."""
    monkeypatch.setattr(queue_copies, "CHILDREN_PER_UID_MAX", 2)
    copies = server.loop._copies = SlowCopies()
    yield copies
    while copies.under_way:
        copies.finish_one()


def test_our_own_accounts_wait_for_a_child(server: Server, slow: SlowCopies) -> None:
    clients = [server.client() for _ in range(5)]
    for client in clients:
        send_file(client, JOIN_MAX + 1)
    server.turns(10)
    begun = []
    for left in range(5, 0, -1):
        begun.append(len(slow.under_way))
        assert sum(bool(server.answers(client)) for client in clients) == (left < 5)
        slow.finish_one()
        server.turns()
    assert begun == [2, 2, 2, 2, 1], "never more than allowed, and the next one as soon as one ends"
    assert sum(bool(server.answers(client)) for client in clients) == 1
    assert len(server.envelopes()) == 5


def test_a_stranger_is_refused_beyond_its_children(
    server: Server, slow: SlowCopies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.loop._callers, "trusted", frozenset())
    clients = [server.client() for _ in range(3)]
    for client in clients:
        send_file(client, JOIN_MAX + 1)
    server.turns(8)
    heard = [answer[:1] for client in clients for answer in server.answers(client)]
    assert (heard, len(slow.under_way)) == ([b"Z"], 2)
    assert server.answers(server.client(GOOD))[0][:1] == b"K", "everybody else goes on"


def test_a_short_file_of_a_stranger_is_never_read_by_the_writer(
    server: Server, slow: SlowCopies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.loop._callers, "trusted", frozenset())
    send_file(server.client(), 10)
    server.turns()
    assert len(slow.under_way) == 1


def test_strangers_together_leave_children_to_our_own_accounts() -> None:
    copies = Copies()
    for number in range(CHILDREN_OF_STRANGERS_MAX):
        assert copies.has_room(1_000 + number % 3)
        copies._uids[number] = 1_000 + number % 3
    assert not copies.has_room(1_003)
    for number in range(CHILDREN_PER_UID_MAX):
        assert copies.has_room(OURS)
        copies._uids[-1 - number] = OURS
    assert not copies.has_room(OURS)


def test_messages_in_files_share_syncs_with_each_other_and_with_small_ones(server: Server, slow: SlowCopies) -> None:
    clients = [server.client() for _ in range(20)]
    server.turns(25)
    before = server.disk.effects
    for number, client in enumerate(clients):
        if number % 2:
            send_file(client, JOIN_MAX // 4)
        else:
            client.send(GOOD)
    server.loop.turn(0)
    assert server.disk.effects - before < 20 * 9
    assert len(server.envelopes()) == 20 and slow.under_way == []
    assert [len(server.answers(client)) for client in clients] == [1] * 20


def test_a_small_message_waits_for_no_more_large_ones_than_share_a_sync(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_line, "COMMIT_FILES_MAX", 300_000)
    large = [server.client() for _ in range(8)]
    small = server.client()
    server.turns(12)
    for number, client in enumerate(large):
        send_file(client, 100_000, b"%d@x" % number)
    queued = []
    for turn in range(3):
        if turn == 1:
            small.send(GOOD)
        server.loop.turn(0)
        queued.append(len(server.envelopes()))
    assert queued == [3, 7, 9], "three files a sync, and the small one with the next"
    assert all(len(server.answers(client)) == 1 for client in (*large, small))


def test_one_message_larger_than_a_sync_may_carry_is_carried_all_the_same(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_line, "COMMIT_FILES_MAX", 1_000)
    client = server.client()
    send_file(client, JOIN_MAX)
    assert server.answers(client)[0][:1] == b"K"


@pytest.mark.parametrize(
    ("length", "has_name", "owner", "joins"),
    [
        (JOIN_MAX, False, os.getuid(), True), (0, False, os.getuid(), True), (JOIN_MAX + 1, False, os.getuid(), False),
        (1, True, os.getuid(), False), (1, False, os.getuid() + 1, False),
    ],
)  # fmt: skip
def test_the_writer_reads_only_short_unnamed_files_of_our_own(
    tmp_path: Path, length: int, has_name: bool, owner: int, joins: bool
) -> None:
    place = tmp_path / "m"
    with place.open("wb") as file:
        if not has_name:
            place.unlink()
        assert a_large(file.fileno(), length).may_join({owner}) is joins


def a_large(descriptor: int, length: int) -> Large:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        return Large(Caller(one), Request([], [], uid=0, pid=0, invoked=b""), descriptor, length)


def test_no_pipe_joins() -> None:
    pipe_in, pipe_out = os.pipe()
    assert not a_large(pipe_in, 1).may_join({os.getuid()})
    os.close(pipe_in)
    os.close(pipe_out)


def test_no_file_that_cannot_be_looked_at_joins() -> None:
    file = large_file(b"x")
    os.close(file)
    assert not a_large(file, 1).may_join({os.getuid()})


@pytest.mark.parametrize("length", [JOIN_MAX, JOIN_MAX + 1])
def test_who_leaves_the_line_leaves_nothing_there(
    server: Server, slow: SlowCopies, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr(queue_line, "COMMIT_FILES_MAX", 1)  # one at a time
    clients = [server.client() for _ in range(6)]
    server.turns(10)
    before = server.descriptors()
    for client in clients:
        send_file(client, length)
    server.turns(1)
    waiting = len(server.loop._line.descriptors())
    assert waiting in (4, 5)
    for client in clients:
        client.close()
    server.turns(12)
    assert server.loop._line.descriptors() == []
    while slow.under_way:
        end, _ = slow.under_way.pop(0)
        os.close(end)
    server.turns()
    assert server.loop._callers.descriptors() == []
    assert server.descriptors() == before - 2 * len(clients), "both ends of each connection are gone"


@pytest.mark.parametrize("second", [GOOD, encode_descriptor_package(1, b"s@x", []), b"garbage"])
def test_a_large_message_comes_alone(server: Server, capfd: pytest.CaptureFixture[str], second: bytes) -> None:
    before = server.descriptors()
    client, file = server.client(), large_file(b"x")
    socket.send_fds(client, [encode_descriptor_package(1, b"s@x", []) + second], [file, file])
    os.close(file)
    server.turns()
    assert "must come alone" in capfd.readouterr().err
    assert client.recv(1) == b""
    assert server.descriptors() == before + 1, "our end of the connection"
    assert server.envelopes() == []


def test_a_large_message_may_follow_a_small_one_and_is_answered_after_it(server: Server) -> None:
    client = server.client()
    server.turns()
    client.send(encode_package(b"b\n", b"s@x", [b"r" * 1_003]))
    send_file(client, 100_000)
    assert [answer[:1] for answer in server.answers(client)] == [b"D", b"K"]
    client.send(GOOD)
    assert server.answers(client)[0][:1] == b"K", "and the connection is still good"


def test_all_who_call_at_once_are_heard_in_one_turn_and_share_their_syncs(server: Server) -> None:
    clients = [server.client(GOOD) for _ in range(10)]
    for client in [server.client() for _ in range(10)]:
        send_file(client, 100_000)
        clients.append(client)
    server.loop.turn(0)
    assert len(server.envelopes()) == 20
    assert server.disk.effects < 20 * 9
    assert [len(server.answers(client)) for client in clients] == [1] * 20
