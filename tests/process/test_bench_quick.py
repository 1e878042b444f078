"""The benchmark still runs: the small version of each row that only it exercises. No figure is judged here."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ROWS = ("latency", "large", "recipients", "busy", "idle", "hosts", "waiting", "neighbours")
_NO_NAMESPACE = "failed: hosts: NoNamespace"  # root in a container may not make one; then the row says so
_DEADLINE_S = 280.0  # it takes 20 to 30 s; what is started must be stopped before pytest's own patience ends


def quick_bench(directory: str) -> tuple[int, str]:
    """Exit code and everything it said."""
    argv = [sys.executable, str(REPOSITORY / "bench" / "run.py"), "--quick", "--disk", "here", "--directory", directory]
    process = subprocess.Popen(
        [*argv, "--rows", ",".join(ROWS)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        said, _ = process.communicate(timeout=_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.terminate()  # it stops what it has started
        said, _ = process.communicate()
    return process.returncode, said.decode()


@pytest.mark.root
@pytest.mark.debian("postfix", "smtp-source", "smtp-sink", "ip")
def test_every_row_of_the_benchmark_has_figures_for_both_sides_in_its_quick_version() -> None:
    with tempfile.TemporaryDirectory(prefix="nqbench", dir="/var/tmp") as directory:
        os.chmod(directory, 0o755)  # Postfix's daemons are other users
        code, said = quick_bench(directory)
        left = os.listdir(directory)
    rows = set(ROWS) - ({"hosts"} if _NO_NAMESPACE in said else set())
    assert code == (0 if len(rows) == len(ROWS) else 1), said
    for name in rows:
        table = re.search(rf"^{name}: .*?(?=^\(|\Z)", said, re.MULTILINE | re.DOTALL)
        assert table is not None, said
        figures = r" +\d[\d.e-]*" * 2  # ours and the other side's
        assert re.search(rf"\w{figures}", table[0]), f"{name}: {table[0]}"
    assert left == [], "the benchmark left something behind"
