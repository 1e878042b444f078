"""The look into todo: what is new, what goes straight out, what is settled first, what is left for later."""

from collections.abc import Iterator

import pytest

from notqmail.queue.layout import split_path
from notqmail.queue.store import LOCAL, REMOTE
from notqmail.send import todo
from notqmail.send.cleaner_link import CleanerLost
from notqmail.send.schedule import TROUBLE_S
from notqmail.testing.fake_disk import FakeDisk
from notqmail.unix.durable import WriteFailed
from send_bench import NOW_S, Bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    one = Bench()
    yield one
    one.close()


def look(bench: Bench, now_s: int = NOW_S) -> list[int]:
    """One whole look; the numbers it gave."""
    found = []
    while True:
        found += [message.number for message in bench.preprocessor.turn({}, now_s, 0)]
        if not bench.preprocessor.looking:
            return found


def test_one_recipient_stays_in_todo_and_more_are_settled(bench: Bench) -> None:
    one = bench.queue([b"a@me.test"])
    two = bench.queue([b"a@me.test", b"b@far.test", b"c@far.test"])
    nobody = bench.queue([])
    assert sorted(look(bench)) == [one, two, nobody]
    assert [path for path in bench.paths() if not path.startswith(b"mess/")] == sorted(
        [b"todo/%d" % one, split_path(b"info", two), split_path(LOCAL, two), split_path(REMOTE, two),
         split_path(b"info", nobody)]
    )  # fmt: skip
    assert bench.store.recipients(two, LOCAL) == b"Ta@me.test\0"
    assert bench.store.recipients(two, REMOTE) == b"Tb@far.test\0Tc@far.test\0"


def test_it_looks_at_once_then_when_pulled_then_every_25_minutes(bench: Bench) -> None:
    assert look(bench) == []
    one = bench.queue([b"a@me.test", b"b@me.test"])
    assert bench.preprocessor.turn({}, NOW_S + 1_499, 1_499) == []
    assert look(bench, NOW_S + 1_500) == [one]
    two = bench.queue([b"a@me.test", b"b@me.test"])
    bench.preprocessor.pull()
    assert look(bench, NOW_S + 1_501) == [two]


def test_a_pull_during_a_look_asks_for_another(bench: Bench) -> None:
    for _ in range(todo.BATCH_MAX + 1):
        bench.queue([b"a@me.test"])
    assert len(bench.preprocessor.turn({}, NOW_S, 0)) == todo.BATCH_MAX
    assert bench.preprocessor.looking
    bench.preprocessor.pull()
    bench.preprocessor.turn({}, NOW_S, 0)
    assert not bench.preprocessor.looking
    assert bench.preprocessor.pause_s(0, 0) == 0


def test_what_is_known_is_not_taken_twice(bench: Bench) -> None:
    one, two = bench.queue([b"a@me.test"]), bench.queue([b"a@me.test"])
    assert [message.number for message in bench.preprocessor.turn({one: object()}, NOW_S, 0)] == [two]


def test_when_very_much_waits_single_recipients_are_settled_too(bench: Bench) -> None:
    one = bench.queue([b"a@me.test"])
    crowd = dict.fromkeys(range(1_000_000, 1_000_000 + todo.DIRECT_MAX))
    (message,) = bench.preprocessor.turn(crowd, NOW_S, 0)
    assert not message.in_todo
    assert split_path(b"info", one) in bench.paths()


@pytest.mark.parametrize(("crowded", "pause_s"), [(300, 0.3), (10_000, 1)])
def test_the_more_wait_the_further_apart_are_looks(bench: Bench, crowded: int, pause_s: float) -> None:
    bench.preprocessor.turn({}, NOW_S, 7, untried=crowded)
    bench.queue([b"a@me.test"])
    assert bench.preprocessor.pause_s(crowded, 7) > 1_000, "nobody has pulled"
    bench.preprocessor.pull()
    assert bench.preprocessor.turn({}, NOW_S, 7 + pause_s * 0.99, untried=crowded) == []
    assert bench.preprocessor.pause_s(crowded, 7) == pytest.approx(pause_s)
    assert len(bench.preprocessor.turn({}, NOW_S, 7 + pause_s * 1.01, untried=crowded)) == 1


def test_a_look_stops_when_something_else_must_not_wait_and_goes_on_later(bench: Bench) -> None:
    numbers = [bench.queue([b"a@me.test"]) for _ in range(5)]
    wanted = iter([False, True, True, False, False, False])
    known: dict[int, object] = {}
    looks = []
    while len(known) < 5:
        found = [message.number for message in bench.preprocessor.turn(known, NOW_S, 0, is_wanted=lambda: next(wanted))]
        known |= dict.fromkeys(found)
        looks.append(len(found))
    assert (looks, sorted(known)) == ([2, 1, 2], sorted(numbers))


def test_what_has_ended_since_the_directory_was_read_is_no_trouble(bench: Bench) -> None:
    numbers = [bench.queue([b"a@me.test"]) for _ in range(2)]
    (first,) = bench.preprocessor.turn({}, NOW_S, 0, is_wanted=lambda: True)
    (other,) = {*numbers} - {first.number}
    bench.disk.unlink(b"todo/%d" % other)
    assert bench.preprocessor.turn({}, NOW_S, 0) == []
    assert bench.logged(b"warning:") == []


@pytest.mark.parametrize(
    ("content", "mess", "complaint"),
    [
        (b"Fs\0Xr\0", True, b"warning: unknown record type in todo/99"),
        (b"", True, b"warning: unknown record type in todo/99"),
        (b"Fs\0Tr\0", False, b"warning: unable to stat mess/7/99"),
    ],
)
def test_what_cannot_be_read_is_complained_of_and_left(
    bench: Bench, content: bytes, mess: bool, complaint: bytes
) -> None:
    bench.disk.create(b"todo/99", [content])
    if mess:
        bench.disk.create(split_path(b"mess", 99), [b"m"])
    good = bench.queue([b"a@me.test", b"b@me.test"])
    before = bench.disk.everything()
    assert look(bench) == [good]
    assert bench.logged(b"warning:") == [complaint]
    after = bench.disk.everything()
    assert {path: after[path] for path in after if b"99" in path} == {
        path: before[path] for path in before if b"99" in path
    }


def test_todo_is_kept_when_info_cannot_be_written(bench: Bench) -> None:
    number = bench.queue([b"a@me.test", b"b@me.test"])
    bench.disk.fail_at = bench.disk.effects
    assert look(bench) == []
    assert len(bench.logged(b"warning:")) == 1
    bench.disk.fail_at = None
    bench.preprocessor.pull()
    assert look(bench) == [number]


class NoSync(FakeDisk):
    broken = True

    def sync(self, paths: object) -> None:
        if self.broken and b"info/1" in paths:  # type: ignore[operator]
            raise WriteFailed(5, "broken")
        super().sync(paths)  # type: ignore[arg-type]


def test_todo_is_kept_when_info_cannot_be_made_durable_and_others_do_not_wait_for_it() -> None:
    disk = NoSync(NOW_S)
    bench = Bench(disk)
    assert [bench.queue([b"a@me.test", b"b@me.test"]), bench.queue([b"c@me.test"])] == [1, 3]
    assert look(bench) == [3]
    assert bench.logged(b"warning:") == [b"warning: trouble writing to the queue, will look into todo again"]
    assert b"todo/1" in bench.paths() and bench.cleaner.commands == []
    disk.broken = False
    assert bench.preprocessor.next_look_s() == NOW_S + TROUBLE_S
    assert [routed.number for routed in bench.preprocessor.turn({3: None}, NOW_S + TROUBLE_S, 0)] == [1]
    bench.close()


def test_what_qmail_clean_does_not_remove_is_preprocessed_again(bench: Bench) -> None:
    number = bench.queue([b"a@me.test", b"b@me.test"])
    bench.cleaner.answers = [False]
    assert look(bench) == []
    assert bench.logged(b"warning:") == [b"warning: qmail-clean unable to clean up todo/%d" % number]
    bench.preprocessor.pull()
    assert look(bench) == [number]


def test_a_lost_qmail_clean_is_told_upwards(bench: Bench) -> None:
    bench.queue([b"a@me.test", b"b@me.test"])
    bench.cleaner.answers = [CleanerLost()]
    with pytest.raises(CleanerLost):
        bench.preprocessor.turn({}, NOW_S, 0)


class NoList(FakeDisk):
    def each_name(self, directory: bytes) -> Iterator[bytes]:
        raise PermissionError(13, "no", directory)


def test_a_todo_that_cannot_be_listed_is_an_alert_and_looked_at_later() -> None:
    bench = Bench()
    disk = NoList(NOW_S)
    bench.store._disk = disk
    assert look(bench) == []
    assert bench.logged(b"alert:") == [b"alert: unable to opendir todo, will look again later"]
    assert bench.preprocessor.next_look_s() == NOW_S + 1_500
    bench.close()


def test_what_an_earlier_life_wrote_for_a_message_in_todo_is_written_anew(bench: Bench) -> None:
    """qmail-send died between info and the removal of todo/N: tried straight from todo, the message would be
    delivered and leave info and local behind, for whoever gets its number next.
    """
    number = bench.queue([b"a@me.test"])
    bench.store.write_preprocessed(number, b"s@far.test", {LOCAL: [b"a@me.test"], REMOTE: [b"old@far.test"]}, NOW_S)
    assert look(bench) == [number]
    assert [path for path in bench.paths() if not path.startswith(b"mess/")] == [
        split_path(b"info", number), split_path(LOCAL, number)
    ]  # fmt: skip


def test_a_message_that_was_half_settled_is_settled_before_it_is_tried_again(bench: Bench) -> None:
    number = bench.queue([b"a@me.test"])
    bench.turn()
    bench.local.commands()
    bench.cleaner.answers = [False]  # info and local are there, todo/N stays
    bench.local.report(0, b"Znot now\n")
    bench.turn()
    bench.settle_down()
    bench.at(NOW_S + 1_500)
    assert [command.slot for command in bench.local.commands()] == [0]
    bench.local.report(0, b"K")
    bench.settle_down()
    assert bench.paths() == [], number
