"""The queue's writer: what is on the disk after each answer."""

import errno

import pytest

from notqmail.queue.layout import split_path
from notqmail.receive.enqueue import ADDRESS_MAX, Enqueuer, Refused, Request, invoked_by
from notqmail.testing.fake_disk import FakeDisk
from notqmail.unix.durable import WriteFailed
from notqmail.wire import queue_exit
from send_bench import SteppedClock


def request(
    *recipients: bytes, chunks: tuple[bytes, ...] = (b"a\n\nb\n",), sender: bytes = b"s@x", pid: int = 4
) -> Request:
    return Request(chunks, [sender, *recipients], uid=7, pid=pid, invoked=b"by uid 7")


def enqueue(disk: FakeDisk, *requests: Request) -> None:
    Enqueuer(disk, SteppedClock(0), 9).enqueue(requests)


def test_an_accepted_message_is_mess_and_todo_and_nothing_else() -> None:
    disk, one = FakeDisk(), request(b"r@y", b"q@z")
    enqueue(disk, one)
    assert one.exit_code == queue_exit.ACCEPTED
    assert disk.everything() == {
        split_path(b"mess", one.number): b"Received: (qmail 4 invoked by uid 7); 1 Jan 1970 00:00:00 -0000\na\n\nb\n",
        b"todo/%d" % one.number: b"u7\0p4\0Fs@x\0Tr@y\0Tq@z\0",
    }


def test_a_message_may_have_no_recipients_no_sender_and_no_bytes() -> None:
    disk, one = FakeDisk(), request(sender=b"", chunks=())
    enqueue(disk, one)
    assert disk.read(b"todo/%d" % one.number) == b"u7\0p4\0F\0"
    assert disk.read(split_path(b"mess", one.number)).count(b"\n") == 1


def test_large_messages_and_envelopes_are_written_whole() -> None:
    disk = FakeDisk()
    recipients = [b"r%d@example.org" % number for number in range(10_000)]
    one = request(*recipients, chunks=(b"x" * 70_000, b"y" * 100, b"z" * 70_000))
    enqueue(disk, one)
    assert disk.read(split_path(b"mess", one.number)).endswith(b"x" * 70_000 + b"y" * 100 + b"z" * 70_000)
    assert disk.read(b"todo/%d" % one.number).split(b"\0")[3:-1] == [b"T" + recipient for recipient in recipients]


@pytest.mark.parametrize(("length", "code"), [(ADDRESS_MAX, queue_exit.ACCEPTED), (ADDRESS_MAX + 1, 11)])
@pytest.mark.parametrize("place", ["sender", "recipient"])
def test_an_address_may_have_1002_bytes(length: int, code: int, place: str) -> None:
    disk, address = FakeDisk(), b"a" * length
    one = request(b"r@y", sender=address) if place == "sender" else request(b"r@y", address)
    enqueue(disk, one)
    assert one.exit_code == code
    assert (disk.everything() == {}) == (code != queue_exit.ACCEPTED)


def test_what_the_message_or_the_envelope_refuses_while_it_is_read_leaves_nothing() -> None:
    def broken(first: bytes):
        yield first
        raise Refused(queue_exit.READ_FAILED)

    for one in (
        Request(broken(b"a"), [b"s"], uid=7, pid=4, invoked=b""),
        Request([b"a"], broken(b"s"), uid=7, pid=4, invoked=b""),
    ):
        disk = FakeDisk()
        enqueue(disk, one)
        assert one.exit_code == queue_exit.READ_FAILED
        assert disk.everything() == {}


class StubbornDisk(FakeDisk):
    """Fails one kind of step, always."""

    def __init__(self, verb: str, start: bytes, error: OSError) -> None:
        super().__init__()
        self.verb, self.start, self.error = verb, start, error

    def _perhaps(self, verb: str, path: bytes) -> None:
        if verb == self.verb and path.startswith(self.start):
            raise self.error

    def create(self, path: bytes, chunks: object, mode: int = 0o600) -> int:
        self._perhaps("create", path)
        return super().create(path, chunks, mode)  # type: ignore[arg-type]

    def link(self, old: bytes, new: bytes) -> None:
        self._perhaps("link", new)
        super().link(old, new)

    def sync(self, paths: object) -> None:
        if any(path.startswith(self.start) for path in paths):  # type: ignore[attr-defined]
            self._perhaps("sync", self.start)
        super().sync(paths)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verb", "start", "error", "code"),
    [
        ("create", b"pid/", PermissionError(errno.EACCES, "no"), 63),
        ("create", b"pid/", FileExistsError(errno.EEXIST, "taken"), 63),  # nine names, all taken
        ("create", b"pid/", OSError(errno.ENOSPC, "full"), 53),  # no inode left
        ("create", b"pid/", OSError(errno.EDQUOT, "quota"), 53),
        ("create", b"pid/", WriteFailed(errno.EIO, "broken"), 53),
        ("link", b"mess/", FileExistsError(errno.EEXIST, "a stale message has the number"), 64),
        ("link", b"todo/", OSError(errno.EMLINK, "no"), 66),
        ("sync", b"mess/", WriteFailed(errno.EIO, "broken"), 53),
        ("sync", b"todo", WriteFailed(errno.EIO, "broken"), 53),
    ],
)
def test_each_failing_step_has_its_exit_code(verb: str, start: bytes, error: OSError, code: int) -> None:
    disk, one = StubbornDisk(verb, start, error), request(b"r@y")
    enqueue(disk, one)
    assert one.exit_code == code
    if (verb, start) != ("sync", b"todo"):  # then its name may have been seen already, and it stays
        assert disk.everything() == {}


def test_a_name_under_pid_that_is_taken_is_stepped_over() -> None:
    disk = FakeDisk()
    disk.create(b"pid/9.0.1", [b"of an earlier process with this number"])
    one = request(b"r@y")
    enqueue(disk, one)
    assert one.exit_code == queue_exit.ACCEPTED
    assert disk.read(b"pid/9.0.1") == b"of an earlier process with this number"


@pytest.mark.parametrize(
    ("uid", "classic", "words"),
    [
        (10, True, b"by alias"), (11, True, b"from network"), (12, True, b"for bounce"), (13, True, b"by uid 13"),
        (10, False, b"by uid 10"), (0, True, b"by uid 0"),
    ],
)  # fmt: skip
def test_the_received_line_says_who_called(uid: int, classic: bool, words: bytes) -> None:
    assert invoked_by(uid, {"alias": 10, "daemon": 11, "send": 12, "queue": 13} if classic else None) == words
