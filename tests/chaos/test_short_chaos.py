"""A short chaos run with a fixed seed. The long ones: `make chaos SECONDS=300`."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "run.py"


@pytest.mark.timeout(400)
def test_every_message_is_accounted_for_after_ten_seconds_of_chaos() -> None:
    finished = subprocess.run(
        [sys.executable, str(RUN), "--seed", "7", "--seconds", "10", "--messages", "1500", "--drain", "240",
         "--under", "services", "--only", "single-user"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=380, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout
    assert "every message is accounted for" in finished.stdout


@pytest.mark.timeout(400)
def test_every_message_is_accounted_for_after_some_seconds_of_chaos_with_accounts() -> None:
    finished = subprocess.run(
        [sys.executable, str(RUN), "--seed", "7", "--seconds", "24", "--only", "classic"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=380, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout
    if "SKIPPED" in finished.stdout:
        pytest.skip(finished.stdout)
    assert "The ledger balances." in finished.stdout
