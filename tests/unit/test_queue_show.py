"""`notqmail queue`: what a person is told of a queue, and who may not touch it meanwhile."""

import fcntl
import os
import socket
import sys
from pathlib import Path

import pytest

from notqmail.admin.queue_command import Progress
from notqmail.admin.queue_guard import Guard, InUse, is_running
from notqmail.admin.queue_show import as_text, summarize
from notqmail.queue.layout import create_queue, split_path
from notqmail.testing.fake_disk import FakeDisk
from notqmail.unix.accounts import GROUPS, USERS, Accounts
from notqmail.unix.clock import Clock

NOW_S = 1_000_000
ME = Accounts(True, dict.fromkeys(USERS, os.geteuid()), dict.fromkeys(GROUPS, os.getegid()))


def put(disk: FakeDisk, path: bytes, data: bytes, modified_s: int = NOW_S) -> None:
    disk.create(path, [data])
    disk.set_modified(path, modified_s)


def preprocessed(disk: FakeDisk, number: int, birth_s: int, channels: dict[bytes, tuple[bytes, int]]) -> None:
    put(disk, split_path(b"mess", number), b"12345")
    put(disk, split_path(b"info", number), b"Fs@x\0", birth_s)
    for channel, (records, due_s) in channels.items():
        put(disk, split_path(channel, number), records, due_s)


def shown(disk: FakeDisk, *, is_running: bool = False) -> list[str]:
    return as_text(summarize(disk, NOW_S, is_running=is_running), NOW_S, is_running=is_running).split("\n")


def test_an_empty_queue_is_told_in_three_lines() -> None:
    assert shown(FakeDisk()) == [
        "messages             0   0 bytes",
        "recipients           0   who wait: 0 local, 0 remote, 0 not sorted yet; 0 more are done",
        "qmail-send is not running.",
    ]


def test_everything_that_waits_is_counted_by_where_it_waits() -> None:
    disk = FakeDisk()
    preprocessed(disk, 50, NOW_S - 7_200, {b"local": (b"Da@h\0Tb@h\0", NOW_S - 5),
                                           b"remote": (b"Tc@Far\0Td@far\0Te@other\0", NOW_S + 600)})  # fmt: skip
    preprocessed(disk, 51, NOW_S - 60, {})
    put(disk, b"bounce/50", b"x")
    put(disk, split_path(b"mess", 52), b"1234")
    put(disk, b"todo/52", b"u1\0p2\0Fs\0Tf@far\0Tg\0", NOW_S - 9_000)
    put(disk, split_path(b"mess", 53), b"being written")
    assert shown(disk) == [
        "messages             3   14 bytes",
        "recipients           6   who wait: 1 local, 3 remote, 2 not sorted yet; 1 more are done",
        "                     1   message not preprocessed (perhaps being tried for the first time)",
        "                     1   message with failures to tell the sender of",
        "                     1   message done with, but for the end",
        "oldest             2 h   message 52, 12 Jan 1970 11:16:40 UTC",
        "next due           now   12 Jan 1970 13:46:35 UTC",
        "hosts with most recipients waiting:",
        "                     3   far",
        "                     1   g",
        "                     1   other",
        "qmail-send is not running.",
    ]


@pytest.mark.parametrize(
    ("age_s", "channel", "wait_s"),
    [(0, b"local", 100), (99, b"local", 1), (100, b"local", 300), (0, b"remote", 400), (400, b"remote", 1_200)],
)
def test_while_qmail_send_runs_its_schedule_says_what_is_due(age_s: int, channel: bytes, wait_s: int) -> None:
    disk = FakeDisk()
    preprocessed(disk, 50, NOW_S - age_s, {channel: (b"Ta@h\0", 5)})
    assert summarize(disk, NOW_S, is_running=True).next_due_s == NOW_S + wait_s
    assert summarize(disk, NOW_S, is_running=False).next_due_s == 5


def test_a_message_that_ends_meanwhile_is_passed_over_and_a_damaged_one_named() -> None:
    disk = FakeDisk()
    put(disk, b"todo/52", b"u1\0Fs\0Tf\0")  # its message file has just gone
    put(disk, split_path(b"mess", 53), b"1234")
    put(disk, b"todo/53", b"Xs\0Tf\0")
    put(disk, split_path(b"info", 54), b"no sender")
    found = summarize(disk, NOW_S, is_running=True)
    assert (found.in_todo, found.preprocessed, found.unreadable) == (0, 0, 2)
    assert any("see `notqmail queue check`" in line for line in shown(disk))


def test_the_hosts_that_are_not_shown_are_counted_and_strange_ones_cannot_harm_a_terminal() -> None:
    disk = FakeDisk()
    records = b"".join([b"Ta@h%02d\0" % host for host in range(12)]) + b"Tb@\x1b[2J\0" * 2 + b"Tc@" + b"l" * 90 + b"\0"
    preprocessed(disk, 50, NOW_S, {b"remote": (records, NOW_S)})
    lines = shown(disk)
    assert "                     2   _[2j" in lines
    assert "                     4   at 4 more hosts" in lines
    assert all(line.isprintable() and len(line) < 130 for line in lines)


@pytest.fixture
def home(short_path: Path) -> Path:
    create_queue(bytes(short_path), ME)
    (short_path / "run").mkdir()
    return short_path


def test_a_queue_at_rest_is_held_and_let_go(home: Path) -> None:
    guard = Guard(bytes(home))
    with pytest.raises(InUse):
        Guard(bytes(home))
    guard.release()
    guard.release()
    Guard(bytes(home)).release()


def test_a_running_qmail_send_is_named_with_what_to_do(home: Path) -> None:
    with (home / "queue/lock/sendmutex").open("wb") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        with pytest.raises(
            InUse, match=r"^qmail-send is running in .* \(it holds queue/lock/sendmutex\): stop it first"
        ):
            Guard(bytes(home))
    Guard(bytes(home)).release()


def test_a_running_writer_is_noticed_and_the_lock_let_go(home: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(home / "run/qmail-queue"))
        listener.listen()
        with pytest.raises(InUse, match=r"^qmail-queue --serve is running in .* may take mail in: stop it first"):
            Guard(bytes(home))
    Guard(bytes(home)).release()


@pytest.mark.parametrize("what", ["missing", "a directory"])
def test_without_a_lock_file_there_is_nobody_to_fear(home: Path, what: str) -> None:
    (home / "queue/lock/sendmutex").unlink()
    if what == "a directory":
        (home / "queue/lock/sendmutex").mkdir()
    Guard(bytes(home)).release()


def test_asking_whether_it_runs_leaves_the_lock_alone(home: Path) -> None:
    assert not is_running(bytes(home))
    fifo = os.open(home / "queue/lock/trigger", os.O_RDONLY | os.O_NONBLOCK)
    try:
        guard = Guard(bytes(home))
        assert is_running(bytes(home))
        guard.release()
    finally:
        os.close(fifo)
    (home / "queue/lock/trigger").unlink()
    assert not is_running(bytes(home))


class Terminal:
    """Where lines go that a person sees."""

    def __init__(self, *, is_terminal: bool) -> None:
        self.text, self._is_terminal = "", is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> None:
        self.text += text


class SteppingClock(Clock):
    """Each look at it is a tenth of a second later."""

    __slots__ = ("steady",)

    def __init__(self) -> None:
        self.steady = 0.0

    def steady_s(self) -> float:
        self.steady += 0.1
        return self.steady


@pytest.mark.parametrize("is_terminal", [True, False])
def test_long_work_says_a_line_a_second_on_a_terminal_alone(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(SteppingClock(), "files")
    for _ in range(64 * 30):
        progress()
    lines = terminal.text.splitlines()
    assert 2 <= len(lines) <= 3 if is_terminal else lines == []
    assert all(line.startswith("notqmail: files: ") for line in lines)
