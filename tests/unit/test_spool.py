"""A message while it comes in: what is left of it, and of what when the system is old."""

import os
from pathlib import Path

import pytest

from notqmail.queue.spool import SpooledMessage, unnamed_file
from notqmail.wire.qmqp import INLINE_MAX


def test_up_to_the_limit_it_is_in_memory_and_beyond_in_a_file_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    message = SpooledMessage()
    message.write(b"x" * INLINE_MAX)
    assert message.in_memory() == b"x" * INLINE_MAX
    message.write(b"y")
    assert message.in_memory() is None and message.length == INLINE_MAX + 1
    assert b"".join(message.chunks()) == b"x" * INLINE_MAX + b"y"
    assert list(tmp_path.iterdir()) == []
    message.close()
    message.close()


def test_a_system_without_unnamed_files_gets_one_whose_name_is_gone_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delattr(os, "O_TMPFILE")
    descriptor = unnamed_file()
    os.write(descriptor, b"kept")
    assert os.pread(descriptor, 9, 0) == b"kept"
    assert list(tmp_path.iterdir()) == []
    os.close(descriptor)
