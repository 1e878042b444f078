"""A short chaos run with a fixed seed. The long ones: `make chaos SECONDS=300`."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "run.py"


@pytest.mark.timeout(110)
def test_every_message_is_accounted_for_after_ten_seconds_of_chaos() -> None:
    finished = subprocess.run(
        [sys.executable, str(RUN), "--seed", "7", "--seconds", "10", "--messages", "1500", "--drain", "45",
         "--under", "services"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout
    assert "every message is accounted for" in finished.stdout
