"""The power cut under real file systems of the kernel: what was promised is found, and what is broken is noticed.

CUTS=500 in the environment: so many cuts of each recording. `make power` goes on for as long as one likes.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from power_run import rig

CUTS = int(os.environ.get("CUTS", "20"))
_DEADLINE_S = 100.0

HOLDS = [
    ["ext4", "--work", "queue", "--late", "0.002"],
    ["ext4", "--work", "mail", "--neighbour"],
    ["ext4", "--work", "life"],
    ["ext4", "--work", "system"],
    ["xfs", "--work", "mail", "--size", "20"],
    ["btrfs", "--work", "mail", "--size", "20"],
]
BROKEN = [
    ["ext4", "--forget", "barrier todo", "--work", "queue"],
    ["ext4", "--forget", "sync todo", "--work", "queue"],
    ["ext4", "--forget", "barrier tmp", "--work", "mail"],
    ["ext4", "--forget", "sync new", "--work", "mail"],
    ["ext4", "--lying", "--work", "queue"],
    ["btrfs", "--order", "assumed", "--work", "queue"],
    ["ext4", "--order", "unwaited", "--work", "mail", "--neighbour", "--late", "0.003"],
]


def _report(plan: list[str], cuts: int, place: Path) -> dict[str, object]:
    seconds = _DEADLINE_S / 2
    report = rig([*plan, "--place", str(place)], seed=1, cuts=cuts, seconds=seconds, deadline_s=_DEADLINE_S)
    if isinstance(report, str):
        pytest.skip(report)
    return report


@pytest.mark.parametrize("plan", HOLDS, ids=" ".join)
def test_whatever_a_real_file_system_keeps_everything_promised_is_there(
    plan: list[str], short_path: Path, record_property: Callable[[str, object], None]
) -> None:
    report = _report(plan, CUTS, short_path)
    assert report["faulty"] == []
    for what in ("cuts", "unsettled", "flushes"):
        assert report[what], f"no {what}: nothing was tried"
    record_property(f"power: cuts, {plan[0]}", report["cuts"])


@pytest.mark.parametrize("plan", BROKEN, ids=" ".join)
def test_what_is_broken_on_purpose_is_noticed(plan: list[str], short_path: Path) -> None:
    assert _report([*plan, "--until-fault"], 80, short_path)["faults"]
