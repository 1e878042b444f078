"""The row of a lone message: how long until its 250, and until it is in the Maildir, when nothing else is going on."""

import statistics
import time

import client
import load
from report import Bar, Row
from sides import Bench, Side, alternating
from watch import Arrivals

_ARRIVAL_MAX_S = 60.0


def measure(side: Side, messages: int) -> dict[str, float]:
    """One session, one message at a time: the next begins when the last is in the Maildir. Raises load.Late."""
    load.empty_maildir(side.system.maildir)
    message = client.content(load.MESSAGE_BYTES)
    accepted_ms, arrived_ms = [], []
    arrivals = Arrivals(side.system.maildir / "new")
    before_s = side.meter.processor_s()
    try:
        with client.Session(side.system.port) as session:
            for _ in range(messages):
                start = time.monotonic()
                session.send("sender@source.test", [side.recipient], message)
                accepted_ms.append((time.monotonic() - start) * 1e3)
                arrived = arrivals.wait(_ARRIVAL_MAX_S)
                if arrived is None:
                    raise load.Late(f"{side.name}: a message did not reach the Maildir in {_ARRIVAL_MAX_S:.0f} s")
                arrived_ms.append((arrived - start) * 1e3)
    finally:
        arrivals.close()
    side.meter.wait_idle()
    return {
        "accepted_ms": statistics.median(accepted_ms), "accepted_slow_ms": _slow(accepted_ms),
        "arrived_ms": statistics.median(arrived_ms), "arrived_slow_ms": _slow(arrived_ms),
        "processor_ms": (side.meter.processor_s() - before_s) / messages * 1e3,
    }  # fmt: skip


def _slow(values: list[float]) -> float:
    """What one in twenty exceeds."""
    return sorted(values)[int(len(values) * 0.95)]


def row(bench: Bench) -> Row:
    """All pairs, after a warm-up."""
    messages = 20 if bench.quick else min(200, bench.messages)
    row = Row("latency", "one message at a time, one session, from MAIL FROM on",
              f"{messages} messages of {load.MESSAGE_BYTES} bytes, {bench.pairs} pairs")  # fmt: skip
    row.line("accepted_ms", "ms to 250, median", Bar("ratio", "<=", 1.0))
    row.line("accepted_slow_ms", "ms to 250, the slowest twentieth begins")
    row.line("arrived_ms", "ms to the Maildir, median", Bar("ratio", "<=", 1.0))
    row.line("arrived_slow_ms", "ms to the Maildir, the slowest twentieth begins")
    row.line("processor_ms", "ms of processor a message")
    for side in bench.sides():
        measure(side, 5)
    for number in range(bench.pairs):
        got = {side.name: measure(side, messages) for side in alternating(bench.sides(), number)}
        row.add(got["ours"], got["postfix"])
    return row
