"""unix/memory.py: a resident that would grow without end meets its own limit."""

import subprocess
import sys

SCRIPT = """
import sys
from notqmail.unix.memory import limit_memory
limit_memory(int(sys.argv[1]))
limit_memory(1 << 40)  # never raises it again
try:
    grown = bytearray(300_000_000)
except MemoryError:
    print("no more")
else:
    print(len(grown))
"""


def grown(limit: int) -> str:
    argv = [sys.executable, "-c", SCRIPT, str(limit)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_beyond_the_limit_there_is_a_memory_error() -> None:
    assert grown(200_000_000) == "no more"


def test_no_limit_and_a_high_one_are_not_felt() -> None:
    assert grown(0) == "300000000"
    assert grown(2 * 1024**3) == "300000000"
