"""qmail-newu: readers of users/cdb see the old file or the new one, and each failure has its sentence."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from notqmail.programs import qmail_newu
from notqmail.programs.qmail_newu import Failed, main, rebuild
from notqmail.testing.fake_disk import FakeDisk
from notqmail.unix.cdb import Cdb
from notqmail.unix.durable import WriteFailed

ASSIGN = b"=joe:joe:503:78:/home/joe:::\n.\n"


@pytest.fixture
def disk() -> FakeDisk:
    disk = FakeDisk()
    disk.create(b"users/assign", [ASSIGN])
    disk.create(b"users/cdb", [b"old"])
    disk.create(b"users/cdb.tmp", [b"of an earlier try"])
    return disk


def test_the_new_file_takes_the_place_of_the_old_one_and_survives_a_power_cut(disk: FakeDisk) -> None:
    import random

    disk.sync([b"users", b"users/assign"])
    rebuild(disk)  # type: ignore[arg-type]
    assert set(disk.everything()) == {b"users/assign", b"users/cdb"}
    new = disk.read(b"users/cdb")
    assert b"joe" in new
    for survivor in disk.survivors(random.Random(1)):
        assert survivor.read(b"users/cdb") == new


@pytest.mark.parametrize(
    ("step", "error", "reason"),
    [
        ("read", FileNotFoundError(errno.ENOENT, "?"), "unable to open users/assign"),
        ("read", OSError(errno.EIO, "?"), "unable to read users/assign"),
        ("discard", OSError(errno.EACCES, "?"), "unable to open users/cdb.tmp"),
        ("create", OSError(errno.EACCES, "?"), "unable to open users/cdb.tmp"),
        ("create", WriteFailed(errno.ENOSPC, "?"), "unable to write users/cdb.tmp"),
        ("sync", WriteFailed(errno.EIO, "?"), "unable to write users/cdb.tmp"),
        ("rename", OSError(errno.EACCES, "?"), "unable to move users/cdb.tmp to users/cdb"),
    ],
)
def test_each_step_that_fails_says_so_and_the_old_file_stays(
    step: str, error: OSError, reason: str, disk: FakeDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(disk, step, fails)
    with pytest.raises(Failed, match=f"^{reason}$"):
        rebuild(disk)  # type: ignore[arg-type]
    assert disk.everything()[b"users/cdb"] == b"old"


def test_a_line_that_is_no_assignment_is_named_and_nothing_is_touched(disk: FakeDisk) -> None:
    disk.unlink(b"users/assign")
    disk.create(b"users/assign", [b"=joe:joe:503:78:/home/joe:::\nwhat?\n.\n"])
    before = disk.everything()
    with pytest.raises(Failed, match="bad format in users/assign: line 2"):
        rebuild(disk)  # type: ignore[arg-type]
    assert disk.everything() == before


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)  # and back, for the program goes to its home
    monkeypatch.setenv("QMAILHOME", str(tmp_path))
    monkeypatch.setattr(qmail_newu.sys, "argv", ["qmail-newu"])
    before = os.umask(0o077)
    yield tmp_path
    os.umask(before)


def test_the_program_says_what_failed_and_exits_111(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main() == 111
    assert capfd.readouterr().err == "qmail-newu: fatal: unable to open users/assign\n"
    (home / "users").mkdir()
    (home / "users/assign").write_bytes(ASSIGN)
    assert main() == 0 and (home / "users/cdb").stat().st_mode & 0o777 == 0o644  # whatever the umask was
    with Cdb(bytes(home / "users/cdb")) as database:
        assert database.get(b"!joe\0") is not None
    monkeypatch.setenv("QMAILHOME", str(home / "nowhere"))
    assert main() == 111
    assert capfd.readouterr().err == "qmail-newu: fatal: unable to chdir\n"


def test_help_is_no_failure(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(qmail_newu.sys, "argv", ["qmail-newu", "--help"])
    assert main() == 0 and capsys.readouterr().out.startswith("usage: qmail-newu")
