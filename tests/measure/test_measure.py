"""What measures the tests: the copy it works in, and the page it writes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from copied_tree import REPOSITORY, copy_files, tracked
from coverage_run import PAGE, REASONS, SINCE, page, parts


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A small tree with a home in it, which has a named pipe."""
    top = tmp_path / "sources"
    for name in ("src/a.py", "tests/b.py", "home/control/me", "var/x"):
        path = top / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
    (top / "link").symlink_to("src/a.py")
    os.mkfifo(top / "home" / "trigger")
    return top


def files(top: Path) -> set[str]:
    return {str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir() and ".git" not in path.parts}


def git(top: Path, *words: str) -> None:
    subprocess.run(["git", "-C", top, *words], check=True, capture_output=True, timeout=20)


def test_the_copy_has_what_git_tracks_and_no_home_beside_it(sources: Path, tmp_path: Path) -> None:
    git(sources, "init")
    git(sources, "add", "src", "tests", "link")
    (sources / "tests" / "b.py").unlink()
    (sources / "src" / "a.py").write_text("changed since")
    copy_files(sources, tmp_path / "copy")
    assert files(tmp_path / "copy") == {"src/a.py", "link"}
    assert (tmp_path / "copy" / "src" / "a.py").read_text() == "changed since"
    assert (tmp_path / "copy" / "link").is_symlink()
    assert (tmp_path / "copy" / "src").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("why", ["no git", "not a repository", "a repository that knows nothing of it"])
def test_without_git_the_copy_has_all_but_special_files(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    elif why != "not a repository":
        git(sources, "init")
    else:
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert tracked(sources) == []
    copy_files(sources, tmp_path / "copy")
    assert files(tmp_path / "copy") == {"src/a.py", "tests/b.py", "home/control/me", "link"}


@pytest.mark.parametrize("script", ["tests/measure/coverage_run.py", "bench/floor.py", "bench/startup.py"])
def test_a_script_that_measures_explains_itself_and_measures_nothing(script: str) -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / script, "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "usage: " in done.stdout or "make coverage" in done.stdout
    assert done.stderr == ""


def test_the_coverage_page_is_what_make_coverage_writes_but_for_its_last_section() -> None:
    """What the generator does not know is under the heading that says so."""
    written = PAGE.read_text().partition(SINCE)[0]
    ours = page({}, "ENDING")
    fixed = [part for part in parts(ours) if "ENDING" not in part and not part.startswith("|")]
    assert [part for part in parts(written) if "(Python 3." not in part and not part.startswith("|")] == fixed


def test_the_reasons_on_the_coverage_page_are_those_of_the_generator() -> None:
    reasons = dict(line.split("\t", 1) for line in REASONS.read_text().splitlines())
    rows = re.findall(r"(?m)^\| (\S+\.py) \| \d+ % \| (.*) \|$", PAGE.read_text().partition(SINCE)[0])
    assert rows
    for name, why in rows:
        assert why == reasons.get(name, "nobody has looked yet"), name
