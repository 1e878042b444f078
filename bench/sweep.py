"""How cost grows: with the queue's length, the recipients of a message, its size, the sessions. One plot for each."""

from collections.abc import Callable
from pathlib import Path

import disk
import flows
import large
import plots
import recipients
import waiting
from report import Row
from sides import Bench, say, take_down


def _sessions(bench: Bench) -> Row:
    """Messages/s by concurrent sessions."""
    steps = (1, 4) if bench.quick else (1, 2, 5, 10, 20, 50, 100)
    row = Row("sweep-sessions", "messages/s by sessions, SMTP -> queue -> Maildir", "one measurement each")
    for count in steps:
        row.line(str(count), f"{count} sessions")
        messages = max(20, min(bench.messages, 100 * count))
        work = flows.Work("", messages, sessions=count, keep=True, relay=False)
        got = {side.name: flows.measure(side, work, bench) for side in bench.sides()}
        row.add({str(count): got["ours"]["messages_per_s"]}, {str(count): got["postfix"]["messages_per_s"]})
    return row


def _sizes(bench: Bench) -> Row:
    """Milliseconds a message by its size."""
    steps = (1_000, 1_000_000) if bench.quick else (1_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 10_000_000)
    row = Row("sweep-size", "ms a message by its bytes, 10 sessions, SMTP -> queue -> Maildir", "one measurement each")
    for size in steps:
        row.line(str(size), f"{size} bytes")
        messages = max(20, min(bench.messages, 200_000_000 // size)) if not bench.quick else 20
        got = {side.name: large.measure(side, messages, size, 10) for side in bench.sides()}
        row.add(*({str(size): size / 1e3 / got[name]["mb_per_s"]} for name in ("ours", "postfix")))
    return row


def _recipients(bench: Bench) -> Row:
    """Milliseconds a recipient by the recipients of a message."""
    steps = (1, 10) if bench.quick else (1, 3, 10, 30, 100, 300, 1000)
    row = Row("sweep-recipients", "ms a recipient by the recipients of one message to one host", "median of 3")
    with recipients.counting_sink(bench) as counts:
        for count in steps:
            row.line(str(count), f"{count} recipients")
            for _ in range(1 if bench.quick else 3):
                got = {side.name: recipients.measure(side, count, counts) for side in bench.sides()}
                row.add(*({str(count): got[name]["done_s"] * 1e3 / count} for name in ("ours", "postfix")))
    return row


def _queue_length(bench: Bench) -> Row:
    """Processor milliseconds of a new message by the number of waiting ones. The same home grows."""
    steps = (0, 200) if bench.quick else tuple(n for n in (0, 1_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
                                                if n <= bench.waiting)  # fmt: skip
    messages = 50 if bench.quick else 500
    row = Row(
        "sweep-queue", "new messages beside waiting ones, ours alone", "ms of processor; messages/s; MB; seconds", "-"
    )
    room = disk.roomy(bench.roomy, waiting.room_bytes(steps[-1]), steps[-1] * waiting.FILES_EACH, small=bench.quick)
    with room as place:
        side, there = waiting.stand("long", place.directory / "long"), 0
        for count in steps:
            waiting.fill(side.system.home, there, count)
            there = count
            place.forget_what_was_read()
            side.system.log.unlink(missing_ok=True)
            try:
                figures = waiting.start_timed(side)
                waiting.traffic(side, messages // 5)
                figures |= waiting.traffic(side, messages)
            finally:
                side.system.stop()
            for key in ("processor_ms", "accepted_per_s", "sender_mb", "start_s"):
                row.line(f"{key} {count}", f"{key} with {count} waiting")
                row.add({f"{key} {count}": figures[key]})
        take_down([side])
    return row


_SWEEPS: dict[str, Callable[[Bench], Row]] = {
    "sessions": _sessions, "size": _sizes, "recipients": _recipients, "queue": _queue_length,
}  # fmt: skip
_AXES = {
    "sessions": ("Throughput by sessions (4 kB messages to a Maildir)", "sessions", "messages/s"),
    "size": ("Time for a message by its size (10 sessions)", "bytes", "ms a message"),
    "recipients": ("Time for a recipient, one message to one host", "recipients of the message", "ms a recipient"),
    "queue": ("A new message beside waiting ones (ours)", "waiting messages", "ms of processor a message"),
}

_WIDE = ("size", "recipients")  # whose figures go over several powers of ten as well


def rows(bench: Bench, directory: Path | None) -> list[Row]:
    """All sweeps; the plots go into `directory`, replacing those of before."""
    made = []
    for name, sweep in _SWEEPS.items():
        say(f"sweep: {name}")
        row = sweep(bench)
        made.append(row)
        if directory is not None:
            directory.mkdir(exist_ok=True)
            (directory / f"{name}.svg").write_text(plot(name, row))
    return made


def plot(name: str, row: Row) -> str:
    """The plot of a sweep's row (also of one from the history)."""
    title, x_title, y_title = _AXES[name]
    if name == "queue":
        found = {int(key.split()[1]): line.ours for key, line in row.lines.items() if key.startswith("processor_ms")}
        points = [(max(1.0, float(count)), value) for count, value in found.items() if value is not None]
        return plots.draw(title, f"{x_title} (0 drawn at 1)", y_title, {"notqmail": points})
    series = {
        "notqmail": [(float(key), line.ours) for key, line in row.lines.items() if line.ours is not None],
        "Postfix": [(float(key), line.other) for key, line in row.lines.items() if line.other is not None],
    }
    return plots.draw(title, x_title, y_title, series, log_y=name in _WIDE)
