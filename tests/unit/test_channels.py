"""A channel's pipes and slots."""

import os
from collections.abc import Iterator

import pytest

from notqmail.send.channels import Attempt, Channel, SpawnerLost
from notqmail.send.cleaner_link import CleanerLink, CleanerLost
from notqmail.send.jobs import Job
from notqmail.wire.reports import permanent, success, temporary
from notqmail.wire.wide_link import Terms, WideCommandReader, encode_wide_report, place_of
from send_bench import Spawner


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    one = Spawner()
    yield one
    one.close()


@pytest.fixture
def channel(spawner: Spawner) -> Channel:
    return Channel(b"local", 2, spawner.commands_fd, spawner.reports_fd)


def taken(channel: Channel, place: int) -> Attempt:
    found = channel.take(place)
    assert found is not None and found.freed is not None
    return found


def attempt(channel: Channel, address: bytes = b"r@y") -> Attempt:
    return Attempt(1, Job(457, channel, b"s@x", 0, b""), 0, address)


def test_slots_are_taken_lowest_first_and_freed_once(channel: Channel) -> None:
    one, two, three = attempt(channel), attempt(channel), attempt(channel)
    channel.start([one])
    channel.start([two])
    assert not channel.may_start
    assert taken(channel, 0) is one and channel.take(0) is None
    channel.start([three])
    assert [channel.slots[slot].attempts for slot in (0, 1)] == [[three], [two]]
    for place in (2, 255, place_of(0, 1), place_of(1, 65_535)):
        assert channel.take(place) is None
    assert taken(channel, 1) is two and channel.in_use == 1


def test_a_slot_is_free_when_each_recipient_has_its_report(spawner: Spawner) -> None:
    channel = Channel(b"remote", 1, spawner.commands_fd, spawner.reports_fd, terms=Terms(1, 3))
    job = Job(457, channel, b"s@x", 0, b"")
    attempts = [Attempt(number, job, number, b"%d@y" % number) for number in range(3)]
    channel.start(attempts)
    assert channel.take(place_of(0, 1), temporary(b"")) is attempts[1] and attempts[1].freed is None
    assert channel.take(place_of(0, 1), success()) is None, "each only once"
    assert channel.take(place_of(0, 0)) is attempts[0] and not channel.may_start
    assert channel.take(place_of(0, 2), permanent(b"")) is attempts[2]
    slot = attempts[2].freed
    assert slot is not None and slot.answered
    assert channel.may_start and channel.in_use == 0
    channel.push()
    (command,) = WideCommandReader().receive(spawner.received())
    assert (command.slot, command.recipients) == (0, (b"0@y", b"1@y", b"2@y"))
    spawner.say(encode_wide_report(place_of(0, 2), success(b"ok")))
    assert channel.reports() == [(place_of(0, 2), success(b"ok"))]


def test_a_command_names_the_message_by_its_split_path(channel: Channel, spawner: Spawner) -> None:
    channel.start([attempt(channel)])
    assert spawner.commands() == []  # not before `push`
    channel.push()
    (command,) = spawner.commands()
    assert (command.slot, command.message, command.sender, command.recipient) == (0, b"20/457", b"s@x", b"r@y")


def test_a_spawner_that_does_not_read_makes_commands_wait(spawner: Spawner) -> None:
    channel = Channel(b"local", 255, spawner.commands_fd, spawner.reports_fd)
    started = 0
    while channel.may_start:
        channel.start([attempt(channel, b"x" * 1_000)])
        channel.push()
        started += 1
    assert started < 255 and channel.unsent
    seen = 0
    while seen < started:
        seen += len(spawner.commands())
        channel.push()
    assert channel.unsent == b"" and channel.may_start


def test_reports_come_when_they_are_whole(channel: Channel, spawner: Spawner) -> None:
    assert channel.reports() == []
    spawner.say(b"\0Kdo")
    assert channel.reports() == []
    spawner.say(b"ne\0\1")
    assert channel.reports() == [(0, success(b"done"))]


def test_a_dead_spawner_is_noticed_when_reading_and_when_writing(channel: Channel, spawner: Spawner) -> None:
    channel.start([attempt(channel)])
    spawner.die()
    with pytest.raises(SpawnerLost):
        channel.push()
    with pytest.raises(SpawnerLost):
        channel.reports()


def test_orders_to_qmail_clean_are_answered_one_by_one() -> None:
    commands_in, commands_out = os.pipe()
    replies_in, replies_out = os.pipe()
    os.write(replies_out, b"+!x+")
    link = CleanerLink(commands_out, replies_in)
    assert link.remove([b"foop/1", b"foop/2", b"todo/3", b"todo/4"]) == [True, False, False, True]
    assert os.read(commands_in, 100) == b"foop/1\0foop/2\0todo/3\0todo/4\0"
    assert link.remove([]) == []
    link.ask([b"todo/5", b"todo/6"])
    assert link.removed() is None and not link.has_answered
    os.write(replies_out, b"!")
    assert link.removed() is None
    os.write(replies_out, b"+x")
    assert link.remove([b"todo/7"]) == [False], "whoever waits for his answer takes nobody else's"
    assert link.has_answered, "and keeps what he reads of theirs"
    assert link.removed() == [False, True]
    assert os.read(commands_in, 100) == b"todo/5\0todo/6\0todo/7\0"
    link.ask([b"todo/8"])
    os.close(replies_out)
    with pytest.raises(CleanerLost):
        link.removed()
    with pytest.raises(CleanerLost):
        link.remove([b"foop/1"])
    os.close(commands_in)
    with pytest.raises(CleanerLost):
        link.remove([b"foop/1"])
    os.close(commands_out)
    os.close(replies_in)
