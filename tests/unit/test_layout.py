"""Where everything lies in the queue, whose it is, and who may read it; and the fifo that wakes qmail-send."""

import os
import stat
from pathlib import Path

import pytest

from notqmail.queue import trigger
from notqmail.queue.layout import (
    CLEANUP_AGE_S,
    SPLIT,
    WRITER_DIES_S,
    create_queue,
    queue_directory,
    split_directory,
    split_path,
)
from notqmail.unix.accounts import Accounts

DIRECTORIES = {  # INTERNALS and conf of notqmail 1.09; ledger is ours
    "": ("queue", 0o750), "pid": ("queue", 0o700), "mess": ("queue", 0o750), "intd": ("queue", 0o700),
    "todo": ("queue", 0o750), "info": ("send", 0o700), "local": ("send", 0o700), "remote": ("send", 0o700),
    "bounce": ("send", 0o700), "lock": ("queue", 0o750), "ledger": ("queue", 0o750),
    "ledger/accepted": ("queue", 0o700), "ledger/ended": ("send", 0o700),
}  # fmt: skip
FILES = {
    "lock/sendmutex": ("send", 0o600), "lock/tcpto": ("remote", 0o644), "lock/trigger": ("send", 0o622),
    "ledger/accepted/current": ("queue", 0o600), "ledger/ended/current": ("send", 0o600),
}  # fmt: skip
UIDS = {"queue": 7790, "send": 7791, "remote": 7792}
SPLIT_KINDS = ("mess", "info", "local", "remote")


def expected() -> dict[str, tuple[str, int]]:
    parts = {f"{kind}/{part}": DIRECTORIES[kind] for kind in SPLIT_KINDS for part in range(23)}
    return {**DIRECTORIES, **FILES, **parts}


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    return tmp_path / "queue"


def accounts(*, single_user: bool) -> Accounts:
    return Accounts(single_user, UIDS, {"queue": 7780})


def modes(queue: Path) -> dict[str, int]:
    found = {str(path.relative_to(queue)): stat.S_IMODE(path.lstat().st_mode) for path in queue.glob("**/*")}
    return {**found, "": stat.S_IMODE(queue.stat().st_mode)}


@pytest.fixture
def umask_that_would_show() -> "object":
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask_that_would_show")
def test_an_empty_queue_has_everything_with_its_mode(queue: Path) -> None:
    create_queue(os.fsencode(queue.parent), accounts(single_user=True))
    assert modes(queue) == {path: mode for path, (_, mode) in expected().items()}
    assert stat.S_ISFIFO((queue / "lock/trigger").stat().st_mode)
    assert (queue / "lock/tcpto").read_bytes() == bytes(1024)
    for empty in ("lock/sendmutex", "ledger/accepted/current", "ledger/ended/current"):
        assert (queue / empty).read_bytes() == b""


def test_in_a_classic_installation_each_path_gets_its_owner(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owners: dict[str, tuple[int, int]] = {}

    def chown(path: bytes, uid: int, gid: int) -> None:
        owners[os.path.relpath(os.fsdecode(path), queue).removeprefix(".")] = uid, gid

    monkeypatch.setattr(os, "chown", chown)
    create_queue(os.fsencode(queue.parent), accounts(single_user=False))
    assert owners == {path: (UIDS[owner], 7780) for path, (owner, _) in expected().items()}


def test_of_one_user_s_queue_no_owner_is_changed(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "chown", pytest.fail)
    create_queue(os.fsencode(queue.parent), accounts(single_user=True))


def test_until_its_mode_is_set_a_directory_is_its_maker_s(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So nobody can put anything into what will be somebody else's."""
    mkdir, made = os.mkdir, []
    monkeypatch.setattr(os, "mkdir", lambda path, mode: (made.append(mode), mkdir(path, mode)))
    create_queue(os.fsencode(queue.parent), accounts(single_user=True))
    assert set(made) == {0o700}


def test_what_is_there_stays_and_its_mode_is_put_right(queue: Path) -> None:
    home = os.fsencode(queue.parent)
    create_queue(home, accounts(single_user=True))
    (queue / "lock/tcpto").write_bytes(b"remembered")
    (queue / "mess/3/26").write_bytes(b"mail")
    (queue / "todo").chmod(0o777)
    before = (queue / "lock/trigger").stat().st_ino
    create_queue(home, accounts(single_user=True))
    assert (queue / "lock/tcpto").read_bytes() == b"remembered" and (queue / "mess/3/26").read_bytes() == b"mail"
    assert (queue / "lock/trigger").stat().st_ino == before
    assert stat.S_IMODE((queue / "todo").stat().st_mode) == 0o750


def test_a_queue_that_cannot_be_made_is_said_so(queue: Path) -> None:
    queue.write_bytes(b"a file in its place")
    with pytest.raises(OSError):
        create_queue(os.fsencode(queue.parent), accounts(single_user=True))


def test_the_numbers_that_c_programs_share() -> None:
    assert (SPLIT, WRITER_DIES_S, CLEANUP_AGE_S) == (23, 86_400, 129_600)
    assert split_path(b"info", 23) == b"info/0/23" and split_directory(b"info", 24) == b"info/1"
    assert queue_directory(b"/home") == b"/home/queue"


def test_a_pull_is_one_byte_for_whoever_listens(tmp_path: Path) -> None:
    queue = os.fsencode(tmp_path)
    (tmp_path / "lock").mkdir()
    trigger.pull(queue)  # no fifo yet: nobody to wake
    os.mkfifo(tmp_path / "lock/trigger")
    trigger.pull(queue)  # nobody listens
    descriptor = trigger.listen(queue)
    try:
        trigger.pull(queue)
        assert os.read(descriptor, 9) == b"\0"
    finally:
        os.close(descriptor)


def test_a_fifo_that_is_full_has_been_pulled(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    os.mkfifo(tmp_path / "lock/trigger")
    descriptor = trigger.listen(os.fsencode(tmp_path))
    writer = os.open(tmp_path / "lock/trigger", os.O_WRONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(BlockingIOError):
            while True:
                os.write(writer, bytes(4_096))
        trigger.pull(os.fsencode(tmp_path))
    finally:
        os.close(writer)
        os.close(descriptor)
