"""A job's way through the recipients of a channel file."""

import pytest

from notqmail.send.jobs import Job


def job_of(records: bytes) -> Job:
    return Job(1, None, b"s", 0, records)  # type: ignore[arg-type]


def walk(records: bytes, window: int = 10_000) -> tuple[list[tuple[int, bytes]], bool]:
    job, found = job_of(records), []
    while not job.is_at_end:
        found += job.next_window(window)
    assert job.waiting == job.undone == len(found)
    return found, job.is_broken


@pytest.mark.parametrize("window", [1, 2, 10_000])
@pytest.mark.parametrize(
    ("records", "found"),
    [
        (b"", []), (b"Ta@x\0", [(0, b"a@x")]), (b"Ta\0Tbb\0Tc\0", [(0, b"a"), (3, b"bb"), (7, b"c")]),
        (b"Da\0Tb\0Dc\0Dd\0Te\0Df\0", [(3, b"b"), (12, b"e")]),  # D: done
        (b"Da\0", []), (b"T\0", [(0, b"")]),  # an empty address
        (b"Ta\0Tcut", [(0, b"a")]), (b"Tcut", []),  # never ended, so no record
        (b"TT\0TD\0", [(0, b"T"), (3, b"D")]),
    ],
)  # fmt: skip
def test_the_recipients_still_to_do_come_in_order_a_window_at_a_time(
    records: bytes, found: list[tuple[int, bytes]], window: int
) -> None:
    assert walk(records, window) == (found, False)


@pytest.mark.parametrize(
    ("records", "before"),
    [(b"Xa\0", 0), (b"\0", 0), (b"Ta\0\0", 1), (b"Da\0ta\0", 0), (b"Ta\0\xff\0Tb\0", 1)],
)
def test_a_record_of_another_kind_ends_the_pass_and_the_message_waits(records: bytes, before: int) -> None:
    found, broken = walk(records)
    assert (len(found), broken) == (before, True)
    job = job_of(records)
    job.next_window(10)
    job.waiting = job.undone = 0
    assert job.is_idle and not job.finished


def test_a_job_is_finished_when_all_were_seen_and_nobody_is_left() -> None:
    job = job_of(b"Ta\0Db\0")
    assert not job.is_idle and not job.finished, "it has not been looked at"
    assert job.next_window(10) == [(0, b"a")]
    assert not job.is_idle and not job.finished
    job.waiting, job.open = 0, 1
    assert not job.is_idle
    job.open = 0
    assert job.is_idle and not job.finished, "tried, and to be tried again"
    job.undone = 0
    assert job.finished
