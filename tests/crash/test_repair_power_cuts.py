"""The repair of a queue with the power cut at every effect: nothing is lost or mixed up, and a second run finishes."""

import random
from collections.abc import Callable

import pytest
from repair_trees import ME, FakeTree, empty_tree, make_durable, messages, staged

from notqmail.admin.queue_repair import LOST, Repair
from notqmail.admin.queue_target import KINDS, Target
from notqmail.queue.layout import CLEANUP_AGE_S, SPLIT
from notqmail.testing.disk_models import OrderedModel, StrictModel
from notqmail.testing.fake_disk import FakeDisk, PowerCut

OURS = Target()
BIG = Target(31, big_todo=True)
NOW_S = 1_000_000


class House:
    """A queue laid out by hand. Every file's content names its message: no two may ever be seen together."""

    def __init__(self, target: Target, model: type[StrictModel] | type[OrderedModel]) -> None:
        self.disk = FakeDisk(NOW_S, model)
        for number in range(BIG.split):
            self.disk.create(b"elsewhere/%d" % number, ())  # real inode numbers are larger than any split
        self.tree = empty_tree(target, self.disk)
        self.target = target

    def message(self, tag: bytes, kinds: bytes, called: int | None = None, target: Target | None = None) -> int:
        """A message with these kinds of files beside mess, under its own number or another name; returns its number."""
        number = self.disk.create(b"pid/new", [b"message " + tag])
        name = number if called is None else called
        target = self.target if target is None else target
        self.disk.link(b"pid/new", target.path(b"mess", name))
        self.disk.unlink(b"pid/new")
        for kind in kinds.split():
            if kind == b"intd":
                self.disk.link(target.path(b"todo", name), target.path(kind, name))
                continue
            content = {b"todo": b"u1\0p2\0F%b\0Ta\0", b"info": b"F%b\0", b"bounce": b"%b:\nno\n"}.get(kind, b"T%b\0")
            self.disk.create(target.path(kind, name), [content % tag])
        return number


def renumbered_in_a_ring(house: House) -> dict[bytes, set[bytes]]:
    first = house.disk.create(b"pid/probe", ())
    house.disk.unlink(b"pid/probe")
    # Each takes some of the numbers that come next, so names and numbers are at cross purposes.
    numbers = [house.message(b"a", b"info local", first + 3), house.message(b"b", b"todo intd", first)]
    numbers.append(house.message(b"c", b"info remote bounce", numbers[0] + 1))
    house.message(b"d", b"todo", numbers[2])
    house.message(b"right", b"info local")
    return {
        b"a": {b"info", b"local"}, b"b": {b"todo", b"intd"}, b"c": {b"info", b"remote", b"bounce"}, b"d": {b"todo"},
        b"right": {b"info", b"local"},
    }  # fmt: skip


def of_another_layout(house: House) -> dict[bytes, set[bytes]]:
    other = OURS if house.target == BIG else BIG
    for path, _, _ in other.directories(ledger=False):
        house.tree.directories.add(path)
    house.message(b"x", b"todo intd", target=other)
    house.message(b"y", b"info local remote", target=other)
    house.message(b"z", b"info local")
    return {b"x": {b"todo", b"intd"}, b"y": {b"info", b"local", b"remote"}, b"z": {b"info", b"local"}}


def damaged(house: House) -> dict[bytes, set[bytes]]:
    disk = house.disk
    house.message(b"half", b"todo info local bounce")
    # An envelope without a message, under the number that the next message will get.
    number = house.message(b"copied", b"info local", 5_000)
    disk.create(house.target.path(b"info", number), [b"Fstray\0"])
    disk.create(house.target.path(b"remote", 77), [b"Tnobody\0"])
    twice = house.message(b"twice", b"info local")
    disk.link(house.target.path(b"info", twice), b"info/%d/%d" % ((twice + 1) % SPLIT, twice))
    disk.create(b"local/%d/%d" % ((twice + 2) % SPLIT, twice), [b"Tother\0"])
    house.message(b"done", b"info")
    return {b"half": {b"todo"}, b"copied": {b"info", b"local"}, b"twice": {b"info", b"local"}, b"done": {b"info"}}


def with_a_ledger(house: House) -> dict[bytes, set[bytes]]:
    for directory in (b"ledger/accepted", b"ledger/ended"):
        house.disk.create(directory + b"/current", [b"\n\n+ 9 9 1\n. 00000000\n"])
    house.tree.directories |= {b"ledger", b"ledger/accepted", b"ledger/ended"}
    house.message(b"l", b"info local", 4_000)
    return {b"l": {b"info", b"local"}}


def left_for_long(house: House) -> dict[bytes, set[bytes]]:
    house.message(b"litter", b"local")
    house.disk.create(b"pid/1.2.3", [b"half a message"])
    house.disk.now_s = house.tree.disk.now_s = NOW_S
    house.old = True  # type: ignore[attr-defined]
    return {}


def renumbered_long_after(house: House) -> dict[bytes, set[bytes]]:
    house.old = True  # type: ignore[attr-defined]
    return renumbered_in_a_ring(house)


CASES: dict[str, tuple[Callable[[House], dict[bytes, set[bytes]]], Target]] = {
    "a copied queue": (renumbered_in_a_ring, OURS),
    "a copied queue that nobody has touched for long": (renumbered_long_after, OURS),
    "a big-todo queue split by 31 comes to us": (of_another_layout, OURS),
    "ours goes to a big-todo program split by 31": (of_another_layout, BIG),
    "a damaged queue": (damaged, OURS),
    "a copied queue with a ledger": (with_a_ledger, OURS),
    "what writers left": (left_for_long, OURS),
}


def repair(tree: FakeTree, target: Target, now_s: int) -> list[object]:
    return list(Repair(tree, target, ME, now_s).run())  # type: ignore[arg-type]


def check_nothing_is_lost(disk: FakeDisk, before: dict[bytes, bytes]) -> None:
    """Every content that there was is there, under some name."""
    assert set(before.values()) - set(disk.everything().values()) == set()


def check_nothing_is_mixed(disk: FakeDisk, target: Target, name: str, wanted: dict[bytes, set[bytes]]) -> None:
    """A program that looks now sees no message with another one's envelope, and takes none for litter."""
    for layout in (OURS, BIG):
        for text, files in messages(disk, layout).items():
            tag = text.removeprefix(b"message ")
            for kind in (b"todo", b"info"):
                if kind in files and b"stray" not in files[kind]:
                    assert b"F" + tag + b"\0" in files[kind], (text, files)
                if "split by 31" in name:
                    assert kind in files or kind not in wanted.get(tag, ()), "a cleaner would take it for litter"
    if name.startswith("a copied queue"):
        for path in disk.everything():
            if path.startswith((b"todo/", b"info/")) and not path.endswith(b".moving"):
                number = int(path.rpartition(b"/")[2])
                assert disk.state(target.path(b"mess", number)) is not None, "the number could be given away"


def check_done(disk: FakeDisk, target: Target, wanted: dict[bytes, set[bytes]]) -> None:
    found = messages(disk, target)
    assert {text.removeprefix(b"message "): {*files} - {b"mess"} for text, files in found.items()} == wanted
    for text, files in found.items():
        tag = text.removeprefix(b"message ")
        assert all(tag in content for content in files.values()), files
    assert staged(disk) == []
    places = {path for path in disk.everything() if path.split(b"/")[0] in KINDS}
    assert len(places) == sum(len(files) for files in found.values()), "a file is left somewhere"


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("model", [StrictModel, OrderedModel])
@pytest.mark.parametrize("name", CASES)
def test_whatever_the_cut_a_second_run_finishes(
    name: str,
    model: type[StrictModel] | type[OrderedModel],
    survivors_limit: int,
    record_property: Callable[[str, object], None],
) -> None:
    build, target = CASES[name]

    def begun() -> tuple[House, dict[bytes, set[bytes]], int]:
        house = House(target, model)
        wanted = build(house)
        make_durable(house.disk)
        return house, wanted, NOW_S + CLEANUP_AGE_S if hasattr(house, "old") else NOW_S

    house, wanted, now_s = begun()
    before = house.disk.everything()
    assert repair(house.tree, target, now_s) == []
    check_done(house.disk, target, wanted)
    check_nothing_is_lost(house.disk, before)
    effects = house.disk.effects
    assert repair(house.tree, target, now_s) == []
    assert effects > 3
    chance = random.Random(name)
    restarts = 0
    for cut in range(effects):
        house, wanted, now_s = begun()
        house.disk.cut_at = cut
        with pytest.raises(PowerCut):
            repair(house.tree, target, now_s)
        for survivor in [*house.disk.survivors(chance, survivors_limit), house.disk.killed()]:
            check_nothing_is_lost(survivor, before)
            check_nothing_is_mixed(survivor, target, name, wanted)
            tree = FakeTree(survivor, set(house.tree.directories))
            survivor.cut_at = chance.randrange(2 * effects)  # again, while it finishes
            try:
                repair(tree, target, now_s)
            except PowerCut:
                survivor = next(survivor.survivors(chance, 1))
                check_nothing_is_lost(survivor, before)
                check_nothing_is_mixed(survivor, target, name, wanted)
                tree = FakeTree(survivor, tree.directories)
            survivor.cut_at = None
            assert repair(tree, target, now_s) == []
            check_done(survivor, target, wanted)
            check_nothing_is_lost(survivor, before)
            restarts += 1
    record_property(f"crash: points in time, repair, {model.__name__}", effects)
    record_property(f"crash: restarts, repair, {model.__name__}", restarts)


def test_what_has_no_place_is_in_lost_and_found_under_its_path() -> None:
    house = House(OURS, StrictModel)
    damaged(house)
    found = Repair(house.tree, OURS, ME, NOW_S)  # type: ignore[arg-type]
    found.run()
    assert {place for place, _ in found.lost} >= {b"remote/8/77"}
    assert house.disk.read(LOST + b"/remote-8-77") == b"Tnobody\0"
