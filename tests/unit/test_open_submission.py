"""Which of the three ways a message takes into the queue, and what is left open when one does not work."""

import errno
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from notqmail.queue import client
from notqmail.queue.client import ProgramSubmission, SocketSubmission, open_submission, queue_program
from notqmail.wire import queue_exit
from notqmail.wire.netstring import encode
from notqmail.wire.qmqp import INLINE_MAX, RESIDENT_HELLO, encode_descriptor_package, encode_package
from notqmail.wire.reports import Report, permanent, success

PLAIN = {b"PATH": b"/usr/bin:/bin"}
TAKE_IT = "cat > message; cat <&1 > envelope"


@pytest.fixture(autouse=True)
def no_sigpipe() -> Iterator[None]:
    """As every qmail program has it."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGPIPE, before)


@pytest.fixture
def home(short_path: Path) -> Path:
    (short_path / "bin").mkdir()
    (short_path / "run").mkdir()
    return short_path


def script(path: Path, text: str) -> bytes:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return os.fsencode(path)


OURS = "# notqmail-python launcher\n"


class Resident:
    """Listens at HOME/run/qmail-queue; takes one connection, keeps what came, says one thing."""

    def __init__(self, home: Path, answer: bytes) -> None:
        self._answer, self.got, self.content = answer, b"", b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(60)
        self._socket.bind(os.fsencode(home / "run/qmail-queue"))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            connection.settimeout(60)
            while True:
                data, descriptors, *_ = socket.recv_fds(connection, 65_536, 1)
                for descriptor in descriptors:
                    self.content = os.pread(descriptor, INLINE_MAX * 2, 0)
                    os.close(descriptor)
                self.got += data
                if not data or self.got.endswith(b",,"):
                    break
            try:
                connection.sendall(self._answer)
            except BrokenPipeError:
                pass  # it went away without asking
            if not self._answer:
                connection.recv(1)  # until the other side has had enough

    def __enter__(self) -> "Resident":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._socket.close()


def submit(home: Path, environ: dict[bytes, bytes], *, resident: bool = False) -> tuple[Report, object]:
    submission = open_submission(os.fsencode(home), environ, resident=resident)
    submission.write(b"Subject: x\n\n")
    report = submission.close(b"s@x", [b"a@x", b"b@x"])
    return report, submission


PACKAGE = encode_package(b"Subject: x\n\n", b"s@x", [b"a@x", b"b@x"])


def test_the_program_that_is_run_in_place_of_ours(home: Path) -> None:
    path = home / "bin/qmail-queue"
    assert queue_program(os.fsencode(home), {}) is None
    script(path, OURS)
    assert queue_program(os.fsencode(home), {}) is None
    script(path, "exit 0")
    assert queue_program(os.fsencode(home), {}) == os.fsencode(path)
    assert queue_program(os.fsencode(home), {b"QMAILQUEUE": b"/filter"}) == b"/filter"


@pytest.mark.parametrize("resident", [False, True])
def test_who_listens_gets_the_message(home: Path, resident: bool) -> None:
    script(home / "bin/qmail-queue", OURS + "exit 91")
    with Resident(home, encode(b"Kok qp 7")) as writer:
        report, submission = submit(home, PLAIN, resident=resident)
    assert (report, submission.qp) == (success(), 7)  # type: ignore[attr-defined]
    assert writer.got == (RESIDENT_HELLO if resident else b"") + PACKAGE


def test_without_being_told_a_connection_is_no_resident_s(home: Path) -> None:
    with Resident(home, encode(b"Kok qp 7")) as writer:
        submission = SocketSubmission.connect(os.fsencode(home))
        assert submission is not None
        submission.write(b"Subject: x\n\n")
        submission.close(b"s@x", iter([b"a@x", b"b@x"]))
    assert writer.got == PACKAGE


def test_a_filter_comes_before_who_listens(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SocketSubmission, "connect", pytest.fail)
    filter_program = script(home / "filter", TAKE_IT)
    report, _ = submit(home, {**PLAIN, b"QMAILQUEUE": filter_program})
    assert report == success() and (home / "message").read_bytes() == b"Subject: x\n\n"
    script(home / "bin/qmail-queue", TAKE_IT + "; exit 31")  # somebody else's program in its place
    assert submit(home, PLAIN)[0] == queue_exit.report_for_exit(31)


@pytest.mark.parametrize("resident", [False, True])
def test_when_nobody_listens_our_own_program_is_run_in_its_home(home: Path, resident: bool) -> None:
    script(home / "bin/qmail-queue", OURS + TAKE_IT)
    report, _ = submit(home, PLAIN, resident=resident)  # from another directory
    assert report == success() and (home / "envelope").read_bytes() == b"Fs@x\0Ta@x\0Tb@x\0\0"


@pytest.mark.parametrize("resident", [False, True])
def test_only_a_resident_in_its_home_starts_programs_without_forking(
    home: Path, resident: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(home / "bin/qmail-queue", OURS + TAKE_IT)
    monkeypatch.chdir(home)
    monkeypatch.setattr(client, "spawn" if resident else "spawn_among_threads", pytest.fail)
    assert submit(home, PLAIN, resident=resident)[0] == success()


def test_a_resident_that_never_answers_is_not_waited_for_for_ever(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_TIMEOUT_S", 0.05)
    with Resident(home, b""):
        assert submit(home, PLAIN)[0] == queue_exit.report_for_exit(queue_exit.TIMED_OUT)


def test_a_large_message_goes_as_a_descriptor_with_all_of_a_large_envelope(home: Path) -> None:
    recipients = [b"%0900d@x" % number for number in range(1_000)]  # more than a socket takes at once
    with Resident(home, encode(b"Kok qp 7")) as writer:
        submission = open_submission(os.fsencode(home), PLAIN)
        submission.write(b"x" * (INLINE_MAX + 1))
        assert submission.close(b"s@x", recipients) == success()
    assert writer.content == b"x" * (INLINE_MAX + 1)
    assert writer.got == encode_descriptor_package(INLINE_MAX + 1, b"s@x", recipients)


def test_a_message_that_could_not_be_kept_is_not_handed_over(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(home / "nowhere"))
    with Resident(home, b"?") as writer:
        submission = open_submission(os.fsencode(home), PLAIN)
        submission.write(b"x" * (INLINE_MAX + 1))
        submission.write(b"more")
        assert submission.close(b"s@x", []) == queue_exit.report_for_exit(queue_exit.WRITE_FAILED)
    assert writer.got == b""


@pytest.mark.parametrize("among_threads", [False, True])
def test_a_program_that_reads_half_and_says_yes_is_not_believed(home: Path, among_threads: bool) -> None:
    path = script(home / "half", "head -c 10 >/dev/null; exec 0<&-; cat <&1 >/dev/null; exit 0")
    submission = ProgramSubmission(os.fsencode(home), PLAIN, path, among_threads=among_threads)
    for _ in range(20):
        submission.write(b"x" * 65_536)
    assert submission.close(b"s@x", []) == queue_exit.report_for_exit(queue_exit.READ_FAILED)


def test_of_its_own_words_a_thousand_bytes_are_kept(home: Path) -> None:
    path = script(
        home / "talks",
        "cat >/dev/null; cat <&1 >/dev/null; printf D >&6; head -c 5000 /dev/zero | tr '\\0' x >&6; exit 82",
    )
    submission = ProgramSubmission(os.fsencode(home), PLAIN, path)
    assert submission.close(b"s@x", []) == permanent(b"x" * 999)


@pytest.mark.parametrize("among_threads", [False, True])
def test_where_no_process_can_be_made_nothing_stays_open(
    home: Path, among_threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> int:
        raise OSError(errno.EAGAIN, "no process")

    monkeypatch.setattr(client, "spawn", fails)
    monkeypatch.setattr(client, "spawn_among_threads", fails)
    if among_threads:
        submission = ProgramSubmission(os.fsencode(home), PLAIN, b"x", among_threads=True)
        submission.write(b"x")
        assert submission.close(b"s@x", [b"r@x"]) == queue_exit.report_for_exit(queue_exit.NO_EXEC)
    else:
        with pytest.raises(OSError):
            ProgramSubmission(os.fsencode(home), PLAIN, b"x")


def test_where_there_is_no_pipe_left_nothing_stays_open(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, made = os.pipe, []

    def third_fails() -> tuple[int, int]:
        if len(made) == 2:
            raise OSError(errno.EMFILE, "no descriptor")
        made.append(pipe())
        return made[-1]

    monkeypatch.setattr(os, "pipe", third_fails)
    with pytest.raises(OSError):
        ProgramSubmission(os.fsencode(home), PLAIN, b"x")


def test_a_socket_where_nobody_listens_is_nobody(home: Path) -> None:
    assert SocketSubmission.connect(os.fsencode(home)) is None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left_over:
        left_over.bind(os.fsencode(home / "run/qmail-queue"))
    assert SocketSubmission.connect(os.fsencode(home)) is None
