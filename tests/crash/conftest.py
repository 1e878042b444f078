"""Figures of the power-cut tests: what a test notes with `record_property`, added up at the end of the run.

SURVIVORS=1000 in the environment: so many sets of survivors by chance of each cut, in place of the few of an ordinary
run, and all that an ordered disk may show.
"""

import os
from collections import Counter

import pytest

FIGURE = "crash: "  # begins the names of the properties that are figures


@pytest.fixture
def survivors_limit() -> int:
    """How many sets of survivors are tried by chance for each cut, where there are more."""
    return int(os.environ.get("SURVIVORS", "8"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each kind of figure; from all processes, where there are several."""
    sums: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name.startswith(FIGURE):
                sums[name.removeprefix(FIGURE)] += int(value)  # type: ignore[call-overload]
    if sums:
        terminalreporter.section("power cuts")
        for name, value in sorted(sums.items()):
            terminalreporter.write_line(f"{value:>9}  {name}")
