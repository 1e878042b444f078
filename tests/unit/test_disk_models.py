"""testing/disk_models.py: what a power cut takes from a disk that promises nothing, and from one in order."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notqmail.testing.disk_models import OrderedModel, StrictModel
from notqmail.testing.fake_disk import FakeDisk

Model = type[StrictModel | OrderedModel]

PATHS = st.sampled_from([b"a/1", b"a/2", b"b/1"])
DATA = st.sampled_from([b"xy", b"z"])
OPERATIONS = st.one_of(
    st.tuples(st.just("create"), PATHS, st.tuples(DATA)),
    st.tuples(st.just("append"), PATHS, DATA),
    st.tuples(st.just("truncate"), PATHS, st.integers(0, 2)),
    st.tuples(st.just("write_at"), PATHS, st.integers(0, 2), DATA),
    st.tuples(st.just("link"), PATHS, PATHS),
    st.tuples(st.just("unlink"), PATHS),
    st.tuples(st.just("rename"), PATHS, PATHS),
    st.tuples(st.just("sync"), st.lists(st.sampled_from([b"a", b"b", b"a/1"]), max_size=2)),
)


def done(model: Model, operations: list[tuple[object, ...]]) -> FakeDisk:
    """A disk on which this has been tried."""
    disk = FakeDisk(model=model)
    for verb, *arguments in operations:
        try:
            getattr(disk, str(verb))(*arguments)
        except OSError:
            pass  # both disks refuse the same: tests/unit/test_disk_conformance.py
    return disk


def found_after_a_cut(disk: FakeDisk) -> set[frozenset[tuple[bytes, int, bytes]]]:
    """Every picture (name, number, content) that the next start may see."""
    return {
        frozenset((path, survivor.state(path).inode, content) for path, content in survivor.everything().items())  # type: ignore[union-attr]
        for survivor in disk.survivors(random.Random(1), limit=1_000_000)
    }


@given(st.lists(OPERATIONS, max_size=6))
@settings(max_examples=150, deadline=None)
def test_what_an_ordered_disk_can_show_a_strict_one_can_show_too(operations: list[tuple[object, ...]]) -> None:
    ordered, strict = done(OrderedModel, operations), done(StrictModel, operations)
    assert ordered.everything() == strict.everything()
    assert found_after_a_cut(ordered) <= found_after_a_cut(strict)


@given(st.lists(OPERATIONS, max_size=6))
@settings(max_examples=100, deadline=None)
def test_a_cut_shows_at_least_what_is_there_and_after_a_full_sync_nothing_else(
    operations: list[tuple[object, ...]],
) -> None:
    for model in (StrictModel, OrderedModel):
        disk = done(model, operations)
        now = {frozenset((path, disk.state(path).inode, text) for path, text in disk.everything().items())}  # type: ignore[union-attr]
        assert now <= found_after_a_cut(disk)
        disk.sync([*disk.everything(), *disk.changed_directories()])
        assert found_after_a_cut(disk) == now


def names(disk: FakeDisk) -> set[tuple[bytes, ...]]:
    return {tuple(survivor.everything()) for survivor in disk.survivors(random.Random(1), limit=10_000)}


TWO_NAMES: list[tuple[object, ...]] = [("create", b"a/1", [b""]), ("create", b"b/1", [b""])]

SHOWN: list[tuple[str, list[tuple[object, ...]], set[tuple[bytes, ...]], set[tuple[bytes, ...]]]] = [
    # what happens, then the names that a strict and an ordered disk may show
    ("two names in two directories", TWO_NAMES, {(), (b"a/1",), (b"b/1",), (b"a/1", b"b/1")},
     {(), (b"a/1",), (b"a/1", b"b/1")}),
    ("and the second one's directory is synced", [*TWO_NAMES, ("sync", [b"b"])], {(b"b/1",), (b"a/1", b"b/1")},
     {(b"a/1", b"b/1")}),
    ("and only the first file is", [*TWO_NAMES, ("sync", [b"a/1"])], {(), (b"a/1",), (b"b/1",), (b"a/1", b"b/1")},
     {(b"a/1",), (b"a/1", b"b/1")}),
    ("a rename", [("create", b"a/1", [b""]), ("sync", [b"a"]), ("rename", b"a/1", b"b/1")],
     {(), (b"a/1",), (b"b/1",), (b"a/1", b"b/1")}, {(b"a/1",), (b"b/1",)}),
    ("a sync of nothing", [*TWO_NAMES, ("sync", [])], {(), (b"a/1",), (b"b/1",), (b"a/1", b"b/1")},
     {(), (b"a/1",), (b"a/1", b"b/1")}),
]  # fmt: skip


@pytest.mark.parametrize(("operations", "strict", "ordered"), [row[1:] for row in SHOWN], ids=[row[0] for row in SHOWN])
def test_the_names_that_each_model_may_show(
    operations: list[tuple[object, ...]], strict: set[tuple[bytes, ...]], ordered: set[tuple[bytes, ...]]
) -> None:
    assert names(done(StrictModel, operations)) == strict
    assert names(done(OrderedModel, operations)) == ordered


@pytest.mark.parametrize("model", [StrictModel, OrderedModel])
def test_a_file_may_hold_any_of_its_versions_or_the_newest_torn(model: Model) -> None:
    disk = done(model, [("create", b"a/1", [b"one."]), ("sync", [b"a/1", b"a"])])
    disk.append(b"a/1", b"two.")
    disk.append(b"a/1", b"three.")
    contents = {survivor.read(b"a/1") for survivor in disk.survivors(random.Random(1))}
    assert contents == {b"one.", b"one.two.", b"one.two.thr", b"one.two.\0\0\0\0\0\0", b"one.two.three."}


def test_in_order_a_name_may_be_there_before_what_is_in_the_file_but_not_the_other_way_round() -> None:
    disk = done(OrderedModel, [("create", b"a/1", [b"text"])])
    assert {tuple(survivor.everything().items()) for survivor in disk.survivors(random.Random(1))} == {
        (), ((b"a/1", b""),), ((b"a/1", b"te"),), ((b"a/1", b"text"),),
    }  # fmt: skip


def test_marks_of_two_recipients_are_lost_one_by_one() -> None:
    disk = done(StrictModel, [("create", b"a/1", [b"Tx\0Ty\0"]), ("sync", [b"a/1", b"a"])])
    disk.write_at(b"a/1", 0, b"D")
    disk.write_at(b"a/1", 3, b"D")
    contents = {survivor.read(b"a/1") for survivor in disk.survivors(random.Random(1))}
    assert contents == {b"Tx\0Ty\0", b"Dx\0Ty\0", b"Dx\0Dy\0"}


@pytest.mark.parametrize("model", [StrictModel, OrderedModel])
def test_the_next_cut_is_of_the_same_kind(model: Model) -> None:
    disk = done(model, TWO_NAMES)
    for survivor in disk.survivors(random.Random(1)):
        assert type(survivor.model) is model
        survivor.discard(b"a/1")
        survivor.create(b"a/3", [b"x"])
        survivor.create(b"b/3", [b"x"])
        survivor.sync([b"b"])
        assert any(b"a/3" not in again.everything() for again in survivor.survivors(random.Random(1))) is (
            model is StrictModel
        )


@given(st.lists(OPERATIONS, max_size=5), st.lists(OPERATIONS, max_size=3))
@settings(max_examples=100, deadline=None)
def test_whoever_finds_a_name_made_after_a_barrier_finds_what_was_before_it(
    operations: list[tuple[object, ...]], later: list[tuple[object, ...]]
) -> None:
    for model in (StrictModel, OrderedModel):
        disk = done(model, operations)
        before = disk.everything()
        disk.barrier(list(before), disk.changed_directories(), before=b"z")
        disk.create(b"z/1", [b"x"])
        found = [one.everything() for one in disk.survivors(random.Random(1), limit=100_000)]
        assert any(b"z/1" in one for one in found)
        for one in found:
            text = one.pop(b"z/1", None)
            assert text is None or one == before
        disk.sync([b"z"])
        assert {frozenset(one.everything().keys()) for one in disk.survivors(random.Random(1))} == {
            frozenset([*before, b"z/1"])
        }
        for verb, *arguments in later:  # what comes after may change what is found, but brings back nothing older
            try:
                getattr(disk, str(verb))(*arguments)
            except OSError:
                pass  # as in `done`
        untouched = [
            path for path in before
            if disk.state(path) is not None and disk.read(path) == before[path]
            and not any(path in step for step in later)
        ]  # fmt: skip
        for survivor in disk.survivors(random.Random(1), limit=1_000):
            assert all(survivor.everything().get(path) == before[path] for path in untouched)


def test_on_an_ordered_disk_a_barrier_alone_makes_nothing_durable_and_leaves_what_is_written_later_open() -> None:
    disk = done(OrderedModel, [("create", b"a/1", [b"one."])])
    disk.barrier([b"a/1"], [b"a"], before=b"a")
    assert {tuple(one.everything().items()) for one in disk.survivors(random.Random(1))} >= {(), ((b"a/1", b""),)}
    disk.append(b"a/1", b"two.")
    disk.create(b"b/1", [b""])
    with_name = [one.read(b"a/1") for one in disk.survivors(random.Random(1)) if b"b/1" in one.everything()]
    assert set(with_name) == {b"one.", b"one.tw", b"one.\0\0\0\0", b"one.two."}, "what was there at the barrier stays"
    disk.sync([b"b"])
    assert {one.read(b"a/1") for one in disk.survivors(random.Random(1))} == set(with_name)
