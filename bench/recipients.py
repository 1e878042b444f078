"""The row of one message to very many recipients at one host: one transaction could do it, or a thousand."""

import time
from pathlib import Path

import client
import load
import sink
from report import Bar, Row
from sides import Bench, Side, alternating

_DEADLINE_S = 120.0
_SESSION_MAX = 1000  # recipients: what Postfix takes in one message by default


def measure(side: Side, recipients: int, counts: sink.Counts) -> dict[str, float]:
    """One message, from MAIL FROM to the last recipient accepted by the sink. Raises load.Late."""
    before = {name: counts.get(name) for name in ("sessions", "transactions", "recipients")}
    processor_before, start = side.meter.processor_s(), time.monotonic()
    with client.Session(side.system.port) as session:
        addresses = [f"r{number}@away.test" for number in range(recipients)]
        session.send("sender@source.test", addresses, client.content(load.MESSAGE_BYTES))
    accepted_s = time.monotonic() - start
    sink.wait_for(counts, "recipients", before["recipients"] + recipients, deadline_s=_DEADLINE_S)
    done_s = time.monotonic() - start
    side.meter.wait_idle()
    return {
        "done_s": done_s, "accepted_s": accepted_s,
        "transactions": counts.get("transactions") - before["transactions"],
        "sessions": counts.get("sessions") - before["sessions"],
        "processor_ms": (side.meter.processor_s() - processor_before) / recipients * 1e3,
        "recipients_per_s": recipients / done_s,
    }  # fmt: skip


def counting_sink(bench: Bench) -> sink.SinkProcess:
    """Where the shared pair relays to."""
    return sink.SinkProcess(Path(bench.directory / "counts"), doors=[["127.0.0.1", bench.relay_port, {}]])


def row(bench: Bench) -> Row:
    """All pairs, after a warm-up."""
    recipients = 100 if bench.quick else _SESSION_MAX
    row = Row(
        "recipients", "one message to many recipients at one host", f"{recipients} recipients, {bench.pairs} pairs"
    )
    row.line("done_s", "seconds to the last recipient")
    row.line("recipients_per_s", "recipients/s", Bar("ratio", ">=", 1.0))
    row.line("accepted_s", "seconds to 250")
    row.line("transactions", "transactions seen by the host", Bar("ours", "<=", 20))
    row.line("sessions", "sessions seen by the host")
    row.line("processor_ms", "ms of processor a recipient")
    with counting_sink(bench) as counts:
        for side in bench.sides():
            measure(side, 10, counts)
        for number in range(bench.pairs):
            got = {side.name: measure(side, recipients, counts) for side in alternating(bench.sides(), number)}
            row.add(got["ours"], got["postfix"])
    return row
