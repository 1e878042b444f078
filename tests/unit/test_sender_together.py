"""qmail-send when several reports come at once, and when what comes back cannot be written down."""

import pytest

from notqmail.queue.layout import split_path
from notqmail.testing.fake_disk import FakeDisk
from notqmail.unix.durable import WriteFailed
from send_bench import NOW_S, Bench


class NoRoom(FakeDisk):
    """Has no room for new files while `full`."""

    full = False

    def create(self, path: bytes, chunks: object, mode: int = 0o600) -> int:
        if self.full and not path.startswith(b"pid/") and path.startswith((b"info/", self.fails)):
            raise WriteFailed(28, "No space left on device")
        return super().create(path, chunks, mode)  # type: ignore[arg-type]  # passed on as it came

    fails = b"info/"


def test_status_lines_count_down_one_by_one_when_reports_come_together() -> None:
    bench = Bench()
    bench.queue([b"a@me.test", b"b@me.test"])
    bench.turn()
    bench.local.report(1, b"K")
    bench.local.report(0, b"K")
    bench.turn()
    assert bench.log.kept[-5:-1] == [
        b"delivery 2: success: ", b"status: local 1/2 remote 0/2",
        b"delivery 1: success: ", b"status: local 0/2 remote 0/2",
    ]  # fmt: skip
    bench.close()


@pytest.mark.parametrize("fails", [b"info/", b"local/"])
def test_a_deferral_that_cannot_be_noted_is_not_tried_again_at_every_pull(fails: bytes) -> None:
    """Each try may deliver a part: with the trigger pulled by every new message, copies would pile up."""
    disk = NoRoom(NOW_S)
    disk.fails = fails
    bench = Bench(disk)
    number = bench.queue([b"a@me.test"])
    bench.turn()
    bench.local.commands()
    disk.full = True
    bench.local.report(0, b"Zlater")
    bench.settle_down()
    assert bench.local.commands() == []
    assert bench.log.kept[-2:] == [b"delivery 1: deferral: later", b"status: local 0/2 remote 0/2"]
    assert sorted(bench.paths()) == [split_path(b"mess", number), b"todo/%d" % number], "nothing half written stays"
    assert 0 < bench.timeouts[-1] <= 124, "it is looked at again by itself"
    disk.full = False
    bench.at(NOW_S + 122)
    assert bench.local.commands() == []
    bench.at(NOW_S + 123)
    assert len(bench.local.commands()) == 1
    bench.local.report(0, b"K")
    bench.settle_down()
    assert bench.paths() == []
    bench.close()
