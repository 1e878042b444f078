"""What the disks are made of that a power cut may leave: flushed writes always, others perhaps, and sectors whole."""

import os
import random
from collections.abc import Iterator

import pytest
from power_cuts import Record
from power_recorder import DONE, FLUSH, MARK, WRITE, Event, new_image

_SECTOR = 512
_BEGIN, _END, _FLUSHED = (MARK, 0, b"begin"), (MARK, 0, b"end"), (FLUSH, 0, b"")


@pytest.fixture
def empty() -> Iterator[int]:
    image = new_image(64 * _SECTOR)
    yield image
    os.close(image)


def write(sector: int, letter: bytes, sectors: int = 1) -> Event:
    return (WRITE, sector * _SECTOR, letter * (_SECTOR * sectors))


def found(record: Record, cuts: int = 400) -> list[tuple[int, bytes, list[bytes]]]:
    """For each cut: where it was, the first byte of each sector (asserting that sectors are whole), the marks."""
    seen = []
    for cut in record.cuts(cuts, random.Random(7)):
        disk = os.pread(cut.image, 64 * _SECTOR, 0)
        sectors = [disk[at : at + _SECTOR] for at in range(0, len(disk), _SECTOR)]
        assert all(sector == sector[:1] * _SECTOR for sector in sectors), "half a sector was written"
        seen.append((cut.at, b"".join(sector[:1] for sector in sectors), cut.marks))
    return seen


def test_a_write_that_a_flush_has_covered_is_in_every_later_disk(empty: int) -> None:
    events: list[Event] = [_BEGIN, write(0, b"a"), (DONE, 1, b""), _FLUSHED, write(1, b"b"), (DONE, 4, b""), _END]
    seen = found(Record(empty, events))
    assert {disk[:1] for at, disk, _ in seen if at > 3} == {b"a"}
    assert {disk[:1] for at, disk, _ in seen if at <= 3} == {b"a", b"\0"}
    assert {disk[1:2] for at, disk, _ in seen if at > 3} == {b"b", b"\0"}


def test_a_flush_does_not_cover_a_write_that_was_not_answered_when_it_came(empty: int) -> None:
    events: list[Event] = [_BEGIN, write(0, b"a"), _FLUSHED, (DONE, 1, b""), (MARK, 0, b"said"), _END]
    record = Record(empty, events)
    assert {disk[:1] for at, disk, marks in found(record) if b"said" in marks} == {b"a", b"\0"}


def test_a_disk_that_lies_about_its_flushes_may_lose_everything(empty: int) -> None:
    events: list[Event] = [_BEGIN, write(0, b"a"), (DONE, 1, b""), _FLUSHED, (MARK, 0, b"said"), _END]
    record = Record(empty, events, lying=True)
    assert {disk[:1] for _, disk, marks in found(record) if b"said" in marks} == {b"a", b"\0"}


def test_large_writes_are_torn_at_sectors_in_many_ways(empty: int) -> None:
    events: list[Event] = [_BEGIN, write(0, b"a", 4), (DONE, 1, b""), _END]
    seen = {disk[:4] for _, disk, _ in found(Record(empty, events))}
    assert {b"aaaa", b"\0\0\0\0"} < seen and len(seen) > 5


def test_of_many_writes_each_may_survive_without_the_others(empty: int) -> None:
    writes = [write(number, b"x") for number in range(8)]
    seen = {disk[:8].count(b"x") for _, disk, _ in found(Record(empty, [_BEGIN, *writes, _END]))}
    assert seen == set(range(9))


def test_a_mark_is_known_only_behind_its_place(empty: int) -> None:
    events: list[Event] = [_BEGIN, write(0, b"a"), (MARK, 0, b"one"), write(1, b"a"), (MARK, 0, b"two"), _END]
    for at, _, marks in found(Record(empty, events)):
        assert (b"one" in marks, b"two" in marks) == (at > 2, at > 4)
