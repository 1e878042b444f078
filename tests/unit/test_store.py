"""The queue as qmail-send sees it: strange names, truncated files, and what each step leaves."""

from collections.abc import Callable

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
    assert (missing.value.errno, missing.value.filename) == (2, b"mess/5/5")


def test_preprocessing_starts_from_scratch(disk: FakeDisk, store: QueueStore) -> None:
    for path in (b"local/5/5", b"remote/5/5", b"info/5/5", b"bounce/5"):
        disk.create(path, [b"of an earlier try"])
    files = store.write_preprocessed(5, b"s@x", {LOCAL: [b"a@y", b"b@y"]}, 123)
    assert disk.everything() == {b"info/5/5": b"Fs@x\0", b"local/5/5": b"Ta@y\0Tb@y\0"}
    assert set(files) == {b"info/5/5", b"local/5/5"}
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


def test_before_a_number_is_free_everything_that_bore_it_is_kept_together(
    disk: FakeDisk, store: QueueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    barriers: list[tuple[list[bytes], set[bytes], bytes]] = []
    monkeypatch.setattr(disk, "barrier", lambda *what, before: barriers.append((what[0], set(what[1]), before)))
    store.keep_ended([5])
    assert barriers == [([], {b"todo", b"intd", b"bounce", b"info/5", b"local/5", b"remote/5"}, b"mess")]


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


def test_a_bad_record_names_its_file() -> None:
    bad = BadRecord(b"info/5/5")
    assert str(bad) == "unknown record type in b'info/5/5'" and bad.path == b"info/5/5"


def test_when_the_info_file_is_gone_the_error_says_which() -> None:
    with pytest.raises(FileNotFoundError) as missing:
        QueueStore(FakeDisk()).birth_and_sender(5)
    assert (missing.value.errno, missing.value.filename) == (2, b"info/5/5")


@pytest.mark.parametrize("step", range(4))
def test_of_a_preprocessing_that_fails_nothing_stays(
    step: int, disk: FakeDisk, store: QueueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message may end straight from todo; nobody would look for these any more."""
    steps = []

    def full_at(do: Callable[..., object]) -> Callable[..., object]:
        def maybe(*arguments: object) -> object:
            steps.append(do)
            if len(steps) == step + 1:
                raise OSError(28, "no space")
            return do(*arguments)

        return maybe

    monkeypatch.setattr(disk, "create", full_at(disk.create))
    monkeypatch.setattr(disk, "set_modified", full_at(disk.set_modified))
    with pytest.raises(OSError):
        store.write_preprocessed(5, b"s@x", {LOCAL: [b"a"], REMOTE: [b"b"]}, 123)
    assert disk.everything() == {}


@pytest.mark.parametrize("path", [b"info/5/5", b"local/5/5", b"remote/5/5", b"bounce/5"])
def test_leftovers_beside_todo_are_seen(path: bytes, disk: FakeDisk, store: QueueStore) -> None:
    disk.create(b"todo/5", [RECORDS])
    assert not store.has_leftovers(5)
    disk.create(path, [b"x"])
    assert store.has_leftovers(5) and not store.has_leftovers(6)


def test_a_message_is_known_while_it_is_accepted_or_preprocessed(disk: FakeDisk, store: QueueStore) -> None:
    disk.create(b"todo/5", [RECORDS])
    disk.create(b"info/6/6", [b"Fs\0"])
    assert [store.is_accepted(number) for number in (5, 6, 7)] == [True, False, False]
    assert [store.is_known(number) for number in (5, 6, 7)] == [True, True, False]


def test_the_undone_are_counted_in_both_channels(disk: FakeDisk, store: QueueStore) -> None:
    assert store.undone(5) is None
    store.write_preprocessed(5, b"s", {}, 100)
    assert store.undone(5) == 0
    store.write_preprocessed(5, b"s", {LOCAL: [b"T1", b"D2", b"T"], REMOTE: [b"c"]}, 100)
    assert store.undone(5) == 4
    store.mark_done(5, LOCAL, 0)
    assert store.undone(5) == 3
    store.channel_done(5, REMOTE)
    assert store.undone(5) == 2


@pytest.mark.parametrize(("digits", "uid"), [(b"9" * 20, int("9" * 20)), (b"9" * 21, 0), (b"", 0), (b"1x", 0)])
def test_a_uid_and_a_pid_have_at_most_twenty_digits(digits: bytes, uid: int, disk: FakeDisk, store: QueueStore) -> None:
    disk.create(split_path(b"mess", 5), [])
    disk.create(b"todo/5", [b"u%b\0p%b\0Fs\0" % (digits, digits)])
    found = store.read_accepted(5)
    assert (found.uid, found.pid) == (uid, uid)


def test_only_the_first_record_of_info_is_the_sender(disk: FakeDisk, store: QueueStore) -> None:
    disk.create(b"info/5/5", [b"Fs@x\0Fother\0"])
    assert store.birth_and_sender(5)[1] == b"s@x"
