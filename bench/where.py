#!/usr/bin/env python3
"""Where a message's microseconds go: what it costs each of our processes, and (--syscalls) which calls they make.

Not a comparison and not part of `make bench`: what to look at before changing anything. With --syscalls (needs
strace, which slows everything down several times) only the counts of calls mean something.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import disk
import flows
import load
import ours
from meter import Meter
from sides import Bench, Side, say, take_down

_TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")
_MOST_CALLS = 9


class Process:
    """One of our processes, as it was when we looked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        self.name = next((os.path.basename(part).decode() for part in argv if b"/bin/qmail-" in part), "?")
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        self.parent, self.user_us, self.system_us = (
            int(fields[1]),
            int(fields[11]) * _TICK_US,
            int(fields[12]) * _TICK_US,
        )
        status = Path(f"/proc/{pid}/status").read_text()
        self.switches = sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)


def processes(side: Side) -> dict[int, Process]:
    """All of them; a worker, which is a fork, is told from its parent."""
    found = {pid: Process(pid) for pid in side.meter.pids()}
    for process in found.values():
        parent = found.get(process.parent)
        if parent is not None and parent.name == process.name:
            process.name += " (worker)"
    return found


@contextmanager
def traced(pids: list[int], directory: Path) -> Iterator[None]:
    """Counts of system calls into `directory`, a file for each process."""
    tracers = [
        subprocess.Popen(["strace", "-c", "-p", str(pid), "-o", str(directory / str(pid))], stderr=subprocess.DEVNULL)
        for pid in pids
    ]
    try:
        time.sleep(1)  # strace does not say when it has begun
        yield
    finally:
        for tracer in tracers:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(30)


def calls(summary: Path, messages: int) -> str:
    """The most frequent calls of one process, per message."""
    counts = {}
    for line in summary.read_text().splitlines():
        words = line.split()
        if len(words) >= 5 and words[3].isdigit() and words[-1] != "total":
            counts[words[-1]] = int(words[3])
    most = sorted(counts.items(), key=lambda one: -one[1])[:_MOST_CALLS]
    total = sum(counts.values())
    return f"{total / messages:.1f} calls: " + ", ".join(f"{name} {count / messages:.2g}" for name, count in most)


def show(bench: Bench, side: Side, name: str, messages: int, *, syscalls: bool) -> None:
    """One kind of work."""
    work = flows.works(messages)[name]
    work.messages = messages
    flows.measure(side, work, bench)
    before = processes(side)
    directory = Path(tempfile.mkdtemp(prefix="notqmail-where-"))
    try:
        if syscalls:
            with traced(list(before), directory):
                figures = flows.measure(side, work, bench)
        else:
            figures = flows.measure(side, work, bench)
        say(f"\n{name}: {work.title}: {figures['messages_per_s']:.0f} messages/s, "
            f"{figures['processor_ms'] * 1e3:.0f} us of processor a message")  # fmt: skip
        for pid, now in processes(side).items():
            if (then := before.get(pid)) is None:
                continue
            user, system, switches = ((getattr(now, part) - getattr(then, part)) / messages
                                      for part in ("user_us", "system_us", "switches"))  # fmt: skip
            say(f"  {now.name:24} user {user:6.0f} us  system {system:6.0f} us  {switches:5.2f} switches")
            if syscalls and (directory / str(pid)).stat().st_size:
                say(f"  {'':24} {calls(directory / str(pid), messages)}")
    finally:
        shutil.rmtree(directory)


def main() -> int:
    """0 shown; 1 it failed."""
    parser = argparse.ArgumentParser(description="what one message costs each of our processes")
    parser.add_argument("--rows", default="maildir,single,relay", help="kinds of work (default: maildir,single,relay)")
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--syscalls", action="store_true", help="count system calls, by strace")
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"))
    chosen = parser.parse_args()
    with disk.place(chosen.directory, "auto") as directory:
        bench = Bench(directory, agent="virtual", pairs=1, messages=chosen.messages, quick=False, waiting=0,
                      roomy=directory)  # fmt: skip
        meter = Meter("where")
        system = ours.OurSystem(directory / "ours", load.free_port(), relay_port=bench.relay_port, wrap=meter.inside)
        side = Side("ours", system, meter)
        try:
            system.start()
            for name in chosen.rows.split(","):
                show(bench, side, name, chosen.messages, syscalls=chosen.syscalls)
        except (load.Late, RuntimeError) as error:
            print(f"failed: {error}", file=sys.stderr)
            return 1
        finally:
            take_down([side])
    return 0


if __name__ == "__main__":
    sys.exit(main())
