"""deliver.tcpto: the memory of connection time-outs, in C qmail's own file format."""

import os

import pytest

from notqmail.deliver.tcpto import TABLE_BYTES, TimeoutTable, after_answer, after_timeout, find, is_barred, pack_address

A, B = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])


def record(packed, count, last_s):
    return packed + bytes([count, 0, 0, 0]) + last_s.to_bytes(4, "little") + bytes(4)


def table(*records):
    return b"".join(records).ljust(TABLE_BYTES, b"\0")


def test_an_address_is_four_bytes_and_ipv6_has_none():
    assert pack_address(b"192.0.2.1") == A
    assert pack_address(b"2001:db8::1") is None
    assert pack_address(b"::ffff:192.0.2.1") is None


def test_a_record_is_found_wherever_it_is():
    assert find(table(record(A, 1, 5), record(B, 1, 5)), B) == 1
    assert find(table(record(A, 1, 5)), B) is None
    assert find(b"", A) is None
    assert find(record(A, 1, 5)[:15], A) is None


@pytest.mark.parametrize(
    ("count", "age_s", "jitter", "barred"),
    [
        (1, 0, 0, False),
        (2, 3839, 0, True),
        (2, 3840, 0, False),
        (2, 3840, 1, True),
        (10, 5823, 31, True),
        (10, 5824, 31, False),
        (10, 5824, 63, False),  # only the last five bits of a pid count
        (0, 0, 0, False),
    ],
)
def test_two_timeouts_bar_an_address_for_about_an_hour(count, age_s, jitter, barred):
    assert is_barred(record(A, count, 1_000_000), 0, now_s=1_000_000 + age_s, jitter=jitter) == barred


def test_a_first_timeout_takes_the_first_free_record():
    assert after_timeout(table(record(A, 1, 5)), B, 1000) == (1, record(B, 1, 1000))
    assert after_timeout(table(record(A, 0, 5)), B, 1000) == (0, record(B, 1, 1000))


@pytest.mark.parametrize(("count", "age_s", "new"), [(1, 119, None), (1, 120, 2), (0, 5, 1), (10, 500, 10)])
def test_a_timeout_counts_once_in_two_minutes_and_up_to_ten(count, age_s, new):
    now_s = 5000 + age_s
    expected = None if new is None else (0, record(A, new, now_s))
    assert after_timeout(table(record(A, count, 5000)), A, now_s) == expected


def test_a_full_table_gives_up_the_record_that_is_oldest_by_time_and_count():
    records = [record(bytes([10, 0, 0, number]), 2, 100_000) for number in range(64)]
    records[5] = record(bytes([10, 0, 0, 5]), 1, 100_500)  # younger, but counted once less: 1024 seconds
    number, new = after_timeout(b"".join(records), A, 200_000)
    assert (number, new) == (5, record(A, 1, 200_000))


def test_an_answer_clears_the_count_and_keeps_the_time():
    assert after_answer(table(record(A, 3, 77)), A) == (0, record(A, 0, 77))
    assert after_answer(table(record(A, 3, 77)), B) is None


def test_an_empty_file_has_no_record_to_give():
    assert after_timeout(b"", A, 1000) is None


@pytest.fixture
def home(tmp_path):
    (tmp_path / "queue/lock").mkdir(parents=True)
    (tmp_path / "queue/lock/tcpto").write_bytes(bytes(TABLE_BYTES))
    return tmp_path


def open_table(home, now_s):
    return TimeoutTable(os.fsencode(home), now_s=lambda: now_s, jitter=0)


def test_the_file_remembers_and_forgets(home):
    assert open_table(home, 1000).lookup(b"192.0.2.1") == (False, False)
    open_table(home, 1000).note_timeout(b"192.0.2.1")
    assert open_table(home, 1000).lookup(b"192.0.2.1") == (False, True)
    open_table(home, 1120).note_timeout(b"192.0.2.1")
    assert open_table(home, 1200).lookup(b"192.0.2.1") == (True, True)
    assert open_table(home, 9000).lookup(b"192.0.2.1") == (False, True)
    open_table(home, 1200).note_answer(b"192.0.2.1")
    assert open_table(home, 1200).lookup(b"192.0.2.1") == (False, True)
    open_table(home, 1200).clear()
    content = (home / "queue/lock/tcpto").read_bytes()
    assert content == bytes(TABLE_BYTES)


def test_an_answer_of_an_unknown_address_writes_nothing(home):
    before = (home / "queue/lock/tcpto").stat().st_mtime_ns
    open_table(home, 1000).note_answer(b"192.0.2.1")
    assert (home / "queue/lock/tcpto").stat().st_mtime_ns == before


def test_ipv6_is_never_known(home):
    open_table(home, 1000).note_timeout(b"2001:db8::1")
    assert open_table(home, 1000).lookup(b"2001:db8::1") == (False, False)
    assert (home / "queue/lock/tcpto").read_bytes() == bytes(TABLE_BYTES)


def test_without_a_file_the_feature_is_off(home):
    (home / "queue/lock/tcpto").unlink()
    open_table(home, 1000).note_timeout(b"192.0.2.1")
    assert open_table(home, 1000).lookup(b"192.0.2.1") == (False, False)
    assert not (home / "queue/lock/tcpto").exists()
