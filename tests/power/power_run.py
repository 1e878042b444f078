"""Power cuts on real file systems, one recorded workload after the other until the time is over (`make power`).

    python tests/power/power_run.py --seconds 600 --seed 7

Each run of the rig (power_rig.py) records something else, for the kernel's timing is never the same. At the end: how
many cuts of which file system, and what the deliberately broken ones showed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import count, cycle
from pathlib import Path

_RIG = Path(__file__).parent / "power_rig.py"
_NOT_HERE = 3  # the exit code then
_CUTS, _CUT_S, _RUN_S = 250, 30.0, 180.0  # a recording: cuts, seconds for them, seconds for all of it
_HARD = ["--neighbour", "--late", "0.003"]
PLANS = [  # what must hold
    ["ext4", "--work", "mail", *_HARD],
    ["ext4", "--work", "system", "--size", "120", "--neighbour"],
    ["xfs", "--work", "mail", *_HARD],
    ["ext4", "--work", "queue", "--late", "0.003"],
    ["btrfs", "--work", "mail", "--neighbour"],
    ["ext4-1k", "--work", "mail", "--size", "80", *_HARD],
    ["ext4", "--work", "life"],
    ["ext3", "--work", "mail", *_HARD],
    ["xfs", "--work", "system", "--size", "80"],
    ["ext4", "--work", "mail", "--size", "120", "--neighbour"],
    ["ext4-nodelalloc", "--work", "mail", *_HARD],
    ["btrfs", "--work", "system", "--size", "80"],
    ["ext4-inline", "--work", "mail", *_HARD],
    ["ext4", "--work", "life", "--neighbour", "--late", "0.002"],
    ["ext4-writeback", "--work", "mail", *_HARD],
    ["ext4", "--work", "system", "--size", "120", *_HARD],
    ["ext4-bigalloc", "--work", "mail", *_HARD],
    ["ext4-journal", "--work", "mail", *_HARD],
    ["ext4-dioread-lock", "--work", "mail", *_HARD],
    ["ext4", "--work", "mail", "--order", "denied", *_HARD],
]
BROKEN = [  # what must be noticed
    ["ext4", "--work", "queue", "--forget", "barrier todo"],
    ["ext4", "--work", "queue", "--forget", "sync todo"],
    ["ext4", "--work", "mail", "--forget", "barrier tmp"],
    ["ext4", "--work", "mail", "--forget", "sync new"],
    ["btrfs", "--work", "mail", "--order", "assumed"],
    ["ext4-nojournal", "--work", "mail", "--order", "assumed"],
    ["ext4", "--work", "mail", "--lying"],
    ["ext4", "--work", "mail", "--order", "unwaited", *_HARD],
]


def rig(
    plan: list[str], *, seed: int, cuts: int, seconds: float, deadline_s: float = _RUN_S
) -> dict[str, object] | str:
    """One run of the rig, `plan` beginning with the file system: its report, or why this machine cannot do it.
    `seconds` are for the cuts. Raises RuntimeError when the rig itself fails, TimeoutExpired.
    """
    command = [sys.executable, str(_RIG), "--file-system", *plan, "--seed", str(seed), "--cuts", str(cuts)]
    command += ["--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s, check=False)
    if done.returncode == _NOT_HERE:
        return done.stdout.strip()
    if done.returncode not in (0, 1) or not done.stdout.startswith("{"):
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    report: dict[str, object] = json.loads(done.stdout)
    return report


def main() -> int:
    """0: every rule held and every broken system was noticed. 1: not so, or nothing can be tried; it is printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1, help="the first one (%(default)s)")
    options = parser.parse_args()
    end_s = time.monotonic() + options.seconds
    totals, failed = Counter[tuple[str, str]](), False
    keep = tempfile.mkdtemp(prefix="notqmail-power-")
    for plan in BROKEN:
        failed |= not _broken(plan, options.seed)
    for plan, seed in zip(cycle(PLANS), count(options.seed), strict=False):
        if failed or (seed > options.seed and time.monotonic() > end_s):
            break
        if (plan[0], "missing") not in totals:
            failed = not _held(plan, seed, totals, keep)
        elif all((kind, "missing") in totals for kind, *_ in PLANS):
            print("power: nothing can be recorded here")
            Path(keep).rmdir()
            return 1
    for kind in dict.fromkeys(kind for kind, _ in totals):
        runs, marks, cuts = (totals[kind, what] for what in ("runs", "marks", "cuts"))
        print(f"{kind:18} {runs:4} recordings {marks:7} promises {cuts:7} cuts")
    everything = sum(number for (_, what), number in totals.items() if what == "cuts")
    print(f"power: {'FAILED; disks in ' + keep if failed else f'every rule held after {everything} cuts'}")
    if not failed:
        Path(keep).rmdir()
    return 1 if failed else 0


def _broken(plan: list[str], seed: int) -> bool:
    report = rig(plan, seed=seed, cuts=40, seconds=_CUT_S)
    if isinstance(report, str):
        print(f"not here: {' '.join(plan)}: {report}")
        return True
    print(f"broken: {' '.join(plan)}: noticed in {report['faults']} of {report['cuts']} cuts", flush=True)
    return bool(report["faults"])


def _held(plan: list[str], seed: int, totals: "Counter[tuple[str, str]]", keep: str) -> bool:
    report = rig([*plan, "--keep", keep], seed=seed, cuts=_CUTS, seconds=_CUT_S)
    if isinstance(report, str):
        print(f"not here: {' '.join(plan)}: {report}")
        totals[plan[0], "missing"] = 1
        return True
    for what, number in (("runs", 1), ("cuts", report["cuts"]), ("marks", report["marks"])):
        totals[plan[0], what] += int(number)  # type: ignore[call-overload]
    figures = ", ".join(f"{report[what]} {what}" for what in ("marks", "writes", "flushes", "cuts", "faults"))
    print(f"{' '.join(plan)} --seed {seed}: {figures}", flush=True)
    for fault in report["faulty"]:  # type: ignore[attr-defined]
        print(f"  FAULT {fault}")
    return not report["faults"]


if __name__ == "__main__":
    sys.exit(main())
