#!/usr/bin/env python3
"""`make bench`: our system beside Postfix, on this machine, in this run; ratios and bars, no exit code for being slow.

Both sides stand side by side on one disk, idle until it is their turn. Measurements come in pairs, first one side
then the other, the order changing from pair to pair; the ratio is the median of the pairs' ratios, for this machine's
speed wanders. Processor time is that of all processes of a side, clean-up included; the load generator, the sink and
the kernel's own writing belong to neither. A row that fails is said to have failed, and the next one gets fresh
systems.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import busy
import disk
import floor
import flows
import hosts
import idle
import large
import latency
import load
import neighbours
import ours
import postfix
import recipients
import startup
import sweep
import waiting
from report import Row, facts, print_facts, print_row, print_verdicts, record
from sides import Bench, say

PLOTS = Path(__file__).parent / "plots"
_WAITING, _WAITING_FULL = 100_000, 1_000_000

ROWS: dict[str, Callable[[Bench], "list[Row]"]] = {
    "maildir": lambda bench: [flows.row(bench, "maildir")],
    "many": lambda bench: [flows.row(bench, "many")],
    "single": lambda bench: [flows.row(bench, "single")],
    "latency": lambda bench: [latency.row(bench)],
    "large": lambda bench: [large.row(bench)],
    "relay": lambda bench: [flows.row(bench, "relay")],
    "recipients": lambda bench: [recipients.row(bench)],
    "busy": lambda bench: [busy.row(bench)],
    "idle": lambda bench: [idle.row(bench)],
    "hosts": lambda bench: [hosts.row(bench)],
    "neighbours": neighbours.rows,
    "waiting": lambda bench: [waiting.row(bench)],
    "startup": lambda bench: [startup.row(3 if bench.quick else startup.ROUNDS)],
    "floor": lambda bench: [floor.row(bench.directory, 400 if bench.quick else 2000)],
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="our system beside Postfix: ratios from the same run")
    parser.add_argument("--rows", default=",".join(ROWS), metavar="NAME,...", help="which rows (default: all)")
    parser.add_argument("--quick", action="store_true", help="a small version of each row: does it work at all?")
    parser.add_argument("--full", action="store_true", help=f"{_WAITING_FULL} waiting messages instead of {_WAITING}")
    parser.add_argument("--waiting", type=int, help="so many waiting messages")
    parser.add_argument("--pairs", type=int, default=5, help="measurements of each side for each row (default 5)")
    parser.add_argument("--messages", type=int, default=3000, help="messages in a measurement (default 3000)")
    parser.add_argument("--sweep", action="store_true", help="also how cost grows, drawn into bench/plots/")
    parser.add_argument("--plots", type=Path, default=PLOTS, metavar="DIRECTORY", help="elsewhere than bench/plots/")
    parser.add_argument("--postfix-agent", choices=("virtual", "local"), default="virtual",
                        help="who delivers for Postfix; virtual(8) is the faster one (default)")  # fmt: skip
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where both sides live (a real disk)")
    parser.add_argument("--disk", choices=("auto", "here", "image"), default="auto",
                        help="that directory's own, or a journaled ext4 in a file there (auto: as needed)")  # fmt: skip
    parser.add_argument("--record", action="store_true", help="keep the figures in bench/history/")
    parser.add_argument("--keep-logs", type=Path, metavar="DIRECTORY", help="copy both logs there at the end")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.pairs, chosen.messages = 1, 100
    if chosen.waiting is None:
        chosen.waiting = 300 if chosen.quick else _WAITING_FULL if chosen.full else _WAITING
    chosen.rows = [name for name in chosen.rows.split(",") if name]
    if set(chosen.rows) - set(ROWS) or chosen.pairs < 1 or chosen.messages < 20 or chosen.waiting < 1:
        parser.error(f"rows are {', '.join(ROWS)}; at least one pair, 20 messages, one waiting message")
    return chosen


def main() -> int:
    """0 measured; 1 a row failed; 2 something needed is not there."""
    chosen = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started is stopped
    lacking = dict.fromkeys(postfix.missing() + load.missing() + ours.missing())
    if lacking:
        print("cannot compare, missing: " + "; ".join(lacking), file=sys.stderr)
        return 2
    idle.raise_descriptors()  # what is started from here on inherits it
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(disk.place(chosen.directory, chosen.disk))
        except RuntimeError as error:
            print(f"failed: {error}", file=sys.stderr)
            return 1
        about = facts(directory, chosen.postfix_agent)
        print_facts(about)
        bench = Bench(
            directory, agent=chosen.postfix_agent, pairs=chosen.pairs, messages=chosen.messages, quick=chosen.quick,
            waiting=chosen.waiting, roomy=directory if chosen.quick else chosen.directory, keep_logs=chosen.keep_logs,
        )  # fmt: skip
        try:
            rows, failed = measure_all(bench, chosen)
        finally:
            bench.drop_sides()
    print_verdicts(rows)
    for name, why in failed.items():
        print(f"failed: {name}: {why}", file=sys.stderr)
    if chosen.record:
        say(f"recorded in {record(about, rows)}")
    return 1 if failed else 0


def measure_all(bench: Bench, chosen: argparse.Namespace) -> tuple[list[Row], dict[str, str]]:
    """Every chosen row, printed as it comes, and which ones failed, and why."""
    work = {name: ROWS[name] for name in chosen.rows}
    if chosen.sweep:
        work["sweep"] = lambda bench: sweep.rows(bench, chosen.plots)
    rows: list[Row] = []
    failed: dict[str, str] = {}
    for name, measure in work.items():
        start = time.monotonic()
        say(f"measuring {name}")
        try:
            made = measure(bench)
        except (load.Late, RuntimeError, OSError) as error:
            failed[name] = f"{type(error).__name__}: {error}"
            say(f"{name} failed: {failed[name]}")
            bench.drop_sides(failed=True)
            continue
        for row in made:
            print_row(row)
        say(f"({name}: {time.monotonic() - start:.0f} s)")
        rows += made
    return rows, failed


if __name__ == "__main__":
    sys.exit(main())
