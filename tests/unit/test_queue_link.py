"""The residents' lasting connection to the queue: who gets which answer, and what happens when there is none."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from notqmail.queue import link as link_module
from notqmail.queue.client import ANSWER_TIMEOUT_S
from notqmail.queue.link import QueueLink
from notqmail.wire import queue_exit
from notqmail.wire.netstring import encode
from notqmail.wire.qmqp import (
    RESIDENT_HELLO,
    PackageReader,
    decode_package,
    encode_descriptor_package,
    encode_package,
)
from notqmail.wire.reports import permanent, success

CRASHED = (queue_exit.CRASHED, 0)
UNREACHABLE = (queue_exit.report_for_exit(queue_exit.NO_QUEUE), 0)
LATE = (queue_exit.report_for_exit(queue_exit.TIMED_OUT), 0)
BLOCK = 65_536

Answering = Callable[[bytes], bytes | None]  # a package's body -> what is said to it; None: goodbye


class Writer:
    """A queue that is written for the test: notes what came, connection by connection."""

    def __init__(self, answering: Answering) -> None:
        self.answering, self.connections = answering, list[list[bytes]]()
        self._tasks: set[asyncio.Task[object]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        bodies: list[bytes] = []
        self.connections.append(bodies)
        packages = PackageReader()
        try:
            while data := await reader.read(BLOCK):
                for body in packages.receive(data):
                    bodies.append(body)
                    said = self.answering(body) if body != b"!" else b""
                    if said is None:
                        return
                    writer.write(said)
        except (ConnectionResetError, asyncio.CancelledError):
            pass  # the link dropped it, or the test is over
        finally:
            writer.close()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def queue(home: Path, answering: Answering) -> AsyncIterator[Writer]:
    """A writer that listens in this home, until the block ends."""
    (home / "run").mkdir(exist_ok=True)
    writer = Writer(answering)
    server = await asyncio.start_unix_server(writer.serve, home / "run/qmail-queue")
    try:
        yield writer
    finally:
        server.close()
        await writer.stop()
        (home / "run/qmail-queue").unlink(missing_ok=True)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


def said_to_sender(body: bytes) -> bytes:
    """Each sender is a number here, and that is its message's."""
    return encode(b"Kok qp " + decode_package(body).sender)


def test_packages_share_one_connection_and_each_gets_its_own_answer(short_path: Path) -> None:
    async def test() -> None:
        async with queue(short_path, said_to_sender) as writer:
            link = QueueLink(os.fsencode(short_path))
            first = await asyncio.gather(*[link.post(b"m", b"%d" % number, [b"r@x"]) for number in (5, 6, 7)])
            assert first == [(success(), 5), (success(), 6), (success(), 7)]
            assert await asyncio.gather(link.post(b"m", b"8", []), link.post(b"n", b"9", [])) == [
                (success(), 8), (success(), 9),
            ]  # fmt: skip
            await asyncio.sleep(0)
            assert not link._tasks  # nothing is kept of a message that is done
            link.close()
            [bodies] = writer.connections
            assert bodies[0] == b"!"
            [got] = PackageReader().receive(encode_package(b"m", b"5", [b"r@x"]))
            assert bodies[1] == got and len(bodies) == 6

    run(test)


def test_when_connected_a_package_is_sent_before_the_caller_waits(short_path: Path) -> None:
    async def test() -> None:
        async with queue(short_path, said_to_sender) as writer:
            link = QueueLink(os.fsencode(short_path))
            await link.post(b"m", b"1", [])
            tasks = asyncio.all_tasks()
            answer = link.post(b"m", b"2", [])
            assert asyncio.all_tasks() == tasks  # nobody has to run first
            assert await answer == (success(), 2)
            link.close()
            assert len(writer.connections) == 1

    run(test)


def test_a_refusal_comes_back_with_its_words(short_path: Path) -> None:
    async def test() -> None:
        async with queue(short_path, lambda _: encode(b"Dno")):
            link = QueueLink(os.fsencode(short_path))
            assert await link.post(b"m", b"s", []) == (permanent(b"no"), 0)
            link.close()

    run(test)


def test_without_a_queue_mail_waits_and_as_soon_as_there_is_one_it_goes(short_path: Path) -> None:
    async def test() -> None:
        link = QueueLink(os.fsencode(short_path))
        assert await asyncio.gather(link.post(b"m", b"1", []), link.post(b"m", b"2", [])) == [UNREACHABLE] * 2
        async with queue(short_path, said_to_sender):
            assert await link.post(b"m", b"3", []) == (success(), 3)
            link.close()

    run(test)


NONSENSE: list[Answering] = [
    lambda body: None,
    lambda body: b"5:hello;",
    lambda body: encode(b"Kok qp 1") * 3,  # more answers than questions: whose are they?
    lambda body: b"70000:",  # no answer is so long
]


@pytest.mark.parametrize("answering", NONSENSE, ids=["goodbye", "no netstring", "answers too many", "too long"])
def test_whoever_waits_when_the_connection_breaks_tries_later_and_the_next_has_a_new_one(
    answering: Answering, short_path: Path
) -> None:
    async def test() -> None:
        async with queue(short_path, answering) as writer:
            link = QueueLink(os.fsencode(short_path))
            assert await asyncio.gather(link.post(b"m", b"1", []), link.post(b"m", b"2", [])) == [CRASHED] * 2
            writer.answering = said_to_sender
            assert await link.post(b"m", b"3", []) == (success(), 3)
            link.close()
            assert [bodies[0] for bodies in writer.connections] == [b"!", b"!"]

    run(test)


def test_an_answer_for_a_caller_that_is_gone_is_nobody_else_s(short_path: Path) -> None:
    async def test() -> None:
        async with queue(short_path, said_to_sender):
            link = QueueLink(os.fsencode(short_path))
            await link.post(b"m", b"1", [])
            gone, waiting = link.post(b"m", b"2", []), link.post(b"m", b"3", [])
            gone.cancel()
            assert await waiting == (success(), 3)
            link.close()

    run(test)


def test_a_caller_that_is_gone_before_the_connection_is_there_or_breaks_is_no_trouble(short_path: Path) -> None:
    async def test() -> None:
        link = QueueLink(os.fsencode(short_path))
        gone, waiting = link.post(b"m", b"1", []), link.post(b"m", b"2", [])
        gone.cancel()
        assert await waiting == UNREACHABLE
        async with queue(short_path, lambda body: b"" if b"1:3" in body else None):
            gone, waiting = link.post(b"m", b"3", []), link.post(b"m", b"4", [])
            asyncio.get_running_loop().call_soon(gone.cancel)
            assert await waiting == CRASHED
            link.close()

    run(test)


class Timers:
    """In place of the loop's: they go off when the test says so."""

    def __init__(self) -> None:
        self.set = list[tuple[float, Callable[[], object]]]()
        self.cancelled = 0

    def call_later(self, delay_s: float, callback: Callable[..., object], *arguments: object) -> "Timers":
        self.set.append((delay_s, lambda: callback(*arguments)))
        return self

    def cancel(self) -> None:
        self.cancelled += 1

    def goes_off(self) -> None:
        [(delay_s, callback)] = self.set
        assert delay_s == ANSWER_TIMEOUT_S
        self.set.clear()
        callback()


def test_a_queue_that_never_answers_is_given_up_but_not_one_that_is_slow(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = Timers()

    def slow(body: bytes) -> bytes:
        sender = decode_package(body).sender
        if sender == b"5":
            return encode(b"Kok qp 2") + said_to_sender(body)
        return b"" if sender in (b"2", b"6", b"7") else said_to_sender(body)

    async def test() -> None:
        async with queue(short_path, slow):
            monkeypatch.setattr(asyncio.get_running_loop(), "call_later", timers.call_later)
            link = QueueLink(os.fsencode(short_path))
            assert await link.post(b"m", b"1", []) == (success(), 1)
            second = link.post(b"m", b"2", [])
            timers.goes_off()  # it was set for 1, which has its answer: 2 may still get one
            assert len(timers.set) == 1
            assert await asyncio.gather(second, link.post(b"m", b"5", [])) == [(success(), 2), (success(), 5)]
            timers.goes_off()  # nobody waits, so none is set
            assert not timers.set
            stuck = [link.post(b"m", b"6", []), link.post(b"m", b"7", [])]
            timers.goes_off()
            assert await asyncio.gather(*stuck) == [CRASHED] * 2
            assert await link.post(b"m", b"1", []) == (success(), 1)
            link.close()
            assert timers.cancelled == 1

    run(test)


def test_it_is_always_the_oldest_that_must_not_wait_too_long(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timers = Timers()

    def slow(body: bytes) -> bytes:
        sender = decode_package(body).sender
        return {b"1": encode(b"Kok qp 1"), b"4": encode(b"Kok qp 2")}.get(sender, b"")

    async def test() -> None:
        async with queue(short_path, slow):
            monkeypatch.setattr(asyncio.get_running_loop(), "call_later", timers.call_later)
            link = QueueLink(os.fsencode(short_path))
            assert await link.post(b"m", b"1", []) == (success(), 1)
            second, third = link.post(b"m", b"2", []), link.post(b"m", b"3", [])
            timers.goes_off()  # from now on 2 is waited for
            fourth = link.post(b"m", b"4", [])
            assert await second == (success(), 2)
            timers.goes_off()  # it came in time: 3 has its own
            timers.goes_off()
            assert await asyncio.gather(third, fourth) == [CRASHED] * 2

    run(test)


def test_closing_ends_what_is_in_flight(short_path: Path) -> None:
    async def test() -> None:
        arrived = asyncio.Event()

        def answering(_: bytes) -> bytes:
            arrived.set()
            return b""

        QueueLink(os.fsencode(short_path)).close()  # nothing to close is no trouble
        async with queue(short_path, answering):
            link = QueueLink(os.fsencode(short_path))
            answer = link.post(b"m", b"1", [])
            assert link._tasks  # the loop itself would let go of the one that opens the connection
            await arrived.wait()
            link.close()
            assert await answer == CRASHED

    run(test)


class FileWriter:
    """Listens without asyncio's streams, for these do not hand over descriptors."""

    def __init__(self, home: Path) -> None:
        (home / "run").mkdir()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(os.fsencode(home / "run/qmail-queue"))
        self.socket.listen()
        self.socket.setblocking(False)
        self.got, self.content = b"", b""

    async def answer_one(self, answer: bytes) -> None:
        """Takes one submission, reads its file, says `answer` and goodbye."""
        loop = asyncio.get_running_loop()
        connection, _ = await loop.sock_accept(self.socket)
        with connection:
            connection.setblocking(False)
            readable = loop.create_future()
            loop.add_reader(connection, lambda: readable.done() or readable.set_result(None))
            await readable
            loop.remove_reader(connection)
            data, [descriptor], *_ = socket.recv_fds(connection, BLOCK, 1)
            self.content = os.pread(descriptor, BLOCK, 0)
            os.close(descriptor)
            self.got += data
            while not self.got.endswith(b",,"):
                self.got += await loop.sock_recv(connection, BLOCK)
            await loop.sock_sendall(connection, answer)


TWO = [b"a@x", b"b@x"]


def submit_file(home: Path, answer: bytes | None, recipients: list[bytes] = TWO) -> tuple[object, bytes, bytes]:
    """What the caller hears, what the writer got, what was in the file. No answer: nobody accepts."""
    message = home / "message"
    message.write_bytes(b"a large one")
    heard: list[object] = []

    async def test() -> None:
        link = QueueLink(os.fsencode(home))
        with open(message, "rb") as file:
            sending = asyncio.ensure_future(link.submit_file(file.fileno(), 11, b"s@x", recipients))
            if answer is not None:
                await writer.answer_one(answer)
            heard.append(await sending)
            assert os.pread(file.fileno(), 1, 0) == b"a"  # the caller keeps it

    writer = FileWriter(home)
    with writer.socket:
        run(test)
    return heard[0], writer.got, writer.content


def test_a_large_message_goes_as_a_descriptor_over_its_own_connection(short_path: Path) -> None:
    heard, got, content = submit_file(short_path, encode(b"Kok qp 7"))
    assert heard == (success(), 7) and content == b"a large one"
    assert got == RESIDENT_HELLO + encode_descriptor_package(11, b"s@x", TWO)


def test_an_envelope_that_a_socket_does_not_take_at_once_is_sent_whole(short_path: Path) -> None:
    recipients = [b"%0900d@x" % number for number in range(1_000)]
    heard, got, _ = submit_file(short_path, encode(b"Kok qp 7"), recipients)
    assert heard == (success(), 7)
    assert got == RESIDENT_HELLO + encode_descriptor_package(11, b"s@x", recipients)


@pytest.mark.parametrize("answer", [b"", b"8:Kok", b"5:hello;", b"70000:"])
def test_a_large_message_without_a_whole_answer_is_tried_later(answer: bytes, short_path: Path) -> None:
    assert submit_file(short_path, answer)[0] == CRASHED


def test_a_large_message_waits_for_its_answer_only_so_long(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "ANSWER_TIMEOUT_S", 0.05)
    assert submit_file(short_path, None)[0] == LATE


def test_a_large_message_without_a_queue_is_tried_later(short_path: Path) -> None:
    async def test() -> None:
        link = QueueLink(os.fsencode(short_path))
        with open(os.devnull, "rb") as file:
            assert await link.submit_file(file.fileno(), 0, b"", []) == UNREACHABLE
            (short_path / "run").mkdir()
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left_over:
                left_over.bind(os.fsencode(short_path / "run/qmail-queue"))
            assert await link.submit_file(file.fileno(), 0, b"", []) == UNREACHABLE

    run(test)
