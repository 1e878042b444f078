"""The queue as qmail-send sees it: strange names, truncated files, and what each step leaves."""

import pytest

from notqmail.queue.layout import number_of, split_path
from notqmail.queue.store import LOCAL, REMOTE, BadRecord, QueueStore
from notqmail.testing.fake_disk import FakeDisk


@pytest.fixture
def disk() -> FakeDisk:
    return FakeDisk()


@pytest.fixture
def store(disk: FakeDisk) -> QueueStore:
    return QueueStore(disk)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        (b"457", 457), (b"0", 0), (b"18446744073709551615", 2**64 - 1),
        (b"", None), (b"0457", None), (b"00", None), (b"45a", None), (b"-1", None), (b" 1", None), (b".1", None),
        (b"core", None), (b"457.swp", None), (b"\xb2", None), (b"1" * 21, None),
    ],
)  # fmt: skip
def test_only_plain_numbers_are_messages(name: bytes, number: int | None) -> None:
    assert number_of(name) == number


def test_the_split_is_by_23() -> None:
    assert split_path(b"mess", 457) == b"mess/20/457"


def test_strange_files_in_the_queue_are_left_alone(disk: FakeDisk, store: QueueStore) -> None:
    for path in (b"todo/core", b"todo/.hidden", b"todo/1~", b"info/0/x", b"info/1/0", b"mess/3/2", b"mess/2/2.bak"):
        disk.create(path, [b"?"])
    before = disk.everything()
    assert list(store.accepted_numbers()) == []
    assert list(store.waiting()) == []  # info/1/0: a number that belongs into another directory
    assert list(store.message_numbers()) == []
    assert disk.everything() == before


RECORDS = b"u7\0p42\0Fs@x\0Ta@y\0Tb@z\0"


def test_what_todo_says(disk: FakeDisk, store: QueueStore) -> None:
    disk.create(b"todo/5", [RECORDS])
    disk.create(split_path(b"mess", 5), [b"12345"])
    found = store.read_accepted(5)
    assert (found.number, found.uid, found.pid, found.size) == (5, 7, 42, 5)
    assert (found.sender, found.recipients) == (b"s@x", [b"a@y", b"b@z"])


@pytest.mark.parametrize(
    ("records", "recipients"),
    [
        (RECORDS[:-1], [b"a@y"]),  # the last record is not ended, so it is none
        (b"Fs\0", []),  # no u, no p, nobody
        (b"u\0px\0Fs\0Ta\0", [b"a"]),  # no numbers: they are only for the log
        (b"F\0T\0", [b""]),
    ],
)
def test_what_can_be_understood_is(records: bytes, recipients: list[bytes], disk: FakeDisk, store: QueueStore) -> None:
    disk.create(b"todo/5", [records])
    disk.create(split_path(b"mess", 5), [])
    assert store.read_accepted(5).recipients == recipients


@pytest.mark.parametrize(
    "records", [b"", b"u7\0p4\0", b"u7\0p4\0Fs", b"Fs\0Xr\0", b"Fs\0\0", b"\0", b"Ta\0", b"\xff" * 9 + b"\0"]
)
def test_a_todo_file_without_sender_or_with_strange_records_is_bad(
    records: bytes, disk: FakeDisk, store: QueueStore
) -> None:
    disk.create(b"todo/5", [records])
    disk.create(split_path(b"mess", 5), [])
    with pytest.raises(BadRecord):
        store.read_accepted(5)


def test_an_envelope_without_message_is_missing(disk: FakeDisk, store: QueueStore) -> None:
    disk.create(b"todo/5", [RECORDS])
    with pytest.raises(FileNotFoundError) as missing:
        store.read_accepted(5)
    assert missing.value.filename == b"mess/5/5"


def test_preprocessing_starts_from_scratch(disk: FakeDisk, store: QueueStore) -> None:
    for path in (b"local/5/5", b"remote/5/5", b"info/5/5", b"bounce/5"):
        disk.create(path, [b"of an earlier try"])
    paths = store.write_preprocessed(5, b"s@x", {LOCAL: [b"a@y", b"b@y"]}, 123)
    assert disk.everything() == {b"info/5/5": b"Fs@x\0", b"local/5/5": b"Ta@y\0Tb@y\0"}
    assert set(paths) == {b"info/5/5", b"info/5", b"local/5/5", b"local/5"}
    assert store.birth_and_sender(5) == (123, b"s@x")


@pytest.mark.parametrize("info", [b"", b"s@x\0", b"\0", b"Xs\0"])
def test_an_info_file_without_sender_is_bad(info: bytes, disk: FakeDisk, store: QueueStore) -> None:
    disk.create(b"info/5/5", [info])
    with pytest.raises(BadRecord):
        store.birth_and_sender(5)


def test_no_info_file_is_missing(store: QueueStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.birth_and_sender(5)


def test_at_the_start_each_channel_is_due_at_its_file_s_time(disk: FakeDisk, store: QueueStore) -> None:
    store.write_preprocessed(5, b"s", {LOCAL: [b"a"], REMOTE: [b"b"]}, 100)
    store.write_preprocessed(28, b"s", {REMOTE: [b"b"]}, 100)
    store.write_preprocessed(6, b"s", {}, 100)
    store.write_preprocessed(7, b"s", {LOCAL: [b"a"]}, 100)
    disk.create(b"todo/7", [RECORDS])  # will be preprocessed again
    store.save_due(5, LOCAL, 200)
    store.save_due(5, REMOTE, 300)
    store.save_due(28, REMOTE, 400)
    found = {waiting.number: waiting.due_s for waiting in store.waiting()}
    assert found == {5: {LOCAL: 200, REMOTE: 300}, 28: {REMOTE: 400}, 6: {}}


def test_a_done_recipient_is_one_byte(disk: FakeDisk, store: QueueStore) -> None:
    store.write_preprocessed(5, b"s", {LOCAL: [b"a", b"b"]}, 100)
    store.mark_done(5, LOCAL, 3)
    assert store.recipients(5, LOCAL) == b"Ta\0Db\0"


def test_failure_texts_are_durable_when_they_are_said_to_be(disk: FakeDisk, store: QueueStore) -> None:
    store.append_bounces([(5, b"one\n"), (6, b"other\n"), (5, b"two\n")])
    assert b"".join(store.bounce_chunks(5)) == b"one\ntwo\n"
    disk.cut_at = disk.effects
    import random

    for survivor in disk.survivors(random.Random(1)):
        assert survivor.read(b"bounce/5") == b"one\ntwo\n"
    assert store.has_bounce(5) and not store.has_bounce(7)


def test_leftovers_of_a_message_without_info_go(disk: FakeDisk, store: QueueStore) -> None:
    for path in (b"local/5/5", b"remote/5/5", b"bounce/5", split_path(b"mess", 5)):
        disk.create(path, [b"x"])
    assert not store.is_known(5)
    store.forget_leftovers(5)
    assert list(disk.everything()) == [split_path(b"mess", 5)]


def test_before_a_number_is_free_everything_that_bore_it_is_synced(store: QueueStore) -> None:
    assert set(store.end_paths([5])) == {b"todo", b"intd", b"bounce", b"info/5", b"local/5", b"remote/5"}
    assert set(store.end_paths([])) <= {b"todo", b"intd", b"bounce"}


def test_a_bounce_file_without_a_text_is_no_bounce() -> None:
    """A full disk, or kill -9 between open and write, leaves one: its bounce would name nobody."""
    disk = FakeDisk()
    disk.create(b"bounce/5", ())
    assert not QueueStore(disk).has_bounce(5)
    assert disk.everything() == {}


def test_a_todo_file_without_uid_and_pid_has_zeros() -> None:
    disk = FakeDisk()
    disk.create(split_path(b"mess", 5), [b"x"])
    disk.create(b"todo/5", [b"Fs@x\0Tr@x\0"])
    found = QueueStore(disk).read_accepted(5)
    assert (found.uid, found.pid, found.sender, found.recipients) == (0, 0, b"s@x", [b"r@x"])
