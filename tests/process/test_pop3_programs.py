"""qmail-popup and qmail-pop3d as programs: what notqmail 1.09 says and how it ends."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from classic_house import interpreter, open_directory

import notqmail

USAGE = b"-ERR usage: popup hostname subprogram\r\n"


def run(program: str, *arguments: str, data: bytes = b"", **more: object) -> "subprocess.CompletedProcess[bytes]":
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ["PYTHONPATH"]}
    argv = [sys.executable, "-m", f"notqmail.programs.{program}", *arguments]
    return subprocess.run(argv, input=data, capture_output=True, timeout=60, env=environ, check=False, **more)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("arguments", [[], ["host"]])
def test_popup_needs_two_arguments(arguments: list[str]) -> None:
    done = run("qmail_popup", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, USAGE, b"")


def test_popup_greets_with_a_timestamp_and_always_ends_with_1() -> None:
    first, second = (run("qmail_popup", "mail.test", "true", data=b"USER a\r\nPASS b\r\n") for _ in range(2))
    assert re.fullmatch(rb"\+OK <\d+\.\d+@mail\.test>\r\n\+OK \r\n", first.stdout)
    assert first.stdout != second.stdout and first.returncode == second.returncode == 1


def test_popup_leaves_when_nobody_listens() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-m", "notqmail.programs.qmail_popup", "mail.test", "true"], stdin=subprocess.DEVNULL,
        stdout=writer, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writer)
    assert process.communicate(timeout=60)[1] == b"" and process.returncode == 1


@pytest.mark.root
def test_pop3d_does_not_serve_root(tmp_path: Path) -> None:
    done = run("qmail_pop3d", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"qmail-pop3d invoked as uid 0, terminating\n"


def as_somebody(maildir: str | None, data: bytes) -> tuple[int, bytes, bytes]:
    """qmail-pop3d as a user who is not root, in a directory that everybody can reach."""
    base = open_directory()
    try:
        for name in ("m", "m/tmp", "m/new", "m/cur", "half"):
            (base / name).mkdir(mode=0o777)
            (base / name).chmod(0o777)
        shutil.copytree(os.path.dirname(os.path.realpath(notqmail.__file__)), base / "lib" / "notqmail",
                        ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
        message = base / "m" / "new" / "1"
        message.write_bytes(b"Subject: x\n\n.\n")
        message.chmod(0o644)
        os.utime(message, (1_794_998_000, 1_794_998_000))
        rights = {"user": 65_534, "group": 65_534, "extra_groups": []} if os.geteuid() == 0 else {}
        done = subprocess.run(
            [interpreter(), "-m", "notqmail.programs.qmail_pop3d", *([maildir] if maildir is not None else [])],
            input=data, capture_output=True, timeout=60, cwd=base, check=False, **rights,
            env={"PYTHONPATH": f"{base}/lib", "PYTHONDONTWRITEBYTECODE": "1"},
        )  # type: ignore[call-overload]  # fmt: skip
        return done.returncode, done.stdout, done.stderr
    finally:
        shutil.rmtree(base)


@pytest.mark.parametrize(
    ("maildir", "data", "answers"),
    [
        ("m", b"STAT\r\nRETR 1\r\nQUIT\r\n", b"+OK \r\n+OK 1 14\r\n+OK \r\nSubject: x\r\n\r\n..\r\n\r\n.\r\n+OK \r\n"),
        ("m", b"", b"+OK \r\n"),
        (None, b"STAT\r\n", b"-ERR this user has no $HOME/Maildir\r\n"),
        ("nowhere", b"STAT\r\n", b"-ERR this user has no $HOME/Maildir\r\n"),
        ("half", b"STAT\r\n", b"-ERR unable to scan $HOME/Maildir\r\n"),
    ],
)
def test_pop3d_ends_with_0_whatever_happens(maildir: str | None, data: bytes, answers: bytes) -> None:
    assert as_somebody(maildir, data) == (0, answers, b"")
