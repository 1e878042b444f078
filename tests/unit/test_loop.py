"""The loop: how long it waits, when finished messages go, what it cleans; and the real waiting."""

import os
import signal
from collections.abc import Iterator

import pytest

from notqmail.queue.layout import CLEANUP_AGE_S, split_path
from notqmail.send.loop import Trigger, poll_wait
from notqmail.send.schedule import CLEANUP_S, FUZZ_S, TODO_S
from send_bench import NOW_S, Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    one = Bench()
    yield one
    one.close()


def quiet_timeout(bench: Bench) -> float:
    """How long it wants to wait when there is nothing to do by itself."""
    bench.settle_down()
    bench.loop.turn()
    return bench.timeouts[-1]


def test_an_empty_queue_waits_for_the_next_look(bench: Bench) -> None:
    assert quiet_timeout(bench) == TODO_S + FUZZ_S


def test_it_wakes_when_the_next_message_is_due(bench: Bench) -> None:
    bench.queue([b"a@me.test"])
    bench.turn()
    bench.local.report(0, b"Z")
    assert quiet_timeout(bench) == 100 + FUZZ_S
    bench.clock.now += 70
    bench.loop.turn()
    assert bench.timeouts[-1] == 30 + FUZZ_S


def test_a_full_channel_waits_for_reports_not_for_time(bench: Bench) -> None:
    bench.queue([b"%d@me.test" % number for number in range(4)])
    assert quiet_timeout(bench) == TODO_S + FUZZ_S


def test_while_exiting_only_reports_matter(bench: Bench) -> None:
    bench.queue([b"a@me.test"])
    bench.turn()
    bench.flags.exit = True
    bench.turn()
    assert bench.timeouts[-1] > TODO_S
    bench.local.report(0, b"K")
    bench.turn()
    assert bench.sender.may_exit()


@pytest.mark.parametrize(("told_to_stop", "alerts"), [(False, 1), (True, 0)])
def test_a_lost_writer_ends_the_whole_and_is_no_alarm_where_all_is_stopped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, told_to_stop: bool, alerts: int
) -> None:
    monkeypatch.setattr(bench.loop, "_writer_is_lost", lambda: True)
    bench.flags.child, bench.flags.exit = True, told_to_stop
    bench.turn()
    assert bench.sender.exiting
    assert bench.log.kept.count(b"alert: oh no! lost qmail-queue --serve! dying...") == alerts


def test_ended_messages_wait_for_more_but_not_long(bench: Bench) -> None:
    bench.queue([b"a@me.test"])
    bench.turn()
    bench.local.report(0, b"K")
    bench.loop.turn()
    assert bench.logged(b"end msg") and bench.paths() != []
    for _ in range(3):
        bench.loop.turn()
    assert 0 < min(filter(None, bench.timeouts[-3:])) < 1
    assert bench.paths() == []


def test_ended_messages_go_in_the_order_that_survives_a_power_cut(bench: Bench) -> None:
    single, double = bench.queue([b"a@me.test"]), bench.queue([b"a@me.test", b"b@me.test"])
    bench.turn()
    bench.local.report(0, b"K")
    bench.local.report(1, b"K")
    bench.turn()
    bench.local.report(0, b"K")
    bench.settle_down()
    assert bench.cleaner.commands == [
        b"todo/%d" % double, b"todo/%d" % single, b"foop/%d" % single, b"foop/%d" % double,
    ] or sorted(bench.cleaner.commands[:2]) == sorted([b"todo/%d" % double, b"todo/%d" % single])  # fmt: skip
    assert bench.paths() == []


def test_what_qmail_clean_does_not_remove_is_logged_and_not_delivered_again(bench: Bench) -> None:
    number = bench.queue([b"a@me.test"])
    bench.turn()
    bench.local.commands()
    bench.cleaner.answers = [False]
    bench.local.report(0, b"K")
    bench.settle_down()
    assert bench.logged(b"warning:") == [b"warning: qmail-clean unable to clean up todo/%d" % number]
    bench.settle_down()
    assert bench.local.commands() == []
    bench.at(NOW_S + 123)
    bench.settle_down()
    assert bench.local.commands() == [] and bench.paths() == [], "it went at the next try"


def test_a_message_file_that_does_not_go_is_logged(bench: Bench) -> None:
    number = bench.queue([b"a@me.test"])
    bench.turn()
    bench.cleaner.answers = [True, False]
    bench.local.report(0, b"K")
    bench.settle_down()
    assert bench.logged(b"warning:") == [b"warning: qmail-clean unable to clean up foop/%d" % number]


def test_a_disk_that_does_not_sync_keeps_finished_messages_for_now(bench: Bench) -> None:
    bench.queue([b"a@me.test", b"b@me.test"])
    bench.turn()
    bench.local.report(0, b"K")
    bench.local.report(1, b"K")
    bench.turn()
    bench.disk.fail_at = bench.disk.effects
    bench.settle_down()
    assert b"warning: trouble syncing the queue; finished messages stay for now" in bench.log.kept
    bench.disk.fail_at = None
    bench.clock.now += 11  # it is not asked again at once
    bench.settle_down()
    assert bench.paths() == []


def test_stale_message_files_are_collected_after_36_hours_and_no_others() -> None:
    bench = Bench(now_s=NOW_S)
    stale, waiting = 23, bench.queue([b"a@me.test", b"b@me.test"])
    for path in (split_path(b"mess", stale), split_path(b"local", stale), b"bounce/%d" % stale):
        bench.disk.create(path, [b"left by a power cut"])
    bench.turn()
    for slot in (0, 1):
        bench.local.report(slot, b"Z")
    bench.settle_down()
    assert split_path(b"mess", stale) in bench.paths(), "its writer could still live"
    bench.at(NOW_S + CLEANUP_S + 1)
    bench.settle_down()
    assert split_path(b"mess", stale) in bench.paths()
    bench.at(NOW_S + CLEANUP_AGE_S + CLEANUP_S)
    bench.settle_down()
    assert [path for path in bench.paths() if path.endswith(b"/%d" % stale)] == []
    assert split_path(b"mess", waiting) in bench.paths()
    bench.close()


def test_todo_is_looked_at_between_walks(bench: Bench) -> None:
    for number in range(0, 2_300, 23):
        bench.disk.create(split_path(b"mess", number), [b"x"])
    bench.loop.turn()
    assert bench.timeouts[-1] == 0
    bench.queue([b"a@me.test"])
    bench.turn(2)
    assert bench.local.commands() != [], "a walk through mess does not hold mail up"


def test_nothing_to_wait_for_is_never_a_negative_time(bench: Bench) -> None:
    bench.queue([b"a@me.test"])
    bench.turn()
    bench.local.report(0, b"Z")
    bench.settle_down()
    bench.clock.now += 10**6
    bench.loop.turn()
    assert min(bench.timeouts) >= 0


# ── the machine's own ────────────────────────────────────────────────────────────────────────────────────


def test_waiting_ends_with_what_is_ready_or_a_signal() -> None:
    one_in, one_out = os.pipe()
    wake_in, wake_out = os.pipe2(os.O_NONBLOCK)
    old = signal.set_wakeup_fd(wake_out, warn_on_full_buffer=False)
    handler = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        wait = poll_wait(wake_in)
        assert wait([one_in], [], 0) == set()
        assert wait([one_in], [one_out], 5) == {one_out}
        os.write(one_out, b"x")
        assert wait([one_in], [], 86_400) == {one_in}
        os.kill(os.getpid(), signal.SIGUSR1)
        os.read(one_in, 1)
        assert one_in not in wait([one_in], [], 86_400)
        assert wait([one_in], [], 0) == set(), "a signal wakes once"
        os.close(one_out)
        assert wait([one_in], [], 86_400) == {one_in}, "an end of file is something to read"
    finally:
        signal.set_wakeup_fd(old)
        signal.signal(signal.SIGUSR1, handler)
        for descriptor in (one_in, wake_in, wake_out):
            os.close(descriptor)


def test_a_trigger_that_is_armed_anew_forgets_old_pulls_and_sees_new_ones(tmp_path: os.PathLike[str]) -> None:
    from notqmail.queue import trigger as fifo

    home = os.fsencode(tmp_path)
    os.mkdir(os.path.join(home, b"lock"))
    fifo.pull(home)  # no fifo: no harm
    os.mkfifo(os.path.join(home, b"lock/trigger"))
    fifo.pull(home)  # nobody listens
    trigger = Trigger(lambda: fifo.listen(home))
    signals = os.pipe()
    wait = poll_wait(signals[0])
    trigger.rearm()
    assert wait([trigger.descriptor], [], 0) == set()
    for _ in range(3):
        fifo.pull(home)
        assert wait([trigger.descriptor], [], 0) == {trigger.descriptor}
        trigger.rearm()
        assert wait([trigger.descriptor], [], 0) == set()
    for _ in range(70_000):
        fifo.pull(home)  # a full fifo is pulled already
    os.unlink(os.path.join(home, b"lock/trigger"))
    trigger.rearm()
    assert trigger.descriptor == -1
    for descriptor in signals:
        os.close(descriptor)
