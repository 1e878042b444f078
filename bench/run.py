#!/usr/bin/env python3
"""`make bench`: our system beside Postfix, on this machine, in this run; ratios, no verdicts.

Both sides stand side by side in one directory (so on one file system), idle until it is their turn. A measurement
sends with Postfix's smtp-source and ends when the last message is in the Maildir or at the sink. Measurements come
in pairs, first one side then the other, the order changing from pair to pair; the ratio is the median of the pairs'
ratios, for this machine's speed wanders. Processor time is that of all processes of a side, clean-up included;
the load generator, the sink and the kernel's own writing belong to neither.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import disk
import floor
import load
import ours
import postfix
import startup
from meter import Meter
from report import Figure, Row, facts, print_table, record

MEASUREMENT_MAX_S = 120.0


class Side:
    """One of the two systems with its meter."""

    def __init__(self, name: str, system: "ours.OurSystem | postfix.PrivatePostfix", meter: Meter) -> None:
        self.name, self.system, self.meter = name, system, meter
        self.recipient = getattr(system, "recipient", "bench@bench.test")


class Work:
    """One row: what is sent, and when it counts as done."""

    def __init__(self, title: str, messages: int, *, sessions: int, keep: bool, relay: bool, size: int = 4096) -> None:
        self.title, self.messages, self.sessions, self.keep = title, messages, sessions, keep
        self.relay, self.size = relay, size


def works(messages: int) -> dict[str, Work]:
    """The rows, by the names --rows knows."""
    return {
        "maildir": Work("SMTP -> queue -> Maildir, 20 sessions, one message a session", messages,
                        sessions=20, keep=False, relay=False),
        "many": Work("SMTP -> queue -> Maildir, 20 sessions, many messages a session", messages,
                     sessions=20, keep=True, relay=False),
        "single": Work("SMTP -> queue -> Maildir, one message at a time", max(50, messages // 4),
                       sessions=1, keep=True, relay=False),
        "relay": Work("SMTP -> queue -> SMTP sink, 20 sessions", messages, sessions=20, keep=False, relay=True),
    }  # fmt: skip


def measure(side: Side, work: Work, sink_port: int, directory: Path) -> Figure:
    """One measurement of one side. Raises load.Late, RuntimeError."""
    end = time.monotonic() + MEASUREMENT_MAX_S
    load.empty_maildir(side.system.maildir)
    sink = load.Sink(sink_port, directory / "sink") if work.relay else None
    try:
        processor_before, start = side.meter.processor_s(), time.monotonic()
        recipient = "someone@away.test" if work.relay else side.recipient
        load.send(side.system.port, recipient, work.messages, sessions=work.sessions, keep_session=work.keep,
                  bytes_each=work.size, deadline_s=MEASUREMENT_MAX_S)  # fmt: skip
        accepted_s = time.monotonic() - start
        if sink:
            sink.wait(work.messages, deadline_s=end - time.monotonic())
        else:
            load.wait_delivered(side.system.maildir, work.messages, deadline_s=end - time.monotonic())
        done_s = time.monotonic() - start
        memory_mb = side.meter.memory_mb()
        side.meter.wait_idle()
    finally:
        if sink:
            sink.stop()
    processor_s = side.meter.processor_s() - processor_before
    return Figure(work.messages / done_s, work.messages / accepted_s, processor_s / work.messages * 1e3, memory_mb)


def compare(sides: list[Side], work: Work, pairs: int, sink_port: int, directory: Path) -> Row:
    """All pairs of one row, after a warm-up that does not count."""
    row = Row(work.title, work.messages)
    warm_up = Work(work.title, max(20, work.messages // 10), sessions=work.sessions, keep=work.keep, relay=work.relay)
    for side in sides:
        measure(side, warm_up, sink_port, directory)
    for number in range(pairs):
        got = {}
        for side in sides if number % 2 == 0 else reversed(sides):
            got[side.name] = figure = measure(side, work, sink_port, directory)
            say(f"  pair {number + 1}/{pairs} {side.name:8} {figure.messages_per_s:7.0f} messages/s "
                f"{figure.processor_ms:6.2f} ms of processor a message")  # fmt: skip
        row.add(got["ours"], got["postfix"])
    return row


def say(text: str) -> None:
    """Progress, at once."""
    print(text, flush=True)


def stand_up(directory: Path, agent: str, sink_port: int) -> list[Side]:
    """Both systems, started. What was started before a failure is stopped again."""
    sides: list[Side] = []
    builders: list[tuple[str, Callable[[Meter], ours.OurSystem | postfix.PrivatePostfix]]] = [
        ("ours", lambda m: ours.OurSystem(directory / "ours", load.free_port(), relay_port=sink_port, wrap=m.inside)),
        ("postfix", lambda m: postfix.PrivatePostfix(directory / "postfix", load.free_port(), relay_port=sink_port,
                                                     agent=agent, wrap=m.inside)),
    ]  # fmt: skip
    try:
        for name, build in builders:
            say(f"starting {name}")
            meter = Meter(name)
            side = Side(name, build(meter), meter)
            sides.append(side)
            side.system.start()
            load.wait_listening(side.system.port)
            meter.parents.update(side.system.top_pids)
    except BaseException:
        take_down(sides)
        raise
    return sides


def take_down(sides: list[Side]) -> None:
    """Stops both and says what is left; nothing should be."""
    for side in sides:
        try:
            side.system.stop()
        except RuntimeError as error:
            say(f"{side.name}: {error}")
        if left := side.meter.close():
            say(f"{side.name}: processes left behind: {left}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="our system beside Postfix: ratios from the same run")
    parser.add_argument("--pairs", type=int, default=5, help="measurements of each side for each row (default 5)")
    parser.add_argument("--messages", type=int, default=3000, help="messages in a measurement (default 3000)")
    parser.add_argument("--quick", action="store_true", help="one pair of 300 messages: does it work at all?")
    parser.add_argument("--rows", default="maildir,many,single,relay", help="which rows (default: all)")
    parser.add_argument("--postfix-agent", choices=("virtual", "local"), default="virtual",
                        help="who delivers for Postfix; virtual(8) is the faster one (default)")  # fmt: skip
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where both sides live (a real disk)")
    parser.add_argument("--record", action="store_true", help="keep the figures in bench/history/")
    parser.add_argument("--disk", choices=("auto", "here", "image"), default="auto",
                        help="that directory's own, or a journaled ext4 in a file there (auto: as needed)")  # fmt: skip
    parser.add_argument("--keep-logs", type=Path, metavar="DIRECTORY", help="copy both logs there at the end")
    parser.add_argument("--no-floor", action="store_true", help="skip floor and start-up figures")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.pairs, chosen.messages = 1, 300
    unknown = set(chosen.rows.split(",")) - set(works(1))
    if unknown or chosen.pairs < 1 or chosen.messages < 20:
        parser.error(f"rows are {', '.join(works(1))}; at least one pair and 20 messages")
    return chosen


def main() -> int:
    """0 measured; 1 a side failed; 2 something needed is not there."""
    chosen = arguments()
    lacking = dict.fromkeys(postfix.missing() + load.missing() + ours.missing())
    if lacking:
        print("cannot compare, missing: " + "; ".join(lacking), file=sys.stderr)
        return 2
    try:
        with disk.place(chosen.directory, chosen.disk) as directory:
            about = facts(directory, chosen.postfix_agent, chosen.pairs)
            rows = measure_all(directory, chosen, about)
            floors = {} if chosen.no_floor else floor.measure(directory)
    except (load.Late, RuntimeError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    starts = {} if chosen.no_floor else startup.measure()
    print_table(about, rows, floors, starts)
    if chosen.record:
        say(f"recorded in {record(about, rows, floors, starts)}")
    return 0


def measure_all(directory: Path, chosen: argparse.Namespace, about: dict[str, str]) -> list[Row]:
    """Every chosen row; both systems run only meanwhile. Raises load.Late, RuntimeError, after showing both logs."""
    sink_port = load.free_port()
    sides, rows = stand_up(directory, chosen.postfix_agent, sink_port), []
    about["method"] += f"; processor time from {' and '.join(sorted({side.meter.method for side in sides}))}"
    try:
        for name in chosen.rows.split(","):
            work = works(chosen.messages)[name]
            say(f"{work.title} ({work.messages} messages of {work.size} bytes)")
            rows.append(compare(sides, work, chosen.pairs, sink_port, directory))
    except (load.Late, RuntimeError):
        show_logs(sides)
        raise
    finally:
        take_down(sides)
        if chosen.keep_logs:
            for side in sides:
                shutil.copy(side.system.log, chosen.keep_logs / f"{side.name}.log")
    return rows


def show_logs(sides: list[Side]) -> None:
    """The end of both logs, for whoever looks for the reason."""
    for side in sides:
        log = side.system.log.read_text(errors="replace") if side.system.log.exists() else ""
        print(f"--- last lines of {side.name} ---\n" + "\n".join(log.splitlines()[-15:]), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
