"""The loop: how long it waits, when finished messages go, what it cleans; and the real waiting."""

import os
import signal
from collections.abc import Iterator

import pytest

from notqmail.queue.layout import CLEANUP_AGE_S, split_path
from notqmail.send.loop import Trigger, poll_wait
from notqmail.send.schedule import CLEANUP_S, FUZZ_S, TODO_S
from notqmail.unix.durable import WriteFailed
from send_bench import NOW_S, Bench, DiskCleaner, SteppedClock


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


class SlowCleaner(DiskCleaner):
    """Has not answered before `at_it` is False; then its descriptor is readable."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.disk, bench.clock)
        self.replies_fd, self._tell = os.pipe()
        self.at_it = True

    @property
    def has_answered(self) -> bool:  # type: ignore[override]
        return not self.at_it

    def removed(self) -> list[bool] | None:  # type: ignore[override]
        return None if self.at_it else super().removed()

    def answer(self) -> None:
        self.at_it = False
        os.write(self._tell, b"+")

    def close(self) -> None:
        os.close(self.replies_fd)
        os.close(self._tell)


@pytest.fixture
def slow(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowCleaner]:
    cleaner = SlowCleaner(bench)
    monkeypatch.setattr(bench.loop._endings, "_cleaner", cleaner)
    yield cleaner
    cleaner.close()


def test_deliveries_go_on_while_qmail_clean_removes_what_has_ended(bench: Bench, slow: SlowCleaner) -> None:
    number = bench.queue([b"a@me.test"])
    bench.turn()
    bench.local.report(0, b"K")
    bench.settle_down()
    assert slow.commands == [b"todo/%d" % number]
    bench.local.commands()
    bench.queue([b"b@me.test"])
    bench.turn()
    assert [command.recipient for command in bench.local.commands()] == [b"b@me.test"]
    slow.answer()
    bench.loop.turn()
    assert slow.commands == [b"todo/%d" % number, b"foop/%d" % number]


def test_an_answer_that_came_along_with_another_one_is_not_waited_for(bench: Bench, slow: SlowCleaner) -> None:
    """Settling reads qmail-clean's answers to what has ended too: nothing more comes that could wake the loop."""
    number = bench.queue([b"a@me.test"])
    bench.turn()
    bench.local.report(0, b"K")
    bench.settle_down()
    slow.at_it = False  # it has been read, and the descriptor is quiet
    bench.loop.turn()
    assert bench.timeouts[-1] == 0
    assert slow.commands == [b"todo/%d" % number, b"foop/%d" % number]


def test_a_stop_waits_until_qmail_clean_has_removed_what_has_ended(bench: Bench, slow: SlowCleaner) -> None:
    bench.queue([b"a@me.test"])
    bench.turn()
    bench.local.report(0, b"K")
    bench.settle_down()
    bench.flags.exit = True
    slow.answer()
    bench.loop.run()
    assert bench.paths() == []


def test_a_stale_file_that_is_being_removed_is_not_asked_for_twice(bench: Bench, slow: SlowCleaner) -> None:
    stale = 23  # the second time it would be another message's, that had got its number meanwhile
    bench.disk.create(split_path(b"mess", stale), [b"left by a power cut"])
    bench.at(NOW_S + CLEANUP_AGE_S + 1)
    for later_s in (1, 2, 3):
        bench.at(NOW_S + CLEANUP_AGE_S + later_s * (CLEANUP_S + 1))
        bench.settle_down()
    assert slow.commands == [b"foop/%d" % stale]


class NeverAnswers(SlowCleaner):
    """Does not even begin."""

    def ask(self, commands: list[bytes]) -> None:
        self.commands += commands


def test_what_is_asked_for_is_not_asked_for_again_while_it_is_still_there(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaner = NeverAnswers(bench)
    monkeypatch.setattr(bench.loop._endings, "_cleaner", cleaner)
    bench.disk.create(split_path(b"mess", 23), [b"left by a power cut"])
    for later_s in range(4):
        bench.at(NOW_S + CLEANUP_AGE_S + 1 + later_s * (CLEANUP_S + 1))
        bench.settle_down()
    assert (cleaner.commands, bench.sender.ended) == ([b"foop/23"], [])
    cleaner.close()


class LateCleaner(SlowCleaner):
    """Does what it is asked for only when it is waited for."""

    def ask(self, commands: list[bytes]) -> None:
        self._pending, self.at_it = commands, True

    def wait_for_answer(self) -> None:
        super().ask(self._pending)
        self.at_it = False


def test_a_kill_repeats_few_deliveries_though_qmail_clean_is_far_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """todo/N is the only mark of a message that was delivered from there."""
    bench = Bench(concurrency=(5, 5))
    cleaner = LateCleaner(bench)
    monkeypatch.setattr(bench.loop._endings, "_cleaner", cleaner)
    for _ in range(100):
        bench.queue([b"a@me.test"])
    delivered: list[bytes] = []
    unmarked = []
    while len(delivered) < 100:
        bench.turn()
        for command in bench.local.commands():
            bench.local.report(command.slot, b"K")
            delivered.append(b"todo/" + command.message.split(b"/")[1])
        unmarked.append(len(set(delivered) & set(bench.paths(b"todo/"))))
    assert 5 < max(unmarked) <= 25, "what is under way, and twenty"
    cleaner.close()
    bench.close()


def broken_barrier(*_: object, **__: object) -> None:
    raise WriteFailed(5, "input/output error")


def test_nobody_who_was_delivered_to_stays_in_todo_after_a_stop_though_the_disk_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notqmail.send.endings.TOGETHER_MAX", 3)
    count = 8
    for _ in range(count):
        bench.queue([b"a@me.test"])
    monkeypatch.setattr(bench.disk, "barrier", broken_barrier)
    while count:
        bench.turn()
        for command in bench.local.commands():
            bench.local.report(command.slot, b"K")
            count -= 1
    while not bench.sender.may_exit():
        bench.turn()
    bench.flags.exit = True
    bench.loop.run()
    assert bench.paths(b"todo/") == []
    assert len(bench.paths(b"mess/")) == 8, "collected later"


def test_after_trouble_with_the_disk_a_clock_that_is_set_back_does_not_matter(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.queue([b"a@me.test"])
    bench.turn()
    bench.local.report(0, b"K")
    with monkeypatch.context() as broken:
        broken.setattr(bench.disk, "barrier", broken_barrier)
        bench.settle_down()
    bench.at(NOW_S - 86_400)
    bench.settle_down()
    assert bench.paths() == []


def test_ended_messages_do_not_wait_for_ever_where_there_is_always_something_to_do(bench: Bench) -> None:
    bench.queue([b"a@me.test"])
    bench.turn()
    bench.local.report(0, b"K")
    bench.turn()
    assert bench.cleaner.commands == []
    bench.at(NOW_S + 1)
    assert len(bench.cleaner.commands) == 2


class WorkingClock(SteppedClock):
    """Everything takes a millisecond."""

    __slots__ = ("steady",)

    def steady_s(self) -> float:
        self.steady = getattr(self, "steady", 0.0) + 0.001
        return self.steady


def test_a_slot_that_becomes_free_does_not_wait_for_the_end_of_a_long_look(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        bench.queue([b"a@me.test"])
    bench.turn()
    assert len(bench.local.commands()) == 2
    for _ in range(50):
        bench.queue([b"b@far.test"])
    bench.turn()
    bench.remote.commands()
    for _ in range(50):
        bench.queue([b"c@me.test"])
    monkeypatch.setattr(bench.loop, "_clock", WorkingClock())
    wait = bench.loop._wait_for
    looks: list[float] = []

    def report_comes(readable: list[int], writable: list[int], timeout_s: float) -> set[int]:
        looks.append(timeout_s)
        if len(looks) == 5:
            bench.local.report(0, b"K")
        return wait(readable, writable, timeout_s)

    monkeypatch.setattr(bench.loop, "_wait_for", report_comes)
    new = len(bench.logged(b"new msg"))
    bench.turn()
    assert 0 < len(bench.logged(b"new msg")) - new < 10
    bench.loop.turn()
    assert len(bench.local.commands()) == 1


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
