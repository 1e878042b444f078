"""unix/bulk_sync.py: what is synced together, and where a barrier may be less than a sync."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from notqmail.unix.bulk_sync import BulkSync, ext4_keeps_order, load_bulk_sync
from notqmail.unix.durable import Disk, WriteFailed
from send_bench import SteppedClock


class Kernel:
    """Notes what is asked of it, by inode; fails from the call numbered `fails_at` on."""

    def __init__(self, *, ordered: bool = True, fails_at: int = 1_000, error: int = errno.EIO) -> None:
        self.calls: list[tuple[str, int]] = []
        self._fails_at, self._error = fails_at, error
        self.clock = SteppedClock(0)
        self.bulk = BulkSync(
            self._call("syncfs"), self._call("start"), self._call("finish"), self._keeps_order, self.clock
        )
        self.asked: list[int] = []
        self._ordered = ordered

    def _keeps_order(self, device: int) -> bool:
        self.asked.append(device)
        return self._ordered

    def _call(self, name: str) -> Callable[[int], None]:
        def call(descriptor: int) -> None:
            if len(self.calls) >= self._fails_at:
                raise OSError(self._error, "broken")
            self.calls.append((name, os.fstat(descriptor).st_ino))

        return call


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "d").mkdir()
    return tmp_path


def inode(place: Path, name: str) -> int:
    return (place / name).stat().st_ino


def test_many_paths_are_one_syncfs_and_few_are_not(place: Path) -> None:
    kernel = Kernel()
    disk = Disk(os.fsencode(place), kernel.bulk)
    disk.sync([b"a", b"b"])
    assert kernel.calls == []
    disk.sync([b"a", b"b", b"d"])
    assert kernel.calls == [("syncfs", inode(place, "a"))]


def test_each_file_system_is_synced_for_itself(place: Path) -> None:
    """A queue some of whose directories are links to another disk: the syncfs of one is no sync of the other."""
    other = Path("/dev/shm")
    if other.stat().st_dev == place.stat().st_dev:
        pytest.skip("/dev/shm is on the disk of the tests")
    kernel = Kernel()
    (place / "elsewhere").symlink_to(other)
    Disk(os.fsencode(place), kernel.bulk).sync([b"a", b"elsewhere", b"b", b"elsewhere/."])
    assert kernel.calls == [("syncfs", inode(place, "a")), ("syncfs", other.stat().st_ino)]
    there, here = os.fsencode(other), os.fsencode(place)
    assert not kernel.bulk.write_out([], [there], here), "no order between two file systems"
    assert not kernel.bulk.write_out([here + b"/a"], [], there)
    assert kernel.bulk.write_out([], [there], there)


def test_where_order_is_kept_a_barrier_has_files_written_all_begun_before_any_is_waited_for(place: Path) -> None:
    kernel = Kernel()
    disk = Disk(os.fsencode(place), kernel.bulk)
    disk.barrier([b"a", b"b"], [b"d"], before=b"d")
    a, b = inode(place, "a"), inode(place, "b")
    assert kernel.calls == [("start", b), ("finish", a), ("finish", b)]
    disk.barrier([b"c"], [b"", b"d"], before=b"")
    assert kernel.asked == [place.stat().st_dev], "asked once"


@pytest.mark.parametrize("bulk", [Kernel(ordered=False).bulk, BulkSync(lambda descriptor: None)])
def test_elsewhere_a_barrier_is_a_sync(place: Path, bulk: BulkSync, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(os.fsencode(place), bulk)
    synced: list[bytes] = []
    monkeypatch.setattr(disk, "sync", synced.extend)
    disk.barrier([b"a"], [b"d"], before=b"d")
    assert synced == [b"a", b"d"]


def test_what_was_seen_of_a_file_system_is_believed_for_a_second(place: Path) -> None:
    """Another one may have been mounted, and have got the device's number."""
    kernel = Kernel()
    here, file = os.fsencode(place), os.fsencode(place / "a")
    assert kernel.bulk.write_out([file], [], here)
    kernel._ordered = False
    assert kernel.bulk.write_out([file], [], here)
    kernel.clock.now += 1
    assert not kernel.bulk.write_out([file], [], here)


def test_too_many_files_at_once_are_synced(place: Path) -> None:
    kernel = Kernel()
    Disk(os.fsencode(place), kernel.bulk).barrier([b"a", b"b", b"c", b"a", b"b", b"c"], [b"d"], before=b"d")
    assert kernel.calls == [("syncfs", inode(place, "a"))]


def test_without_a_descriptor_to_spare_there_is_a_sync(place: Path) -> None:
    kernel = Kernel(fails_at=0, error=errno.EMFILE)
    disk = Disk(os.fsencode(place), kernel.bulk)
    disk.barrier([b"a", b"b"], [], before=b"d")  # two fsyncs, then
    kernel = Kernel(fails_at=0)
    with pytest.raises(WriteFailed):
        Disk(os.fsencode(place), kernel.bulk).barrier([b"a", b"b"], [], before=b"d")


@pytest.mark.parametrize("fails_at", range(3))
def test_what_cannot_be_written_is_write_failed_and_no_descriptor_stays_open(place: Path, fails_at: int) -> None:
    kernel = Kernel(fails_at=fails_at)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(WriteFailed, match="broken"):
        Disk(os.fsencode(place), kernel.bulk).barrier([b"a", b"b"], [], before=b"d")
    with pytest.raises(WriteFailed):
        Disk(os.fsencode(place), Kernel(fails_at=0).bulk).sync([b"a", b"b", b"c"])
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(("paths", "before"), [([b"missing"], b"d"), ([b"a"], b"missing"), ([b"a", b"missing"], b"")])
def test_what_is_not_there_is_write_failed(place: Path, paths: list[bytes], before: bytes) -> None:
    with pytest.raises(WriteFailed):
        Disk(os.fsencode(place), Kernel().bulk).barrier(paths, [], before)


def test_the_real_ones_work_where_there_are_any(place: Path) -> None:
    bulk = load_bulk_sync()
    if bulk is None:
        pytest.skip("no syncfs that reports errors on this system")
    disk = Disk(os.fsencode(place), bulk)
    disk.sync([b"a", b"", b"d", b""])
    disk.barrier([b"a", b"b"], [b"d"], before=b"d")
    ordered = BulkSync(bulk._syncfs, bulk._start, bulk._finish, lambda device: True)
    Disk(os.fsencode(place), ordered).barrier([b"a", b"b"], [b"d"], before=b"d")
    for function in (bulk._syncfs, bulk._start, bulk._finish):
        if function is not None:
            with pytest.raises(OSError) as caught:
                function(-1)
            assert caught.value.errno == errno.EBADF


ORDERED = "rw\nbsddf\nbarrier\ndelalloc\ndata=ordered\ncommit=5\n"
SEEN = [
    # what /proc/fs/ext4/NAME/options says, the journals, whether it keeps order
    (ORDERED, ["sda1-8"], True),
    (ORDERED, ["sda1-8", "dm-0-8"], True),
    (ORDERED.replace("ordered", "writeback"), ["sda1-8"], False),
    (ORDERED.replace("ordered", "journal"), ["sda1-8"], False),
    (ORDERED.replace("barrier", "nobarrier"), ["sda1-8"], False),
    (ORDERED + "journal_async_commit\n", ["sda1-8"], False),
    (ORDERED + "fc_debug_force\n", ["sda1-8"], False),  # fast_commit, where the kernel says so
    (ORDERED.replace("rw", "ro"), ["sda1-8"], False),
    (ORDERED.replace("data=ordered\n", ""), ["sda1-8"], False),  # no journal
    (ORDERED, ["sdb1"], False),  # the journal is on another device
    (ORDERED, ["sda1"], False),
    (ORDERED, ["sda11-8"], False),
    (ORDERED, ["sda1-8-x"], False),
    (ORDERED, [], False),
    ("", ["sda1-8"], False),
    ("\xff", ["sda1-8"], False),
    (None, ["sda1-8"], False),  # no ext4
    (ORDERED, None, False),  # /proc/fs is hidden
]


@pytest.mark.parametrize(("options", "journals", "ordered"), SEEN)
def test_only_ext4_in_order_is_believed(
    tmp_path: Path, options: str | None, journals: list[str] | None, ordered: bool
) -> None:
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys/8:1").symlink_to("../../devices/pci0/block/sda/sda1")
    if options is not None:
        (tmp_path / "proc/ext4/sda1").mkdir(parents=True)
        (tmp_path / "proc/ext4/sda1/options").write_text(options, encoding="latin-1")
    for journal in journals or []:
        (tmp_path / "proc/jbd2" / journal).mkdir(parents=True)
    places = str(tmp_path / "proc"), str(tmp_path / "sys")
    assert ext4_keeps_order(os.makedev(8, 1), *places) == ordered
    assert not ext4_keeps_order(os.makedev(8, 2), *places), "another device"
    if ordered:
        fast_commits = tmp_path / "proc/ext4/sda1/fc_info"
        for text, is_usual in (("fc stats:\n0 commits\n", True), ("fc stats:\n7 commits\n", False), ("", True)):
            fast_commits.write_text(text)
            assert ext4_keeps_order(os.makedev(8, 1), *places) == is_usual
        fast_commits.unlink()
        fast_commits.mkdir()
        assert not ext4_keeps_order(os.makedev(8, 1), *places), "it cannot be read"


def test_of_a_file_system_in_memory_no_order_is_believed() -> None:
    assert not ext4_keeps_order(Path("/proc").stat().st_dev)
