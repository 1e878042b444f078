"""The pages of man/: complete, linked to one another, and formatted without a warning by both formatters."""

import re
import subprocess
from pathlib import Path

import pytest
from man_page import PATHS, pages

from notqmail.admin.launchers import program_names

# Of sections 1 and 8, but no program of ours: a command for people, and what a user's own program is told.
NO_PROGRAMS = {"notqmail", "qmail-command"}
OF_OTHERS = {("biff", "1"), ("inetd", "8"), ("passwd", "5"), ("tcprules", "1"), ("tcpserver", "1")}
# The formats and ideas that notqmail 1.09 has pages for.
FORMATS = {
    "addresses.5", "dot-qmail.5", "envelopes.5", "forgeries.7", "maildir.5", "mbox.5", "qmail-command.8",
    "qmail-control.5", "qmail-header.5", "qmail-limits.7", "qmail-log.5", "qmail-users.5", "qmail.7", "tcp-environ.5",
}  # fmt: skip


def name(path: Path) -> str:
    return path.name


def test_every_program_has_a_man_page_and_every_page_a_program() -> None:
    found = {path.stem for path in PATHS if path.suffix in (".1", ".8")}
    assert found - NO_PROGRAMS == set(program_names())


def test_every_format_and_idea_has_a_page() -> None:
    assert {path.name for path in PATHS} >= FORMATS


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_a_page_has_the_sections_that_every_reader_looks_for(path: Path) -> None:
    page = pages()[path.stem]
    wanted = ["NAME", "DESCRIPTION", "SEE ALSO"]
    if page.number in "18":
        wanted += ["SYNOPSIS", "EXIT CODES"]
    assert [section for section in wanted if not page.section(section)] == []
    heading = re.search(r"(?m)^\.TH (\S+) (\d)", page.text)
    assert heading and (heading[1].replace("\\-", "-"), heading[2]) == (page.name, page.number)


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_every_page_that_a_page_refers_to_exists(path: Path) -> None:
    page = pages()[path.stem]
    named = set(re.findall(r"(?m)^\.BR ([\w\\.-]+) \((\d)\)", page.text))
    mentioned = {(other.replace("\\-", "-"), number) for other, number in named} | set(page.see_also())
    existing = {(other.name, other.number) for other in pages().values()}
    system = {(other, number) for other, number in mentioned if number in "23"}
    assert mentioned - existing - OF_OTHERS - system == set()
    assert (page.name, page.number) not in page.see_also()


def test_the_overview_names_every_page() -> None:
    overview = pages()["qmail"]
    named = set(re.findall(r"(?m)^\.BR ([\w\\.-]+) \((\d)\)", overview.text))
    named = {(other.replace("\\-", "-"), number) for other, number in named}
    assert {(page.name, page.number) for page in pages().values()} - named - {("qmail", "7")} == set()


FORMATTERS = [
    pytest.param(["mandoc", "-Tlint", "-W", "warning"], id="mandoc", marks=pytest.mark.debian("mandoc")),
    pytest.param(["groff", "-man", "-t", "-Tutf8", "-ww"], id="groff", marks=pytest.mark.debian("groff")),
]


@pytest.mark.parametrize("formatter", FORMATTERS)
@pytest.mark.parametrize("path", PATHS, ids=name)
def test_a_page_is_formatted_without_a_warning(path: Path, formatter: list[str]) -> None:
    done = subprocess.run([*formatter, path], capture_output=True, text=True, timeout=60, check=False)
    said = done.stderr + (done.stdout if formatter[0] == "mandoc" else "")  # groff's output is the page
    assert (done.returncode, said) == (0, "")
