#!/usr/bin/env python3
"""The floor under the figures: a bare loop that makes the same files and the same syncs, and nothing else.

No SMTP, no other process, no thought. What a mail system reaches below this is its own doing; above it, it would
have skipped a sync. Run it alone with a directory as argument.
"""

import argparse
import ctypes
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from report import Row

_BODY = b"x" * 4096
_ENVELOPE = b"u0\0p1\0Fsender@source.test\0Tbench@bench.test\0"
BATCH = 20  # sessions of the benchmark: what can wait for a sync together
_LIBC = ctypes.CDLL(None, use_errno=True)


def measure(directory: Path, messages: int = 2000) -> dict[str, float]:
    """Each bare loop's rate per second on the disk under `directory`."""
    return {
        "4 kB files, one fsync each": _rate(directory, messages, _one_fsync_each),
        f"4 kB files, one syncfs for {BATCH}": _rate(directory, messages, _one_syncfs_a_batch),
        "messages: queue files, preprocessing, Maildir; each file and directory fsynced":
            _rate(directory, messages // 4, lambda root, count: _whole_way(root, count, 1, _sync_each)),
        f"messages: the same, {BATCH} at a time, one syncfs a step":
            _rate(directory, messages, lambda root, count: _whole_way(root, count, BATCH, _sync_all)),
    }  # fmt: skip


def row(directory: Path, messages: int) -> Row:
    """The row of the benchmark."""
    row = Row("floor", "a bare loop, one process, the same disk", "per second", "-")
    for title, rate in measure(directory, messages).items():
        row.line(title, title)
        row.add({title: rate})
    return row


def _rate(directory: Path, count: int, loop: Callable[[str, int], None]) -> float:
    root = tempfile.mkdtemp(prefix="notqmail-floor-", dir=directory)
    try:
        for name in ("pid", "mess", "intd", "todo", "info", "local", "tmp", "new"):
            os.mkdir(f"{root}/{name}")
        start = time.monotonic()
        loop(root, count)
        return count / (time.monotonic() - start)
    finally:
        shutil.rmtree(root)


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, data)
    os.close(descriptor)


def _fsync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _sync_each(root: str, paths: list[str]) -> None:
    """Portable: the files, then the directories their names are in."""
    for path in dict.fromkeys([*paths, *(os.path.dirname(path) for path in paths)]):
        _fsync(path)


def _sync_all(root: str, paths: list[str]) -> None:
    """Linux: the file system, which is all of them at once."""
    descriptor = os.open(root, os.O_RDONLY)
    failed = _LIBC.syncfs(descriptor)
    os.close(descriptor)
    if failed:
        raise OSError(ctypes.get_errno(), "syncfs")


def _one_fsync_each(root: str, count: int) -> None:
    for number in range(count):
        _write(f"{root}/mess/{number}", _BODY)
        _fsync(f"{root}/mess/{number}")


def _one_syncfs_a_batch(root: str, count: int) -> None:
    for first in range(0, count, BATCH):
        for number in range(first, first + BATCH):
            _write(f"{root}/mess/{number}", _BODY)
        _sync_all(root, [])


def _whole_way(root: str, count: int, batch: int, sync: Callable[[str, list[str]], None]) -> None:
    """The life of a local message in qmail's queue, `batch` at a time (INTERNALS: S1 to S5 and away)."""
    for first in range(0, count, batch):
        numbers = range(first, first + batch)
        for number in numbers:
            _write(f"{root}/pid/{number}", _BODY)
            os.link(f"{root}/pid/{number}", f"{root}/mess/{number}")
            os.unlink(f"{root}/pid/{number}")
            _write(f"{root}/intd/{number}", _ENVELOPE)
            os.link(f"{root}/intd/{number}", f"{root}/todo/{number}")
        sync(root, [f"{root}/{part}/{number}" for part in ("mess", "intd", "todo") for number in numbers])
        for number in numbers:
            _write(f"{root}/info/{number}", b"Fsender@source.test\0")
            _write(f"{root}/local/{number}", b"Tbench@bench.test\0")
        sync(root, [f"{root}/{part}/{number}" for part in ("info", "local") for number in numbers])
        for number in numbers:
            os.unlink(f"{root}/intd/{number}")
            os.unlink(f"{root}/todo/{number}")
            _write(f"{root}/tmp/{number}", _BODY)
        sync(root, [f"{root}/tmp/{number}" for number in numbers])
        for number in numbers:
            os.rename(f"{root}/tmp/{number}", f"{root}/new/{number}")
        sync(root, [f"{root}/new/{number}" for number in numbers])
        for number in numbers:
            for part in ("local", "info", "mess"):
                os.unlink(f"{root}/{part}/{number}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default="/var/tmp", help="on the disk to be measured")
    for title, rate in measure(parser.parse_args().directory).items():
        print(f"{title:80} {rate:8.0f}/s")
