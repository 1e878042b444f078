"""maildirmake and maildir2mbox as programs: their words and exit codes, which are notqmail 1.09's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(program: str, *arguments: str, cwd: Path, **environ: str) -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        [sys.executable, "-m", f"notqmail.programs.{program}", *arguments], cwd=cwd, capture_output=True, timeout=60,
        env={"PYTHONPATH": os.environ["PYTHONPATH"], "PATH": os.environ["PATH"], **environ}, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 100, b"maildirmake: usage: maildirmake name\n"),
        (["a"], 0, b""),
        (["a", "b"], 0, b""),
        (["a/"], 0, b""),
        (["nodir/x"], 111, b"maildirmake: fatal: unable to mkdir nodir/x: file does not exist\n"),
        (["exists"], 111, b"maildirmake: fatal: unable to mkdir exists: file already exists\n"),
        (["file/x"], 111, b"maildirmake: fatal: unable to mkdir file/x: not a directory\n"),
        ([""], 111, b"maildirmake: fatal: unable to mkdir : file does not exist\n"),
        (["\udcff/x"], 111, b"maildirmake: fatal: unable to mkdir \xff/x: file does not exist\n"),
    ],
)
def test_maildirmake(tmp_path: Path, arguments: list[str], code: int, said: bytes) -> None:
    (tmp_path / "exists").mkdir()
    (tmp_path / "file").touch()
    assert run("maildirmake", *arguments, cwd=tmp_path) == (code, b"", said)
    assert (tmp_path / "a" / "cur").is_dir() == (code == 0)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("missing", ["MAIL", "MAILTMP", "MAILDIR"])
def test_maildir2mbox_needs_three_variables(tmp_path: Path, missing: str) -> None:
    environ = {name: str(tmp_path) for name in ("MAIL", "MAILTMP", "MAILDIR") if name != missing}
    said = f"maildir2mbox: fatal: {missing} not set\n".encode()
    assert run("maildir2mbox", cwd=tmp_path, **environ) == (111, b"", said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"MAILDIR": "nowhere"}, b"unable to chdir to nowhere: file does not exist"),
        ({"MAIL": "nowhere/x"}, b"unable to lock nowhere/x: file does not exist"),
        ({"MAIL": "."}, b"unable to lock .: is a directory"),
        ({"MAILTMP": "nowhere/x"}, b"unable to create nowhere/x: file does not exist"),
        ({"MAILDIR": "."}, b"unable to scan $MAILDIR/new: file does not exist"),
    ],
)
def test_maildir2mbox_says_what_is_wrong(tmp_path: Path, change: dict[str, str], said: bytes) -> None:
    maildir_with_one(tmp_path)
    environ = {"MAILDIR": "m", "MAIL": "../mbox", "MAILTMP": "../t"} | change
    assert run("maildir2mbox", cwd=tmp_path, **environ) == (111, b"", b"maildir2mbox: fatal: " + said + b"\n")
    assert (tmp_path / "m" / "new" / "1").exists()


def maildir_with_one(tmp_path: Path) -> None:
    assert run("maildirmake", "m", cwd=tmp_path)[0] == 0
    message = tmp_path / "m" / "new" / "1"
    message.write_bytes(b"Return-Path: <a@b>\nSubject: x\n\nx\n")
    os.utime(message, (1_794_998_000, 1_794_998_000))


def test_maildir2mbox_takes_paths_from_inside_the_maildir(tmp_path: Path) -> None:
    maildir_with_one(tmp_path)
    for _ in range(2):  # the second time there is nothing to do
        environ = {"MAILDIR": "m", "MAIL": "../mbox", "MAILTMP": "../t"}
        assert run("maildir2mbox", cwd=tmp_path, **environ) == (0, b"", b"")
        expected = b"From a@b Wed Nov 18 10:33:20 2026\nReturn-Path: <a@b>\nSubject: x\n\nx\n\n"
        assert (tmp_path / "mbox").read_bytes() == expected
    assert sorted(os.listdir(tmp_path)) == ["m", "mbox"]


@pytest.mark.parametrize("program", ["maildirmake", "maildir2mbox", "qmail_pop3d", "qmail_popup", "checkpassword"])
def test_help(tmp_path: Path, program: str) -> None:
    code, out, err = run(program, "--help", cwd=tmp_path)
    assert (code, err) == (0, b"") and out.startswith(b"usage: " + program.replace("_", "-").encode())
