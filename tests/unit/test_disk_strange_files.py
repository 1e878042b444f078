"""What somebody put into a queue directory must not hold a program: a FIFO under a message's name least of all."""

import os
from pathlib import Path

import pytest

from notqmail.queue.store import BadRecord, QueueStore
from notqmail.unix.durable import Disk


def test_no_file_operation_waits_for_a_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    disk = Disk(os.fsencode(tmp_path))
    assert disk.read(b"fifo") == b""
    assert list(disk.read_chunks(b"fifo")) == []
    with pytest.raises(OSError, match="No such device"):
        disk.append(b"fifo", b"x")
    with pytest.raises(OSError, match="No such device"):
        disk.write_at(b"fifo", 0, b"x")


def test_a_fifo_in_todo_is_no_message(tmp_path: Path) -> None:
    (tmp_path / "todo").mkdir()
    os.mkfifo(tmp_path / "todo" / "23")
    with pytest.raises(BadRecord):
        QueueStore(Disk(os.fsencode(tmp_path))).read_accepted(23)
