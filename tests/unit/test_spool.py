"""A message while it comes in: what is left of it, and of what when the system is old."""

import os
import stat
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
    assert os.readlink(f"/proc/self/fd/{message.descriptor}").startswith(str(tmp_path))
    message.close()
    message.close()


def test_without_tmpdir_its_file_is_in_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    descriptor = unnamed_file()
    assert os.readlink(f"/proc/self/fd/{descriptor}").startswith("/tmp/")
    os.close(descriptor)


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


def test_a_large_message_comes_back_in_order_and_closing_frees_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    content = bytes(range(256)) * 1_000
    message = SpooledMessage()
    for start in range(0, len(content), 1_000):
        message.write(content[start : start + 1_000])
    chunks = list(message.chunks())
    assert b"".join(chunks) == content == b"".join(message.chunks())  # read twice: no position is kept
    assert max(map(len, chunks)) == 65_536
    assert stat.S_IMODE(os.fstat(message.descriptor).st_mode) == 0o600
    message.close()
    assert message.descriptor == -1 and message.in_memory() == b""


def test_closing_forgets_a_small_message() -> None:
    message = SpooledMessage()
    message.write(b"one")
    message.write(b"two")
    assert list(message.chunks()) == [b"one", b"two"] and message.length == 6
    message.close()
    assert list(message.chunks()) == []


def test_descriptor_0_is_a_descriptor_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon may have been started with its input closed."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    message = SpooledMessage()
    with open(tmp_path / "file", "w+b") as file:
        file.write(b"content")
        file.flush()
        kept = os.dup(0)
        try:
            os.dup2(file.fileno(), 0)
            message.descriptor = 0
            assert message.in_memory() is None
            assert list(message.chunks()) == [b"content"]
            message.write(b"x" * (INLINE_MAX + 1))
            assert os.fstat(0).st_size > INLINE_MAX
            message.close()
            with pytest.raises(OSError):
                os.fstat(0)
        finally:
            os.dup2(kept, 0)
            os.close(kept)


def test_after_a_disk_failed_the_rest_is_counted_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    message = SpooledMessage()
    message.write(b"x" * (INLINE_MAX + 1))
    message.write(b"y")
    assert (message.failed, message.length, message.in_memory()) == (True, INLINE_MAX + 2, b"")
    message.close()
