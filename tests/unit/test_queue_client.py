"""Handing a message to a queue program: what it gets, and what its ending means."""

import os
import stat
from pathlib import Path

import pytest

from notqmail.queue.client import ProgramSubmission
from notqmail.wire import queue_exit
from notqmail.wire.reports import permanent

WAYS = pytest.mark.parametrize("among_threads", [False, True])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def program(home: Path, script: str) -> bytes:
    path = home / "queue-program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return os.fsencode(path)


def submit(home: Path, path: bytes, *, among_threads: bool) -> tuple[object, int]:
    before = len(os.listdir("/proc/self/fd"))
    submission = ProgramSubmission(os.fsencode(home), {b"PATH": b"/usr/bin:/bin"}, path, among_threads=among_threads)
    submission.write(b"Subject: x\n\nbody\n")
    report = submission.close(b"s@x", [b"a@x", b"b@x"])
    assert len(os.listdir("/proc/self/fd")) == before, "a descriptor was left open"
    return report, submission.qp


@WAYS
def test_the_program_gets_message_and_envelope_and_its_pid_is_the_qp(home: Path, among_threads: bool) -> None:
    report, qp = submit(
        home, program(home, "cat > message; cat <&1 > envelope; echo $$ > pid"), among_threads=among_threads
    )
    assert report == queue_exit.report_for_exit(0)
    assert (home / "message").read_bytes() == b"Subject: x\n\nbody\n"
    assert (home / "envelope").read_bytes() == b"Fs@x\0Ta@x\0Tb@x\0\0"
    assert int((home / "pid").read_text()) == qp


@WAYS
@pytest.mark.parametrize("descriptor", [4, 6])
def test_its_own_words_come_back_from_either_error_pipe(home: Path, descriptor: int, among_threads: bool) -> None:
    path = program(home, f"cat >/dev/null; cat <&1 >/dev/null; printf 'Dno virus here' >&{descriptor}; exit 82")
    assert submit(home, path, among_threads=among_threads)[0] == permanent(b"no virus here")


@WAYS
@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 31", 31),
        ("cat >/dev/null; cat <&1 >/dev/null; exit 51", 51),
        ("exec 0<&-; exit 0", queue_exit.ACCEPTED),  # reads nothing, says yes: believed while the pipe takes it all
    ],
)
def test_its_exit_code_is_the_answer(home: Path, script: str, code: int, among_threads: bool) -> None:
    got, _ = submit(home, program(home, script), among_threads=among_threads)
    assert got in (queue_exit.report_for_exit(code), queue_exit.report_for_exit(queue_exit.READ_FAILED))


@WAYS
def test_a_program_that_is_not_there_is_a_temporary_failure(home: Path, among_threads: bool) -> None:
    assert submit(home, b"nowhere/queue", among_threads=among_threads)[0] == queue_exit.report_for_exit(120)


@WAYS
def test_a_killed_program_is_a_crash(home: Path, among_threads: bool) -> None:
    assert submit(home, program(home, "kill -9 $$"), among_threads=among_threads)[0] == queue_exit.CRASHED


@WAYS
def test_a_background_process_that_keeps_the_error_pipe_does_not_hold_the_session(
    home: Path, among_threads: bool
) -> None:
    path = program(home, "cat >/dev/null; cat <&1 >/dev/null; sleep 20 & echo $! > sleeper; exit 0")
    report, _ = submit(home, path, among_threads=among_threads)
    sleeper = int((home / "sleeper").read_text())
    assert Path(f"/proc/{sleeper}").exists(), "it was waited for"
    os.kill(sleeper, 9)
    assert report == queue_exit.report_for_exit(0)


@WAYS
def test_an_abandoned_message_never_gets_an_ended_envelope(home: Path, among_threads: bool) -> None:
    path = program(home, "cat > message; cat <&1 > envelope")
    submission = ProgramSubmission(os.fsencode(home), {b"PATH": b"/usr/bin:/bin"}, path, among_threads=among_threads)
    submission.write(b"half")
    submission.abandon()
    assert (home / "envelope").read_bytes() == b""
