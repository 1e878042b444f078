"""The real disk and the fake one are the same to whoever uses them: same results, same kinds of error."""

import os
import random
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notqmail.testing.fake_disk import FakeDisk, PowerCut
from notqmail.unix.durable import Disk, WriteFailed

PATHS = [b"a/1", b"a/2", b"b/1"]
DIRECTORIES = [b"a", b"b"]
path = st.sampled_from(PATHS)
data = st.binary(max_size=6)
OPERATIONS = st.one_of(
    st.tuples(st.just("create"), path, st.lists(data, max_size=3)),
    st.tuples(st.just("append"), path, data),
    st.tuples(st.just("write_at"), path, st.integers(0, 12), st.binary(min_size=1, max_size=6)),
    st.tuples(st.just("read"), path),
    st.tuples(st.just("link"), path, path),
    st.tuples(st.just("unlink"), path),
    st.tuples(st.just("discard"), path),
    st.tuples(st.just("rename"), path, path),
    st.tuples(st.just("set_modified"), path, st.integers(0, 2_000_000_000)),
    st.tuples(st.just("sync"), st.lists(st.sampled_from(DIRECTORIES), max_size=3)),
    st.tuples(st.just("names"), st.sampled_from(DIRECTORIES)),
)


def outcome(disk: Disk | FakeDisk, operation: tuple[object, ...]) -> object:
    """What the operation gave, in a form that two disks can share."""
    verb, *arguments = operation
    try:
        result = getattr(disk, str(verb))(*arguments)
    except OSError as error:
        return type(error), error.errno
    if verb == "names":
        return sorted(result)
    return None if verb == "create" else result


def picture(disk: Disk | FakeDisk) -> dict[bytes, object]:
    """All there is, with the names that share a file by their place in the list."""
    found: dict[bytes, object] = {}
    inodes: list[int] = []
    for one in PATHS:
        state = disk.state(one)
        if state is not None:
            if state.inode not in inodes:
                inodes.append(state.inode)
            found[one] = (disk.read(one), b"".join(disk.read_chunks(one, 2)), state.size, inodes.index(state.inode))
            assert state.is_file
    return found


@given(st.lists(OPERATIONS, max_size=12))
@settings(max_examples=400, deadline=None)
def test_both_disks_give_the_same(operations: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = os.fsencode(place)
        for directory in DIRECTORIES:
            os.mkdir(os.path.join(root, directory))
        real, fake = Disk(root), FakeDisk()
        for operation in operations:
            assert outcome(real, operation) == outcome(fake, operation), operation
            assert picture(real) == picture(fake), operation
            if operation[0] == "set_modified" and (state := real.state(operation[1])) is not None:  # type: ignore[arg-type]
                again = fake.state(operation[1])  # type: ignore[arg-type]
                assert again is not None
                assert state.modified_s == again.modified_s == operation[2]


class Unwilling(Exception):
    """What a message's own reader may raise while it is written."""


@pytest.mark.parametrize("kind", ["real", "fake"])
def test_a_file_whose_chunks_fail_is_not_there(kind: str, tmp_path: Path) -> None:
    disk: Disk | FakeDisk = Disk(os.fsencode(tmp_path)) if kind == "real" else FakeDisk()

    def chunks():
        yield b"begun"
        raise Unwilling

    with pytest.raises(Unwilling):
        disk.create(b"a", chunks())
    assert disk.state(b"a") is None


def test_a_create_keeps_the_mode_and_returns_the_inode(tmp_path: Path) -> None:
    disk = Disk(os.fsencode(tmp_path))
    number = disk.create(b"a", [b"x"], 0o640)
    found = (tmp_path / "a").stat()
    assert (found.st_ino, found.st_mode & 0o777 & ~0o027) == (number, 0o640 & ~0o027)
    (tmp_path / "d").mkdir()
    state = disk.state(b"d")
    assert state is not None and not state.is_file


def test_large_content_is_read_whole(tmp_path: Path) -> None:
    disk = Disk(os.fsencode(tmp_path))
    content = os.urandom(65_536)
    for size in (65_535, 65_536, 65_537, 3_000_000):
        (tmp_path / "a").write_bytes((content * 50)[:size])
        assert disk.read(b"a") == (content * 50)[:size]


def test_a_full_file_system_is_write_failed(tmp_path: Path) -> None:
    disk = Disk()
    with pytest.raises(WriteFailed):
        disk.append(b"/dev/full", b"x")


def test_sync_of_what_is_not_there_fails(tmp_path: Path) -> None:
    with pytest.raises(WriteFailed):
        Disk(os.fsencode(tmp_path)).sync([b"missing"])


def test_the_fake_forgets_what_was_not_synced() -> None:
    disk = FakeDisk()
    disk.create(b"d/kept", [b"old"])
    disk.sync([b"d/kept", b"d"])
    disk.create(b"d/new", [b"whole"])
    disk.append(b"d/kept", b"er")
    disk.cut_at = disk.effects
    with pytest.raises(PowerCut):
        disk.unlink(b"d/kept")
    seen = {tuple(sorted(survivor.everything().items())) for survivor in disk.survivors(random.Random(1))}
    assert ((b"d/kept", b"old"),) in seen
    assert ((b"d/kept", b"older"), (b"d/new", b"wh")) in seen, "a torn file"
    assert all(files[0][0] == b"d/kept" for files in seen), "what was synced is there"
    assert {content for files in seen for name, content in files if name == b"d/new"} == {b"", b"wh", b"whole"}


def test_the_fake_can_fail_and_work_again() -> None:
    disk = FakeDisk()
    disk.fail_at = 0
    with pytest.raises(WriteFailed):
        disk.create(b"d/a", [b"x"])
    disk.fail_at = None
    disk.create(b"d/a", [b"x"])
    assert disk.everything() == {b"d/a": b"x"}


@contextmanager
def files_that_grow_to_five_bytes() -> Iterator[None]:
    """As a disk that is full after them. For a block, not for a test: pytest's own output may be a file, too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_append_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """Half a paragraph would be bounced to the sender."""
    disk = Disk(os.fsencode(tmp_path))
    disk.append(b"old", b"abc")
    for path in (b"old", b"new"):
        with files_that_grow_to_five_bytes(), pytest.raises(WriteFailed):
            disk.append_whole(path, b"0123456789")
    assert (disk.read(b"old"), disk.read(b"new")) == (b"abc", b"")
    disk.append_whole(b"old", b"de")
    assert disk.read(b"old") == b"abcde"


@pytest.mark.parametrize("kind", ["real", "fake"])
def test_a_shared_file_grows_at_its_end_and_is_cut_back(kind: str, tmp_path: Path) -> None:
    disk: Disk | FakeDisk = Disk(os.fsencode(tmp_path)) if kind == "real" else FakeDisk()
    first = disk.open_shared(b"box")
    first.lock()
    assert first.is_new and first.end() == (0, b"")
    first.write(b"a")
    assert first.end() == (1, b"a")
    first.write(memoryview(b"bc\n"))
    first.sync()
    first.close()
    again = disk.open_shared(b"box")
    assert not again.is_new and again.end() == (4, b"c\n")
    again.write(b"half")
    again.cut_back(4)
    again.close()
    assert disk.read(b"box") == b"abc\n"


def test_what_cannot_be_read_or_has_no_end_has_no_last_bytes(tmp_path: Path) -> None:
    disk = Disk(os.fsencode(tmp_path))
    file = disk.open_shared(b"box")
    file.write(b"text")
    (tmp_path / "box").rename(tmp_path / "moved")
    assert file.end() == (4, b""), "the name is gone"
    (tmp_path / "box").write_bytes(b"another's")
    assert file.end() == (4, b""), "the name is another file's"
    file.cut_back(1)
    assert (tmp_path / "moved").read_bytes() == b"t"
    file.close()
    full = Disk().open_shared(b"/dev/full")
    assert full.end() == (0, b"")
    with pytest.raises(WriteFailed):
        full.write(b"x")
    full.cut_back(0)
    full.close()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="No such device"):
        disk.open_shared(b"fifo")
