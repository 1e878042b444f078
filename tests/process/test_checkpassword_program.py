"""checkpassword as a program: exit codes, what it becomes, and the system's own accounts (as root, in a namespace)."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from classic_house import Machine, interpreter, open_directory

import notqmail

SHOW = (
    "import os; print(os.getcwd(), os.environ['USER'], os.environ['HOME'], os.environ['SHELL'], *os.getresuid(), "
    "*os.getresgid(), os.getgroups(), sorted(os.listdir('/proc/self/fd'))[:4], os.environ.get('KEPT'))"
)
CRYPT = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
PASSWORD = b"Hello world!"


def check(home: Path, record: bytes, *command: str, before: list[str] | None = None, **environ: str) -> tuple[int, str]:
    """Exit code and everything said, with `record` on descriptor 3."""
    reader, writer = os.pipe()
    os.write(writer, record)
    os.close(writer)
    python = [sys.executable] if before is None else before
    try:
        done = subprocess.run(
            ["sh", "-c", 'exec 3<&0 </dev/null; exec "$@"', "sh", *python, "-m", "notqmail.programs.checkpassword",
             *command],
            stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False, text=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ["PYTHONPATH"], "QMAILHOME": str(home), **environ},
        )  # fmt: skip
    finally:
        os.close(reader)
    return done.returncode, done.stdout


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "control").mkdir()
    (tmp_path / "queue" / "info").mkdir(parents=True)
    return tmp_path


def password_file(home: Path, text: str) -> None:
    path = home / "control" / "passwords"
    path.write_text(text)
    path.chmod(0o600)


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (b"joe\0" + PASSWORD + b"\0<1.2@h>\0", 7),
        (b"joe\0" + PASSWORD + b"\0", 7),
        (b"joe\0wrong\0<1.2@h>\0", 1),
        (b"nobody\0" + PASSWORD + b"\0\0", 1),
        (b"joe\0" + PASSWORD, 2),
        (b"joe", 2),
        (b"", 2),
        (b"joe\0" + b"x" * 600 + b"\0\0", 1),
    ],
)
def test_how_it_ends(home: Path, record: bytes, code: int) -> None:
    password_file(home, f"joe:{CRYPT}\n")
    assert check(home, record, "sh", "-c", "exit 7")[0] == code


def test_without_a_program_it_is_misused(home: Path) -> None:
    assert check(home, b"joe\0x\0\0")[0] == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "checkpassword: control/passwords is missing, and a single-user home has no other accounts\n"),
        ("joe\n", "checkpassword: control/passwords: cannot understand line 1\n"),
    ],
)
def test_trouble_is_said_and_is_no_refusal(home: Path, text: str | None, said: str) -> None:
    if text is not None:
        password_file(home, text)
    assert check(home, b"joe\0x\0\0", "true") == (111, said)


def test_a_program_that_cannot_be_run_is_trouble(home: Path) -> None:
    password_file(home, f"joe:{CRYPT}\n")
    code, said = check(home, b"joe\0" + PASSWORD + b"\0\0", "/nonexistent")
    assert (code, said) == (111, "checkpassword: unable to run /nonexistent: file does not exist\n")


def test_a_good_login_becomes_the_program_in_the_home(home: Path) -> None:
    password_file(home, f"joe:{CRYPT}\n")
    code, said = check(home, b"joe\0" + PASSWORD + b"\0\0", sys.executable, "-c", SHOW, KEPT="yes")
    assert code == 0, said
    me = pwd.getpwuid(os.geteuid()).pw_name
    words = said.split()
    assert words[:3] == [str(home), me, str(home)] and words[-1] == "yes"
    assert f"{os.geteuid()}" == words[4]


def test_nothing_of_a_password_is_ever_said(home: Path) -> None:
    password_file(home, f"joe:{CRYPT}\n")
    for record in (b"joe\0sesame\0\0", b"x\0sesame\0\0", b"joe\0sesame", b"joe\0" + b"sesame" * 200 + b"\0\0"):
        assert "sesame" not in check(home, record, "true")[1]


def make(home: Path, words: list[str], typed: bytes) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "notqmail.programs.checkpassword", "--make", *words], input=typed, capture_output=True,
        timeout=60, env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ["PYTHONPATH"]}, check=False,
    )  # fmt: skip


def test_a_line_made_by_it_lets_in(home: Path) -> None:
    lines = [make(home, words, b"open: sesame\n").stdout.decode() for words in (["joe"], ["ann@x.test", "joe"])]
    assert lines[0].startswith("joe:$scrypt$") and lines[1].endswith(":joe\n")
    assert lines[0].split(":")[1] != lines[1].split(":")[1], "each has its own salt"
    password_file(home, "".join(lines))
    for login in (b"joe", b"ann@x.test"):
        assert check(home, login + b"\0open: sesame\0\0", "sh", "-c", "exit 7")[0] == 7
        assert check(home, login + b"\0open: sesamE\0\0", "true")[0] == 1


@pytest.mark.parametrize(
    ("words", "typed"),
    [([], b"x\n"), (["a:b"], b"x\n"), (["a", "b", "c"], b"x\n"), ([""], b"x\n"), (["#a"], b"x\n"), (["a"], b"\n"),
     (["a"], b""), (["a"], b"x" * 500 + b"\n"), (["a"], b"x\0y\n")],
)  # fmt: skip
def test_what_could_not_be_used_is_not_made(tmp_path: Path, words: list[str], typed: bytes) -> None:
    done = make(tmp_path, words, typed)
    assert (done.returncode, done.stdout) == (2, b"") and done.stderr.startswith(b"checkpassword: ")


# -- the system's accounts ---------------------------------------------------------------------------------------------


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Accounts alice and bob with shadow passwords, and the package where they can read it."""
    base = open_directory()
    try:
        shutil.copytree(os.path.dirname(os.path.realpath(notqmail.__file__)), base / "lib" / "notqmail",
                        ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
        for path in (base / "lib").rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (base / "people").mkdir()
        made = Machine(base)
        try:
            for name in ("alice", "bob"):
                (base / "people" / name).mkdir(mode=0o700)
                os.chown(base / "people" / name, made.uid[name], made.gid[name])
            shadow = base / "shadow"
            shadow.write_text(f"root:{CRYPT}:1::::::\nalice:{CRYPT}:1::::::\nbob:{CRYPT}:1:::::5:\n")
            shadow.chmod(0o600)
            subprocess.run(made.argv(["mount", "--bind", str(shadow), "/etc/shadow"]), check=True, timeout=60)
            made.base = base  # type: ignore[attr-defined]
            yield made
        finally:
            made.close()
    finally:
        shutil.rmtree(base)


@pytest.mark.root
def test_as_root_it_becomes_the_account_that_logged_in(machine: Machine) -> None:
    base: Path = machine.base  # type: ignore[attr-defined]
    python = interpreter()

    def checked(record: bytes, user: str = "root") -> tuple[int, str]:
        return check(base / "no-home", record, python, "-c", SHOW, before=machine.argv([python], user),
                     PYTHONPATH=str(base / "lib"))  # fmt: skip

    code, said = checked(b"alice\0" + PASSWORD + b"\0<1.2@h>\0")
    assert code == 0, said
    uid, gid, home = machine.uid["alice"], machine.gid["alice"], base / "people" / "alice"
    assert said.startswith(f"{home} alice {home} /bin/sh {uid} {uid} {uid} {gid} {gid} {gid} [{gid}] ")
    for login, password in ((b"alice", b"x"), (b"bob", PASSWORD), (b"root", PASSWORD), (b"nobody-here", PASSWORD)):
        assert checked(login + b"\0" + password + b"\0\0") == (1, "")
    code, said = checked(b"alice\0" + PASSWORD + b"\0\0", "bob")
    assert code == 111 and "can only be read by root" in said
