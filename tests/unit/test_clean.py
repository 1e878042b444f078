"""qmail-clean: what it obeys, what it refuses, and what it sweeps."""

import os
import socket

import pytest

from notqmail.queue.layout import CLEANUP_AGE_S, WRITER_DIES_S, split_path
from notqmail.send.clean import Cleaner, serve
from notqmail.testing.fake_disk import FakeDisk
from send_bench import SteppedClock

N = 457
LONGEST = b"9" * 20


def disk_with_message() -> FakeDisk:
    disk = FakeDisk()
    for path in (split_path(b"mess", N), b"intd/%d" % N, b"todo/%d" % N):
        disk.create(path, [b"x"])
    return disk


@pytest.mark.parametrize(
    ("command", "gone"),
    [(b"todo/457", {b"intd/457", b"todo/457"}), (b"foop/457", {b"intd/457", split_path(b"mess", N)})],
)
def test_each_command_removes_its_two_files(command: bytes, gone: set[bytes]) -> None:
    disk = disk_with_message()
    before = set(disk.everything())
    cleaner = Cleaner(disk, SteppedClock())
    assert cleaner.perform(command) == b"+"
    assert before - set(disk.everything()) == gone
    assert cleaner.perform(command) == b"+", "what is gone already counts as removed"


@pytest.mark.parametrize(
    "command",
    [
        b"", b"foop", b"foop/", b"todo/", b"foop/x", b"foop/-1", b"foop/ 1", b"foop/0x1", b"foop/1 ", b"foop//1",
        b"foop/457a",  # C answers twice here, and removes 457
        b"foop/a457", b"foop/4.57", b"foop/../1", b"todo/457/", b"todo/\xb2",
        b"mess/457", b"Foop/457", b"TODO/457", b"/todo/457", b"info/457",
        b"foop/" + b"1" * 94, b"foop/" + b"1" * 95, b"foop/" + LONGEST + b"9", b"x" * 1_000,
        b"foop/0457",  # our numbers have no leading zero
    ],
)  # fmt: skip
def test_malformed_commands_remove_nothing_and_are_answered_once(command: bytes) -> None:
    disk = disk_with_message()
    before = disk.everything()
    assert Cleaner(disk, SteppedClock()).perform(command) == b"x"
    assert disk.everything() == before


def test_a_file_that_does_not_go_is_said_to_be_there() -> None:
    disk = disk_with_message()
    cleaner = Cleaner(disk, SteppedClock())
    cleaner.perform(b"foop/1")
    disk.fail_at = 0
    assert cleaner.perform(b"foop/457") == b"!"
    assert cleaner.perform(b"todo/457") == b"!"
    disk.fail_at = None
    assert cleaner.perform(b"todo/457") == b"+"


def test_files_under_pid_go_when_no_writer_can_still_live() -> None:
    disk, clock = FakeDisk(now_s=0), SteppedClock(0)
    disk.create(b"pid/1.0.1", [b"x"])
    cleaner = Cleaner(disk, clock)
    for age_s, there in ((WRITER_DIES_S, True), (CLEANUP_AGE_S - 1, True), (CLEANUP_AGE_S, False)):
        clock.now = age_s
        cleaner.sweep()
        assert (disk.names(b"pid") != []) == there


def test_a_sweep_comes_with_the_first_command_and_every_thirtieth_after() -> None:
    disk, clock = FakeDisk(now_s=0), SteppedClock(CLEANUP_AGE_S)
    cleaner = Cleaner(disk, clock)
    sweeps = []
    for number in range(1, 92):
        disk.create(b"pid/1.0.%d" % number, [b"x"])
        cleaner.perform(b"foop/1" if number % 2 else b"nonsense")  # malformed ones count as well
        if not disk.names(b"pid"):
            sweeps.append(number)
    assert sweeps == [1, 31, 61, 91]


class BrokenPid(FakeDisk):
    def names(self, directory: bytes) -> list[bytes]:
        raise PermissionError(13, "no", directory)


def test_a_sweep_that_fails_is_no_reason_not_to_obey() -> None:
    assert Cleaner(BrokenPid(), SteppedClock()).perform(b"foop/1") == b"+"


def test_answers_do_not_depend_on_how_the_pipe_cuts_the_commands() -> None:
    wire = b"foop/1\0bad\0\0todo/2\0" + b"x" * 300 + b"\0foop/" + b"7" * 150 + b"\0todo/3\0todo/4"
    for cut in [*range(30), 100, 125, 126, 200, 330, len(wire) - 1]:
        assert answers([wire[:cut], wire[cut:]]) == (b"+xx+xx+", 0)
    assert answers([wire[start : start + 3] for start in range(0, len(wire), 3)]) == (b"+xx+xx+", 0)


def answers(pieces: list[bytes]) -> tuple[bytes, int]:
    """What `serve` says when commands come in these pieces (a packet is one read), and its exit code at the end."""
    commands, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    replies_in, replies_out = os.pipe()
    with commands, theirs:
        for piece in filter(None, pieces):
            theirs.send(piece)
        theirs.close()
        code = serve(Cleaner(FakeDisk(), SteppedClock()), commands.fileno(), replies_out)
    os.close(replies_out)
    with open(replies_in, "rb") as said:
        return said.read(), code


def test_nobody_reading_the_answers_ends_it_with_100() -> None:
    commands_in, commands_out = os.pipe()
    replies_in, replies_out = os.pipe()
    os.close(replies_in)
    os.write(commands_out, b"foop/1\0")
    try:
        assert serve(Cleaner(FakeDisk(), SteppedClock()), commands_in, replies_out) == 100
    finally:
        for descriptor in (commands_in, commands_out, replies_out):
            os.close(descriptor)
