"""qmail-newu and qmail-newmrh with the power cut at every effect: the old table or the new one, whole."""

import random
from collections.abc import Callable

import pytest

from notqmail.programs import qmail_newmrh, qmail_newu
from notqmail.testing.disk_models import OrderedModel, StrictModel
from notqmail.testing.fake_disk import FakeDisk, PowerCut

ASSIGN = b"=joe:joe:503:78:/home/joe:::\n.\n"
OLD = b"the table as it was"
CASES = [  # the program, its text, the table, and the name under which that is written
    (qmail_newu.rebuild, b"users/assign", ASSIGN, b"users/cdb", b"users/cdb.tmp"),
    (qmail_newmrh.rebuild, b"control/morercpthosts", b"example.org\n.Example.Net\n", b"control/morercpthosts.cdb",
     b"control/morercpthosts.tmp"),
]  # fmt: skip


@pytest.mark.parametrize("model", [StrictModel, OrderedModel])
@pytest.mark.parametrize("earlier", ["a first table", "another table", "another table, and a try that was stopped"])
@pytest.mark.parametrize(("rebuild", "source", "text", "table", "new_name"), CASES, ids=["newu", "newmrh"])
def test_readers_find_the_old_table_or_the_new_one(
    rebuild: Callable[[FakeDisk], None], source: bytes, text: bytes, table: bytes, new_name: bytes,
    earlier: str, model: type[StrictModel] | type[OrderedModel], survivors_limit: int,
    record_property: Callable[[str, object], None],
) -> None:  # fmt: skip
    def begun() -> FakeDisk:
        disk = FakeDisk(model=model)
        disk.create(source, [text])
        if earlier != "a first table":
            disk.create(table, [OLD])
        if "stopped" in earlier:
            disk.create(new_name, [b"half"])
        disk.sync([*disk.changed_directories(), *disk.everything()])
        disk.effects = 0
        return disk

    disk = begun()
    rebuild(disk)
    new, steps = disk.read(table), disk.effects
    assert set(disk.everything()) == {source, table}
    legal = {new, None if earlier == "a first table" else OLD}
    chance, restarts = random.Random(1), 0
    for cut in range(steps + 1):
        disk = begun()
        disk.cut_at = cut
        is_done = cut == steps
        try:
            rebuild(disk)
        except PowerCut:
            assert not is_done
        for survivor in [*disk.survivors(chance, survivors_limit), disk.killed()]:
            found = survivor.everything().get(table)
            assert found in ({new} if is_done else legal), f"cut before effect {cut}"
            rebuild(survivor)
            assert survivor.everything() == {source: text, table: new}, "the same command again"
            restarts += 1
    assert restarts > 10
    record_property("crash: restarts, qmail-newu and qmail-newmrh", restarts)
