"""TERM while every slot is taken: what is delivered before the exit is not delivered again after it."""

from notqmail.testing.fake_disk import FakeDisk
from send_bench import Bench


def test_mail_tried_from_todo_in_the_last_free_slot_ends_although_the_exit_came_first() -> None:
    # Found by the simulation (seed 42): the pass was known to be over only when another slot became free.
    disk = FakeDisk()
    bench = Bench(disk, concurrency=(1, 1))
    bench.queue([b"a@me.test"])
    bench.turn()
    assert len(bench.local.commands()) == 1
    bench.flags.exit = True
    bench.loop.turn()
    bench.local.report(0, b"K")
    bench.loop.run()
    bench.close()
    after = Bench(disk)
    after.turn(2)
    assert after.local.commands() == []
    after.close()
