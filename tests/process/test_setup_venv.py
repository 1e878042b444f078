"""packaging/setup-venv where the package index cannot be reached: few words, and the rest in a file."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "packaging" / "setup-venv"
PYTHON = """#!/bin/sh
case "$*" in
    *'pip install'*) i=0; while [ $i -lt 20 ]; do i=$((i + 1)); echo "WARNING: try $i" >&2; done
        echo 'ERROR: No matching distribution found for uvloop' >&2; echo 'hint: See above' >&2; exit 1 ;;
    *dns*) exit {libraries} ;;
    '-m notqmail'*) echo "$PYTHONPATH" "$@" ;;
esac
"""


@pytest.mark.parametrize(("libraries", "said"), [(0, "the libraries are there"), (1, "the standard library alone")])
def test_pips_complaints_are_kept_and_their_last_line_is_shown(tmp_path: Path, libraries: int, said: str) -> None:
    (tmp_path / "packaging").mkdir()
    script = shutil.copy(SCRIPT, tmp_path / "packaging")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON.format(libraries=libraries))
    python.chmod(0o755)
    done = subprocess.run([script, "run"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == ".venv/bin/python\n"
    assert "try " not in done.stderr
    assert "setup: pip: ERROR: No matching distribution found for uvloop (all of it: .venv/pip.log)\n" in done.stderr
    assert said in done.stderr
    assert len((tmp_path / ".venv" / "pip.log").read_text().splitlines()) == 22
    done = subprocess.run(
        [".venv/bin/notqmail", "ledger", "a b"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == f"{tmp_path}/src -m notqmail.admin ledger a b\n", "the command that the README uses"


BARE = """#!/bin/sh
case "$*" in
    *realpath*) echo "$0" ;;
    *ensurepip*) exit 1 ;;
    '-m notqmail'*) echo "$PYTHONPATH" "$@" ;;
esac
"""


def test_without_virtual_environments_the_command_is_there_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "packaging").mkdir()
    script = shutil.copy(SCRIPT, tmp_path / "packaging")
    for path, text in (
        (tmp_path / "python", BARE),
        (tmp_path / "packaging" / "debian-packages", "#!/bin/sh\nexit 1\n"),
    ):
        path.write_text(text)
        path.chmod(0o755)
    done = subprocess.run(
        [script, "run"], env={**os.environ, "PYTHON": str(tmp_path / "python")}, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == f"{tmp_path}/python\n"
    assert "python3-venv is missing; as root: apt-get install python3-venv" in done.stderr
    called = subprocess.run(
        [tmp_path / ".venv" / "bin" / "notqmail", "--version"], capture_output=True, text=True, check=True
    )
    assert called.stdout == f"{tmp_path}/src -m notqmail.admin --version\n"
