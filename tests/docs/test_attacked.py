"""docs/explanation/attacked.md: the tables of fuzz targets and of disk effects are those of the code."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
PACKAGE = REPOSITORY / "src" / "notqmail"
PAGE = (REPOSITORY / "docs" / "explanation" / "attacked.md").read_text()
READERS, WRITERS = PAGE.split("## Who writes")
_CHANGE = re.compile(
    r"\b(?:_?disk|_?tree|os)\.(?:create|append|append_whole|open_shared|link|unlink|rename|replace|discard|write_at"
    r"|truncate|ftruncate|pwrite|mkdir|rmdir|mkfifo|make_fifo|make_directory|link_or_copy)\("
)


def test_each_fuzz_target_is_in_the_table_and_none_that_is_not_there() -> None:
    there = {path.name for path in (REPOSITORY / "tests" / "fuzz" / "corpus").iterdir()}
    named = set(re.findall(r"`([a-z0-9-]+)`", READERS))
    assert named == there


def test_each_file_that_changes_the_disk_is_in_a_table() -> None:
    named = set(re.findall(r"`((?:\w+/)+\w+\.py)`", WRITERS))
    changing = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.glob("**/*.py")
        if "testing" not in path.parts and _CHANGE.search(path.read_text())
    }
    assert changing - named == set(), "say which crash test cuts these, or why none needs to"
    assert {name for name in named if not name.startswith("unit/") and not (PACKAGE / name).exists()} == set()


def test_each_crash_test_that_is_named_is_there() -> None:
    for name in re.findall(r"`(test_\w+\.py)`", WRITERS):
        assert (REPOSITORY / "tests" / "crash" / name).exists(), name
