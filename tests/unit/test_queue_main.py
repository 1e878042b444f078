"""Starting the resident qmail-queue: what it needs, and the sentence when it is not there."""

import fcntl
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from notqmail.receive import queue_main
from notqmail.receive.queue_main import listen, serve
from notqmail.unix.accounts import MissingAccount


@pytest.fixture
def home(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A single user's, so that no rights change; whoever starts goes to its queue, and the test comes back."""
    (short_path / "queue/info").mkdir(parents=True)
    monkeypatch.chdir(short_path)
    monkeypatch.setattr(queue_main, "become", lambda *_: None)
    before = os.umask(0o022)
    yield short_path
    os.umask(before)
    close_locks(short_path)


def close_locks(home: Path) -> None:
    """The lock lives as long as the process, and this one goes on."""
    try:
        lock = os.stat(home / "run/qmail-queue.lock")
    except OSError:
        return  # the test did not come so far
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.path.samestat(os.fstat(int(name)), lock):
                os.close(int(name))
        except OSError:
            pass  # the one that listed them


def failing(home: Path, capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = serve(os.fsencode(home), list(arguments))
    return code, capfd.readouterr().err.replace(str(home), "HOME")


@pytest.mark.parametrize("arguments", [["x"], ["--lifeline"], ["--lifeline", "x"], ["--lifeline", "0", "x"], [""]])
def test_bad_arguments_are_said_to_be(arguments: list[str], home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert failing(home, capfd, *arguments) == (100, "usage: qmail-queue --serve [--lifeline FD]\n")


def test_a_missing_account_is_temporary_and_named(
    home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: bytes) -> None:
        raise MissingAccount("fatal: unable to find user qmailq")

    monkeypatch.setattr(queue_main, "accounts_for", missing)
    assert failing(home, capfd) == (111, "fatal: unable to find user qmailq\n")


def test_a_home_that_cannot_be_served_is_named_with_the_reason(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (home / "run").write_bytes(b"")
    code, said = failing(home, capfd)
    assert code == 111 and said.startswith("qmail-queue: fatal: cannot serve HOME: ") and said.endswith("\n")
    (home / "run").unlink()
    (home / "run").mkdir()
    (home / "run/qmail-queue").mkdir()  # something else stands where the socket belongs
    code, said = failing(home, capfd)
    assert code == 111 and "cannot serve HOME" in said and "HOME/run/qmail-queue" in said


def test_only_the_first_writer_of_a_home_listens(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (home / "run").mkdir()
    with open(home / "run/qmail-queue.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = "qmail-queue: fatal: another qmail-queue --serve already runs for this home\n"
        assert failing(home, capfd, "--lifeline", "0") == (111, said)
        assert not (home / "run/qmail-queue").exists()


def test_a_supervised_writer_waits_for_the_end_of_the_other_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "run").mkdir()
    waits, listeners = threading.Event(), list[socket.socket]()
    monkeypatch.setattr(queue_main, "complain", lambda text: waits.set() if "waiting" in text else None)
    second = threading.Thread(target=lambda: listeners.append(listen(os.fsencode(home), stand_by=True)))
    with open(home / "run/qmail-queue.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second.start()
        assert waits.wait(60) and not listeners
    second.join(60)
    [listener] = listeners
    listener.close()


def test_everybody_may_connect_and_a_socket_that_was_left_is_replaced(home: Path) -> None:
    (home / "run").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left_over:
        left_over.bind(os.fsencode(home / "run/qmail-queue"))
    listener = listen(os.fsencode(home), stand_by=False)
    try:
        assert stat.S_IMODE((home / "run/qmail-queue").stat().st_mode) == 0o666
        assert not listener.getblocking()
        assert stat.S_IMODE((home / "run/qmail-queue.lock").stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(os.fsencode(home / "run/qmail-queue"))
    finally:
        listener.close()


@pytest.mark.parametrize("before", [None, 0o700, 0o777, 0o755])
def test_the_directory_of_the_socket_is_open_to_everybody_and_writable_for_its_owner(
    before: int | None, home: Path
) -> None:
    if before is not None:
        (home / "run").mkdir()
        (home / "run").chmod(before)
    os.umask(0o077)
    queue_main._own_run_directory(os.fsencode(home), os.geteuid(), os.getegid())
    assert stat.S_IMODE((home / "run").stat().st_mode) == 0o755


@pytest.mark.parametrize(("euid", "owner", "wanted", "changed"), [
    (0, 0, 7790, True), (0, 0, 0, False), (0, 7790, 7790, False), (7790, 0, 7790, False),
])  # fmt: skip
def test_only_root_gives_its_directory_away_and_only_when_it_must(
    euid: int, owner: int, wanted: int, changed: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, int]] = []
    (home / "run").mkdir()
    status = os.stat(home / "run")
    values = list(status)
    values[stat.ST_UID] = owner
    monkeypatch.setattr(os, "stat", lambda _: os.stat_result(values))
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    monkeypatch.setattr(os, "chown", lambda _, uid, gid: given.append((uid, gid)))
    queue_main._own_run_directory(os.fsencode(home), wanted, 2108)
    monkeypatch.undo()
    assert given == ([(wanted, 2108)] if changed else [])
