"""The row of injections at full rate ("silly qmail syndrome"): are all remote slots kept in use meanwhile?"""

import re
import time
from pathlib import Path

import load
import sink
from report import Bar, Row
from sides import Bench, Side, alternating
from watch import Sampler

LIMIT = (
    20  # deliveries to one destination: concurrencyremote and default_destination_concurrency_limit, both by default
)
_REPLY_S = 0.1  # of the sink, for each message: so 20 slots deliver at most 200/s, far below the rate of injection
_MOST = 0.9
_DEADLINE_S = 240.0
_STATUS = re.compile(rb"status: local \d+/\d+ remote (\d+)/\d+")


class _StatusReader:
    """What the newest status line of qmail-send says of the remote slots: a log is read on from where it was read to,
    since dozens of lines about new mail may follow that line.
    """

    def __init__(self, log: Path) -> None:
        self._log, self._read_to = log, log.stat().st_size
        self._kept, self._slots = b"", 0.0

    def __call__(self) -> float:
        with self._log.open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
        self._read_to += len(data)
        lines, newline, self._kept = (self._kept + data).rpartition(b"\n")
        if newline and (found := _STATUS.findall(lines)):
            self._slots = float(found[-1])
        return self._slots


def _share(samples: list[tuple[float, float]], begin_s: float, end_s: float) -> float:
    """The share of samples in that time with at least 90 % of the slots in use."""
    values = [value for at_s, value in samples if begin_s <= at_s <= end_s]
    return sum(value >= _MOST * LIMIT for value in values) / len(values) if values else 0.0


def _first(samples: list[tuple[float, float]], at_least: float) -> float:
    """When the value was first reached; the end, if never."""
    return next((at_s for at_s, value in samples if value >= at_least), samples[-1][0])


def measure(side: Side, messages: int, counts: sink.Counts) -> dict[str, float]:
    """One measurement: all messages injected at full rate by 20 sessions. Raises load.Late."""
    before = counts.get("recipients")
    look_at_log = side.is_ours
    status = _StatusReader(side.system.log) if look_at_log else float  # float() is 0.0
    with (
        Sampler(lambda: counts.get("open"), 0.005) as sessions,
        Sampler(status, 0.01) as slots,
        Sampler(lambda: counts.get("recipients") - before, 0.005) as done,
    ):
        start = time.monotonic()
        load.send(side.system.port, "someone@away.test", messages, sessions=20, deadline_s=_DEADLINE_S)
        injected_s = time.monotonic()
        sink.wait_for(counts, "recipients", before + messages, deadline_s=_DEADLINE_S)
        end = time.monotonic()
    side.meter.wait_idle()
    full_s = _first(sessions.samples, LIMIT)  # from here on there is always something to deliver
    last_s = _first(done.samples, messages - 2 * LIMIT)  # from here on there is not
    figures = {
        "busy_injecting": _share(sessions.samples, full_s, max(injected_s, full_s + 0.05)),
        "busy": _share(sessions.samples, full_s, last_s),
        "to_full_s": full_s - start, "injected_per_s": messages / (injected_s - start),
        "delivered_per_s": messages / (end - start),
    }  # fmt: skip
    if look_at_log:
        figures["slots"] = _share(slots.samples, full_s, last_s)
        figures["slots_injecting"] = _share(slots.samples, full_s, max(injected_s, full_s + 0.05))
    return figures


def row(bench: Bench) -> Row:
    """All pairs."""
    messages = 200 if bench.quick else 10_000
    title = f"injections at full rate, a sink that takes {_REPLY_S} s for a message, {LIMIT} deliveries at once"
    row = Row("busy", title, f"{messages} messages, {bench.few_pairs} pairs")
    row.line("slots_injecting", "share of time >= 90 % of the slots in use, injecting", Bar("ours", ">=", 0.99))
    row.line("slots", "the same, until the last 40 messages", Bar("ours", ">=", 0.99))
    row.line("busy_injecting", "the same seen by the sink (sessions), injecting")
    row.line("busy", "the same seen by the sink, until the last 40")
    row.line("to_full_s", "seconds until all slots were in use")
    row.line("delivered_per_s", f"messages/s delivered (limit {LIMIT / _REPLY_S:.0f})")
    row.line("injected_per_s", "messages/s accepted meanwhile")
    doors = [["127.0.0.1", bench.relay_port, {"reply_s": _REPLY_S}]]
    with sink.SinkProcess(bench.directory / "counts", doors=doors) as counts:
        for number in range(bench.few_pairs):
            got = {side.name: measure(side, messages, counts) for side in alternating(bench.sides(), number)}
            row.add(got["ours"], got["postfix"])
    row.note("the slots are those of qmail-send's status lines; for Postfix only the sink's sessions can be counted")
    return row
