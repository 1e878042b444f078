"""Maps lead everywhere: docs/journey.md past every module of the program, tests/README.md past all that tests share."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
JOURNEY = (REPOSITORY / "docs" / "journey.md").read_text()
SOURCE = REPOSITORY / "src" / "notqmail"
# testing/ is for tests; programs/ is explained as a whole: each is named as the program in HOME/bin.
NOT_ONE_BY_ONE = ("testing", "programs")
MODULES = sorted(
    str(path.relative_to(REPOSITORY))
    for path in SOURCE.rglob("*.py")
    if path.name != "__init__.py" and path.relative_to(SOURCE).parts[0] not in NOT_ONE_BY_ONE
)


@pytest.mark.parametrize("module", MODULES)
def test_the_journey_names_this_module(module: str) -> None:
    assert f"`{module}`" in JOURNEY, "say in a few words what it does for a message, or beside its way"


def test_the_journey_says_where_programs_are() -> None:
    assert "`src/notqmail/programs/`" in JOURNEY


def test_the_map_of_the_tests_names_what_they_share() -> None:
    named = re.findall(r"`(?:tests/)?([\w*./-]+\.py)`", (REPOSITORY / "tests" / "README.md").read_text())
    shared = [path.relative_to(REPOSITORY / "tests") for path in (REPOSITORY / "tests").rglob("*.py")]
    missing = [
        str(path)
        for path in shared
        if not path.name.startswith("test_")
        and path.name != "conftest.py"
        and not any(fnmatch(str(path), name) for name in named)
    ]
    assert missing == []
