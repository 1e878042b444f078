"""Old ledger journals are summed up by a process that is nobody's child and holds nothing of whoever began it."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from notqmail.queue.ledger import encode_group, journal_lines
from notqmail.queue.ledger_book import Events, balance
from notqmail.unix.durable import Disk

DEADLINE_S = 60.0
LINES = b"n 5 %d 1\ns 5\nk 5\n- 5"
PROGRAM = """
import os, sys
from notqmail.queue.ledger_apart import sum_up_apart
from notqmail.unix.durable import Disk
sum_up_apart(Disk(), b"ledger/ended")
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child", flush=True)
sys.stdin.read()
"""


def journals(path: Path, *, messages: int) -> Path:
    directory = path / "ledger/ended"
    directory.mkdir(parents=True)
    groups = b"".join(encode_group((LINES % qp).split(b"\n")) for qp in range(1, messages + 1))
    for name in ("1", "2"):
        (directory / name).write_bytes(groups)
    (directory / "current").write_bytes(b"")
    return directory


def begin(path: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def until_there(path: Path) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not path.exists():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_the_sums_come_while_the_resident_goes_on(tmp_path: Path) -> None:
    directory = journals(tmp_path, messages=100)
    resident = begin(tmp_path)
    until_there(directory / "totals")
    assert resident.poll() is None
    said, complained = resident.communicate(b"", timeout=DEADLINE_S)
    assert (said, complained, resident.returncode) == (b"no child\n", b"", 0)
    assert (directory / "totals").read_bytes().startswith(b"\n\nthrough 1\nsums ")
    events = Events()
    events.read(journal_lines(Disk(os.fsencode(tmp_path)), b"ledger/ended"))
    assert balance([], events, {}, {}).messages == 200


def test_it_holds_nothing_of_the_residents(tmp_path: Path) -> None:
    """With journals that take a while, the resident's pipes end with the resident."""
    directory = journals(tmp_path, messages=30_000)
    resident = begin(tmp_path)
    assert resident.stdout is not None
    assert resident.stdout.readline() == b"no child\n"
    resident.send_signal(signal.SIGKILL)
    assert resident.stdout.read() == b"", "end of file, whoever else still works"
    resident.communicate(timeout=DEADLINE_S)
    until_there(directory / "totals")


def test_only_one_is_at_it(tmp_path: Path) -> None:
    directory = journals(tmp_path, messages=10)
    lock = os.open(directory, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    others = [begin(tmp_path) for _ in range(2)]
    for one in others:
        assert one.communicate(b"", timeout=DEADLINE_S)[0] == b"no child\n"
    assert not (directory / "totals").exists()
    os.close(lock)
    one = begin(tmp_path)
    until_there(directory / "totals")
    one.communicate(b"", timeout=DEADLINE_S)
