"""docs/reference: every program of notqmail 1.09 is in the table, and every difference can be reached from it."""

import re
from pathlib import Path

from notqmail.admin.launchers import program_names

REPOSITORY = Path(__file__).parents[2]
REFERENCE = REPOSITORY / "docs" / "reference"
COMPATIBILITY = (REFERENCE / "compatibility.md").read_text()
# What its installer puts into bin/.
CLASSIC = frozenset(
    re.findall(
        r"\S+",
        """
        bouncesaying condredirect datemail except forward maildir2mbox maildirmake mailsubj predate preline qbiff
        qmail-clean qmail-getpw qmail-inject qmail-local qmail-lspawn qmail-newmrh qmail-newu qmail-pop3d qmail-popup
        qmail-pw2u qmail-qmqpc qmail-qmqpd qmail-qmtpd qmail-qread qmail-qstat qmail-queue qmail-remote qmail-rspawn
        qmail-send qmail-showctl qmail-smtpd qmail-start qmail-tcpok qmail-tcpto qreceipt sendmail splogger tcp-env
        """,
    )
)


def part(heading: str) -> str:
    """The text under a heading of the page."""
    found = re.search(rf"(?ms)^## {re.escape(heading)}$(.*?)(?=^## |\Z)", COMPATIBILITY)
    assert found is not None, heading
    return found[1]


def programs_of(heading: str) -> set[str]:
    first_columns = re.findall(r"(?m)^\| ([^|]+) \|", part(heading))
    return {word for column in first_columns for word in re.findall(r"[a-z][a-z0-9-]+", column)}


def anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


def test_every_program_of_c_is_there_and_in_the_table() -> None:
    assert len(CLASSIC) == 39
    assert set(program_names()) >= CLASSIC
    assert programs_of("Programs of notqmail 1.09") >= CLASSIC
    assert programs_of("Programs beside those") >= set(program_names()) - CLASSIC


def test_the_table_links_to_every_section_of_differences_and_to_no_other() -> None:
    sections = re.findall(r"(?m)^## (.*)$", (REFERENCE / "differences.md").read_text())
    linked = set(re.findall(r"\]\(differences\.md#([^)]*)\)", COMPATIBILITY))
    assert linked == {anchor(section) for section in sections}


def test_the_tests_that_the_tables_name_exist() -> None:
    named = re.findall(
        r"`(?:tests/)?((?:unit|process|property|interop|crash|simulation|docs)/[\w*.]+\.py)`", COMPATIBILITY
    )
    assert len(named) > 60
    assert [name for name in named if not list((REPOSITORY / "tests").glob(name))] == []


def test_what_is_missing_is_said_in_all_three_places() -> None:
    """An operator reads one of them."""
    changes = (REPOSITORY / "CHANGELOG.md").read_text()
    places = [
        part("Not there yet"),
        changes.partition("**What is not there yet**")[2],
        (REPOSITORY / "README.md").read_text(),
    ]
    for word in ("TLS", "AUTH"):
        assert all(re.search(rf"\b{word}\b", place) for place in places), word
