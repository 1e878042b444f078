"""The row of large messages: rate, and the most memory each side takes meanwhile."""

import os
import time
from pathlib import Path

import load
from report import Bar, Row
from sides import Bench, Side, alternating
from watch import Sampler

_LARGE_BYTES = 10_000_000  # Postfix takes 10,240,000 by default
_DEADLINE_S = 180.0


def measure(side: Side, messages: int, size: int, sessions: int) -> dict[str, float]:
    """One measurement of one side. Raises load.Late, RuntimeError."""
    load.empty_maildir(side.system.maildir)
    rest_mb = side.meter.private_mb()
    start, processor_before = time.monotonic(), side.meter.processor_s()
    with Sampler(side.meter.private_mb, 0.02) as memory:
        load.send(side.system.port, side.recipient, messages, sessions=sessions, bytes_each=size,
                  deadline_s=_DEADLINE_S)  # fmt: skip
        load.wait_delivered(side.system.maildir, messages, deadline_s=_DEADLINE_S)
        done_s = time.monotonic() - start
    side.meter.wait_idle()
    figures = {
        "mb_per_s": messages * size / done_s / 1e6, "peak_mb": memory.peak, "more_mb": memory.peak - rest_mb,
        "processor_ms": (side.meter.processor_s() - processor_before) * 1e3 / (messages * size / 1e6),
    }  # fmt: skip
    load.empty_maildir(side.system.maildir)  # the other side needs the room
    return figures


def floor_mb_per_s(directory: Path, files: int, size: int) -> float:
    """How fast the disk takes such files, each synced: nobody can be faster than that, once."""
    places = [directory / f"floor{number}" for number in range(files)]
    block = os.urandom(1_000_000)
    start = time.monotonic()
    for place in places:
        with place.open("wb", buffering=0) as file:
            for _ in range(max(1, size // len(block))):
                file.write(block[:size])
            os.fsync(file.fileno())
    took_s = time.monotonic() - start
    for place in places:
        place.unlink()
    return files * size / took_s / 1e6


def row(bench: Bench) -> Row:
    """All pairs. Both sides write each byte at least twice (queue, Maildir)."""
    messages, size, sessions = (4, 2_000_000, 2) if bench.quick else (40, _LARGE_BYTES, 20)
    pairs = 1 if bench.quick else min(3, bench.pairs)
    row = Row("large", "SMTP -> queue -> Maildir, large messages",
              f"{messages} messages of {size / 1e6:g} MB, {sessions} sessions, {pairs} pairs")  # fmt: skip
    row.line("mb_per_s", "MB/s, start to last delivery", Bar("ratio", ">=", 1.0))
    row.line("peak_mb", "MB of memory at most (anonymous, all processes)")
    row.line("more_mb", "MB of memory more than at rest, at most", Bar("ours", "<", sessions * size / 3e6))
    row.line("processor_ms", "ms of processor a MB")
    for number in range(pairs):
        got = {side.name: measure(side, messages, size, sessions) for side in alternating(bench.sides(), number)}
        row.add(got["ours"], got["postfix"])
    bare = floor_mb_per_s(bench.directory, min(messages, 20), size)
    row.note(f"the bare disk: {bare:.0f} MB/s, written once and synced")
    row.note(f"{sessions * size / 1e6:.0f} MB are on their way at once; the bar for memory is a third of it")
    return row
