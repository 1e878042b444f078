"""The house agrees with its drawings: documents, man pages and code name the same things."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import notqmail
from no_help import NO_HELP
from notqmail.admin.launchers import module_name, program_names

REPOSITORY = Path(__file__).parents[2]
SOURCES = sorted((REPOSITORY / "src" / "notqmail").rglob("*.py"))
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *REPOSITORY.glob("packaging/*.md"),
                    REPOSITORY / "tests" / "README.md"])  # fmt: skip
MAN_PAGES = sorted((REPOSITORY / "man").glob("*.[1-9]"))
LINES_MAX = 400
FEW_LINES_MORE = 1.1  # a module may be a little longer while it is being taken apart
HOSTS_WE_LINK = {"notqmail.org", "cr.yp.to", "www.rfc-editor.org", "rfc-editor.org", "github.com"}


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    named = re.findall(r"`((?:src|tests|docs|man|packaging|bench)/[\w./-]+)`", text)
    missing = [path for path in named if "MODULE" not in path and not (REPOSITORY / path).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_link_between_documents_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", document.read_text())
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []


def test_documents_link_only_to_hosts_that_we_chose() -> None:
    """Nobody should have to reach a package index, or a machine of ours, to read a page."""
    files = [*DOCUMENTS, *SOURCES, *MAN_PAGES, REPOSITORY / "Makefile", REPOSITORY / "pyproject.toml",
             *(path for path in (REPOSITORY / "packaging").rglob("*") if path.is_file())]  # fmt: skip
    strange = {
        f"{name(path)}: {host}"
        for path in files
        for host in re.findall(r"https?://([^/\s:)\"'>]+)", path.read_text())
        if host not in HOSTS_WE_LINK and not host.endswith((".example", ".example.org", ".example.com"))
    }
    assert strange == set()


def test_the_journey_names_every_chapter() -> None:
    text = (REPOSITORY / "docs" / "journey.md").read_text()
    for chapter in ("receive", "send", "deliver", "queue", "policy", "control", "message", "wire", "unix"):
        assert f"`src/notqmail/{chapter}/" in text, chapter


def test_decisions_have_numbers_of_their_own_and_a_status() -> None:
    pages = list((REPOSITORY / "docs" / "adr").glob("[0-9]*.md"))
    numbers = [path.name[:4] for path in pages]
    assert sorted(set(numbers)) == sorted(numbers)
    for path in pages:
        text = path.read_text()
        assert text.startswith(f"# {path.name[:4]}: "), path
        assert re.search(r"Status: (proposed|accepted|rejected|replaced by \d{4}|removed)", text), path
        assert "## What would make us change our mind" in text, path


def test_the_newest_change_is_this_version() -> None:
    newest = re.search(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert newest is not None
    assert newest[1] == project["version"] == notqmail.__version__


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_a_module_fits_into_a_reader_s_head(source: Path) -> None:
    text = source.read_text()
    assert len(text.splitlines()) <= LINES_MAX * FEW_LINES_MORE, "what is the second idea in it?"
    if text.strip():
        assert text.startswith('"""'), "a module says first what it promises"


def test_only_the_durable_seam_makes_things_durable() -> None:
    """FakeDisk can only cut the power where it is asked."""
    allowed = {"unix/durable.py", "unix/bulk_sync.py", "admin/launchers.py"}  # launchers: nothing of a message's way
    found = {
        str(path.relative_to(REPOSITORY / "src" / "notqmail"))
        for path in SOURCES
        if re.search(r"\bos\.(fsync|fdatasync|link|rename|replace)\(", path.read_text())
    }
    assert found - allowed == set()


SCRIPTS = [path for path in (REPOSITORY / "packaging").rglob("*") if path.is_file() and path.stat().st_mode & 0o100]


@pytest.mark.parametrize("script", [*SCRIPTS, REPOSITORY / ".ci" / "run"], ids=name)
def test_shell_scripts_are_shell(script: Path) -> None:
    shell = script.read_text().splitlines()[0].removeprefix("#!")
    subprocess.run([shell, "-n", script], check=True, timeout=20)


@pytest.mark.parametrize("program", program_names())
def test_programs_end_and_explain_themselves_alike(program: str) -> None:
    text = (REPOSITORY / "src/notqmail/programs" / f"{module_name(program)}.py").read_text()
    assert text.endswith('\n\nif __name__ == "__main__":\n    start()\n')
    if program not in NO_HELP:
        assert "sys.stdout.write(USAGE)" in text


# Not enum: `signal` and `socket` bring it.
HEAVY = ("asyncio", "argparse", "logging", "dataclasses", "typing", "subprocess", "email", "uvloop", "dns")


@pytest.mark.parametrize("program", program_names())
def test_one_shot_programs_import_nothing_heavy(program: str) -> None:
    """What a program imports before it knows its arguments is paid for by every connection and every delivery."""
    module = "notqmail.programs." + module_name(program)
    code = f"import sys; sys.path.append({str(REPOSITORY / 'src')!r}); import {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert set(done.stdout.split()) & set(HEAVY) == set()
