"""A job's way through the recipients of a channel file."""

import pytest

from notqmail.send.jobs import BadRecord, Job


def walk(records: bytes) -> list[tuple[int, bytes]]:
    job = Job(1, None, b"s", 0, records, dying=False)  # type: ignore[arg-type]
    return list(iter(job.next_recipient, None))


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
def test_the_recipients_still_to_do_come_in_order(records: bytes, found: list[tuple[int, bytes]]) -> None:
    assert walk(records) == found


@pytest.mark.parametrize("records", [b"Xa\0", b"\0", b"Ta\0\0", b"Da\0ta\0", b"Ta\0\xff\0"])
def test_a_record_of_another_kind_ends_the_pass(records: bytes) -> None:
    with pytest.raises(BadRecord):
        walk(records)


def test_a_job_is_finished_when_all_were_seen_and_nobody_is_left() -> None:
    job = Job(1, None, b"s", 0, b"Ta\0", dying=False)  # type: ignore[arg-type]
    assert not job.finished
    job.exhausted = True
    assert job.finished
    job.undone = 1
    assert not job.finished
