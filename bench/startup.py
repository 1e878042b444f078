#!/usr/bin/env python3
"""What it costs to start each one-shot program, as a multiple of a bare interpreter (medians, alternating).

Each program is started through its launcher in a fresh home, the way tcpserver, cron or a `.qmail` line would, with
as little to do as it accepts, so what is seen is interpreter plus imports.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import Bar, Row

ROUNDS = 21

# What makes each program start, do next to nothing, and leave. Input is what it reads on descriptor 0.
_LEAST_WORK: dict[str, tuple[list[str], bytes]] = {
    "qmail-queue": ([], b""),  # no envelope: ends with 54 or 91 before anything is written
    "qmail-smtpd": ([], b"QUIT\r\n"),
    "qmail-inject": (["-n"], b"To: a@b.test\nFrom: c@d.test\n\n"),
    "sendmail": (["-bp"], b""),
    "qmail-local": (["-n", "u", "{home}/alias", "u", "", "", "b.test", "c@d.test", "./Maildir/"], b"\n"),
    "qmail-remote": (["no-such-argument"], b""),  # too few arguments: a report and out
    "qmail-clean": ([], b""),  # end of file on descriptor 0: done
    "forward": (["--help"], b""),
    "preline": (["true"], b"\n"),
    "maildirmake": (["{home}/made"], b""),
}


def measure(rounds: int = ROUNDS) -> dict[str, float]:
    """program -> median time to start and end it / that of a bare interpreter. Programs not installed are left out."""
    base = Path(tempfile.mkdtemp(prefix="notqmail-startup-"))
    home = base / "home"
    try:
        init = [sys.executable, "-m", "notqmail.admin", "init", "--host", "bench.test", str(home)]
        subprocess.run(init, check=True, capture_output=True, timeout=60)
        names = [name for name in _LEAST_WORK if (home / "bin" / name).exists()]
        commands = {name: [str(home / "bin" / name), *(part.format(home=home) for part in _LEAST_WORK[name][0])]
                    for name in names}  # fmt: skip
        interpreter = _interpreter_of(home / "bin" / names[0]) if names else sys.executable
        return _ratios(commands, [interpreter, "-I", "-S", "-c", "pass"], home, rounds)
    finally:
        shutil.rmtree(base)


def row(rounds: int = ROUNDS) -> Row:
    """The row of the benchmark."""
    row = Row("startup", "start and end of one-shot programs", f"medians of {rounds}, alternating", "bare interpreter")
    for program, ratio in measure(rounds).items():
        row.line(program, f"{program}, times a bare interpreter", Bar("ours", "<=", 4))
        row.add({program: ratio}, {program: 1.0})
    return row


def _ratios(commands: dict[str, list[str]], bare: list[str], home: Path, rounds: int) -> dict[str, float]:
    """The bare interpreter runs beside every round of every program: the machine's speed wanders."""
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        bare_s = min(_seconds(bare, b"", home) for _ in range(2))
        for name, argv in commands.items():
            found[name].append(_seconds(argv, _LEAST_WORK[name][1], home) / bare_s)
            shutil.rmtree(home / "made", ignore_errors=True)
    return {name: statistics.median(values) for name, values in found.items()}


def _interpreter_of(launcher: Path) -> str:
    """The interpreter in the launcher's first line."""
    return launcher.read_bytes().split(b"\n", 1)[0][2:].split()[0].decode()


def _seconds(argv: list[str], data: bytes, home: Path) -> float:
    environ = {"QMAILHOME": str(home), "PATH": os.environ.get("PATH", "/usr/bin:/bin")}
    start = time.perf_counter()
    subprocess.run(argv, input=data, env=environ, capture_output=True, timeout=20, check=False)
    return time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each program is started")
    for program, ratio in measure(parser.parse_args().rounds).items():
        print(f"{program:16} {ratio:6.2f} x a bare interpreter")
