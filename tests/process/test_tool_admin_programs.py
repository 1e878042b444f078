"""qmail-pw2u, qmail-newmrh, qmail-tcpto and qmail-tcpok as processes: files, exit codes, complaints.

The tables are what notqmail 1.09's programs answered to the same, except where differences.md says otherwise.
"""

import fcntl
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from notqmail.unix.cdb import Cdb


class Home:
    """A home with the three directories that these programs look into."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("users", "control", "queue/lock"):
            (path / name).mkdir(parents=True)

    def run(self, module: str, *words: str, data: bytes = b"") -> tuple[int, bytes, bytes]:
        done = subprocess.run(
            [sys.executable, "-m", f"notqmail.programs.{module}", *words], input=data, capture_output=True,
            env={**os.environ, "QMAILHOME": str(self.path)}, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    @property
    def name(self) -> bytes:
        return bytes(self.path)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def passwd(home: Home) -> bytes:
    uid = os.getuid() or 1
    os.chown(home.path / "users", uid, -1)
    return b"root:x:0:0:r:/root:/bin/sh\nalias:x:%d:1::users:/bin/sh\n" % uid


def test_pw2u_prints_assignments(home: Home) -> None:
    uid = b"%d" % (os.getuid() or 1)
    (home.path / "users" / "subusers").write_bytes(b"sub:alias:pre:\n")
    (home.path / "users" / "append").write_bytes(b"=x:x:1:1:/x:::")
    account = b":alias:" + uid + b":1:users:"
    expected = (
        b"+" + account + b"-/::\n=alias" + account + b"::\n+alias." + account + b"-/::\n"
        b"=sub" + account + b"-/:pre:\n+sub." + account + b"-/:pre-:\n=x:x:1:1:/x:::\n.\n"
    )
    assert home.run("qmail_pw2u", "-/", "-c.x", data=passwd(home)) == (0, expected, b"")
    assert home.run("qmail_pw2u", "-Cc.", "-/", data=passwd(home)) == (0, expected, b"")


@pytest.mark.parametrize(
    ("words", "data", "code", "complaint"),
    [
        (["-z"], b"", 100, b"illegal option -- z"),
        (["-c"], b"", 100, b"option requires an argument -- c"),
        ([], b"", 111, b"fatal: unable to find alias user"),
        (["-h"], b"joe:x:1:1::/no/such:s\n", 111, b"fatal: unable to stat /no/such"),
        ([], b"joe:x:1:1::/etc/passwd/x:s\n", 111, b"fatal: unable to stat /etc/passwd/x"),
    ],
)
def test_pw2u_prints_nothing_where_it_complains(
    home: Home, words: list[str], data: bytes, code: int, complaint: bytes
) -> None:
    assert home.run("qmail_pw2u", *words, data=data) == (code, b"", b"qmail-pw2u: " + complaint + b"\n")


@pytest.mark.parametrize("name", ["include", "exclude", "mailnames", "subusers", "append"])
def test_pw2u_stops_at_a_file_that_it_cannot_read(home: Home, name: str) -> None:
    (home.path / "users" / name).mkdir()
    ended = (111, b"", b"qmail-pw2u: fatal: unable to read controls\n")
    assert home.run("qmail_pw2u", data=passwd(home)) == ended


def test_newmrh_replaces_the_database(home: Home) -> None:
    current = home.path / "control" / "morercpthosts.cdb"
    for text, hosts in ((b"A.Example \n#no\n\nb.example", [b"a.example", b"b.example"]), (b"c", [b"c"])):
        (home.path / "control" / "morercpthosts").write_bytes(text)
        assert home.run("qmail_newmrh") == (0, b"", b"")
        with Cdb(bytes(current)) as database:
            assert [database.get(host) for host in hosts] == [b""] * len(hosts)
            assert database.get(b"#no") is None and database.get(b"") is None
        assert current.stat().st_mode & 0o777 == 0o644
    assert not (home.path / "control" / "morercpthosts.tmp").exists()


@pytest.mark.parametrize(
    ("directory", "complaint"),
    [
        (None, b"unable to read control/morercpthosts: file does not exist"),
        ("morercpthosts", b"unable to read control/morercpthosts: is a directory"),
        ("morercpthosts.tmp", b"unable to write to control/morercpthosts.tmp: is a directory"),
        ("morercpthosts.cdb",
         b"unable to move control/morercpthosts.tmp to control/morercpthosts.cdb: is a directory"),
    ],
)  # fmt: skip
def test_newmrh_says_what_it_cannot_do(home: Home, directory: str | None, complaint: bytes) -> None:
    if directory not in (None, "morercpthosts"):
        (home.path / "control" / "morercpthosts").write_bytes(b"a\n")
    if directory:
        (home.path / "control" / directory).mkdir()
    assert home.run("qmail_newmrh") == (111, b"", b"qmail-newmrh: fatal: " + complaint + b"\n")


RECORD = b"\1\2\3\4\5\0\0\0\1\0\0\0\0\0\0\0"


def test_tcpto_lists_and_tcpok_clears(home: Home) -> None:
    table = home.path / "queue" / "lock" / "tcpto"
    table.write_bytes(RECORD + bytes(1_008))
    code, lines, _ = home.run("qmail_tcpto")
    assert code == 0 and lines.startswith(b"1.2.3.4 timed out ") and lines.endswith(b"# recent timeouts: 5\n")
    inode = table.stat().st_ino
    assert home.run("qmail_tcpok") == (0, b"", b"")
    assert table.read_bytes() == bytes(1_024) and table.stat().st_ino == inode
    assert home.run("qmail_tcpto") == (0, b"", b"")


def wait_until_blocked(process: "subprocess.Popen[bytes]") -> None:
    """Until it waits for a lock: the kernel lists who does."""
    waiting = re.compile(rf"-> FLOCK .* {process.pid} ")
    end_s = time.monotonic() + 60
    while not waiting.search(Path("/proc/locks").read_text()):
        assert process.poll() is None, "it did not wait"
        assert time.monotonic() < end_s, "it never came as far as the lock"
        time.sleep(0.01)  # another process's doing


@pytest.mark.parametrize("module", ["qmail_tcpto", "qmail_tcpok"])
def test_both_wait_for_the_table_s_lock(home: Home, module: str) -> None:
    path = home.path / "queue" / "lock" / "tcpto"
    path.write_bytes(RECORD)
    with path.open("rb+") as table:
        fcntl.flock(table, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [sys.executable, "-m", f"notqmail.programs.{module}"], env={**os.environ, "QMAILHOME": str(home.path)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        wait_until_blocked(process)
        table.seek(0)
        table.write(b"\x09")  # what the lock protects
        table.flush()
        assert path.read_bytes()[:1] == b"\x09"
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.startswith(b"9.2.3.4 ") if module == "qmail_tcpto" else path.read_bytes() == bytes(1_024)


def test_a_table_that_is_not_there(home: Home) -> None:
    assert home.run("qmail_tcpto") == (111, b"fatal: unable to open tcpto: file does not exist\n", b"")
    path = home.name + b"/queue/lock/tcpto"
    ended = (111, b"", b"qmail-tcpok: fatal: unable to write " + path + b": file does not exist\n")
    assert home.run("qmail_tcpok") == ended
    (home.path / "queue" / "lock").rmdir()
    assert home.run("qmail_tcpto") == (111, b"fatal: unable to chdir: file does not exist\n", b"")
    assert home.run("qmail_tcpok")[2].startswith(
        b"qmail-tcpok: fatal: unable to chdir to " + home.name + b"/queue/lock: "
    )


@pytest.mark.parametrize("module", ["qmail_pw2u", "qmail_newmrh", "qmail_tcpto", "qmail_tcpok"])
def test_help_is_told(home: Home, module: str) -> None:
    code, out, complaint = home.run(module, "--help")
    assert (code, complaint) == (0, b"") and out.startswith(b"usage: " + module.replace("_", "-").encode())
