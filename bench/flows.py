"""The rows of steady traffic: many messages through the whole system, as fast as they go."""

import time

import load
from report import Bar, Row
from sides import Bench, Side, alternating, say

MEASUREMENT_MAX_S = 120.0


class Work:
    """What is sent, how, and what is asked of it."""

    def __init__(
        self, title: str, messages: int, *, sessions: int, keep: bool, relay: bool, size: int = load.MESSAGE_BYTES,
        rate_bar: float | None = None, processor_bar: float | None = None,
    ) -> None:  # fmt: skip
        self.title, self.messages, self.sessions, self.keep = title, messages, sessions, keep
        self.relay, self.size = relay, size
        self.rate_bar, self.processor_bar = rate_bar, processor_bar


def works(messages: int) -> dict[str, Work]:
    """The rows, by name."""
    return {
        "maildir": Work("SMTP -> queue -> Maildir, 20 sessions, one message a session", messages,
                        sessions=20, keep=False, relay=False, rate_bar=2.0, processor_bar=0.4),
        "many": Work("SMTP -> queue -> Maildir, 20 sessions, many messages a session", messages,
                     sessions=20, keep=True, relay=False, rate_bar=2.0, processor_bar=0.4),
        "single": Work("SMTP -> queue -> Maildir, one session, a message as soon as the last has its 250",
                       max(50, messages // 4), sessions=1, keep=True, relay=False, rate_bar=1.0),
        "relay": Work("SMTP -> queue -> SMTP sink, 20 sessions", messages, sessions=20, keep=False, relay=True,
                      rate_bar=1.5),
    }  # fmt: skip


def measure(side: Side, work: Work, bench: Bench) -> dict[str, float]:
    """One measurement of one side. Raises load.Late, RuntimeError."""
    end = time.monotonic() + MEASUREMENT_MAX_S
    load.empty_maildir(side.system.maildir)
    sink = load.Sink(bench.relay_port, bench.directory / "sink") if work.relay else None
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
    return {
        "messages_per_s": work.messages / done_s, "accepted_per_s": work.messages / accepted_s,
        "processor_ms": processor_s / work.messages * 1e3, "memory_mb": memory_mb,
    }  # fmt: skip


def row(bench: Bench, name: str) -> Row:
    """All pairs of one row, after a warm-up that does not count."""
    work, sides = works(bench.messages)[name], bench.sides()
    row = Row(name, work.title, f"{work.messages} messages of {work.size} bytes, {bench.pairs} pairs")
    row.line(
        "messages_per_s", "messages/s, start to last delivery", work.rate_bar and Bar("ratio", ">=", work.rate_bar)
    )
    row.line("accepted_per_s", "messages/s accepted (250)")
    row.line("processor_ms", "ms of processor a message",
             work.processor_bar and Bar("ratio", "<=", work.processor_bar))  # fmt: skip
    row.line("memory_mb", "MB resident (PSS) at the end")
    warm_up = Work(work.title, max(20, work.messages // 10), sessions=work.sessions, keep=work.keep, relay=work.relay)
    for side in sides:
        measure(side, warm_up, bench)
    for number in range(bench.pairs):
        got = {}
        for side in alternating(sides, number):
            got[side.name] = figure = measure(side, work, bench)
            say(f"  pair {number + 1}/{bench.pairs} {side.name:8} {figure['messages_per_s']:7.0f} messages/s "
                f"{figure['processor_ms']:6.2f} ms of processor a message")  # fmt: skip
        row.add(got["ours"], got["postfix"])
    return row
