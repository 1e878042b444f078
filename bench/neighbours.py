"""The rows of hostile neighbours: what others' traffic loses to clients and hosts that misbehave.

Two instances of the same system stand side by side, one left in peace, one beset; the same traffic goes through both
in turn. Beside ours, the same is done to Postfix, so that a reader knows what is usual.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import load
import ours
import postfix
import sink
from report import Bar, Row
from sides import Bench, Builder, Side, alternating

_CLIENTS = 50  # below the 200 of ours and the 100 processes of Postfix
_STUCK = 60  # messages to the bad host: three times what the slots of one destination hold
_PATIENCE = 5.0  # a beset system is given so many times what the other needed, then its rate is what it has done

# name: (title, trouble clients or None, behaviour of the bad host or None, what the traffic is)
_KINDS: dict[str, tuple[str, str | None, dict[str, float] | None, str]] = {
    "writers": (f"{_CLIENTS} clients that send a byte a second; mail to the Maildir", "writers", None, "maildir"),
    "readers": (f"{_CLIENTS} clients that never read; mail to the Maildir", "readers", None, "maildir"),
    "silent": (f"{_STUCK} messages to a host that never answers; relay to another", None, {"silent": 1}, "relay"),
    "drip": (f"{_STUCK} messages to a host that says a byte a second; relay to another", None, {"drip_s": 1}, "relay"),
    "closes": (f"{_STUCK} messages to a host that says 421 after each; relay to another", None, {"closes": 1}, "relay"),
}  # fmt: skip


class _Ports:
    def __init__(self) -> None:
        self.good, self.bad = load.free_port(), load.free_port()


def _builders(bench: Bench, peer: bool, ports: _Ports) -> list[tuple[str, Builder]]:
    """The quiet instance, then the beset one."""
    routes = f"bad.test:127.0.0.1:{ports.bad}\n:127.0.0.1:{ports.good}\n"
    maps = f"transport_maps = inline:{{bad.test=smtp:[127.0.0.1]:{ports.bad}}}\n"

    def one(base: Path) -> Builder:
        if peer:
            return lambda meter: postfix.PrivatePostfix(
                base, load.free_port(), relay_port=ports.good, agent=bench.agent, wrap=meter.inside, settings=maps,
            )  # fmt: skip
        return lambda meter: ours.OurSystem(base, load.free_port(), wrap=meter.inside, controls={"smtproutes": routes})

    return [(name, one(bench.fresh_directory(name))) for name in ("quiet", "beset")]


@contextmanager
def _besieged(side: Side, clients: str | None, bad: bool) -> Iterator[None]:
    """The trouble goes on until the end."""
    process = None
    if bad:
        load.send(side.system.port, "someone@bad.test", _STUCK, sessions=10, deadline_s=60)
    if clients:
        script = str(Path(__file__).parent / "trouble.py")
        argv = [sys.executable, script, clients, str(side.system.port), str(_CLIENTS), side.recipient]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait(10)
            assert process.stdout is not None
            process.stdout.close()


def _rate(side: Side, messages: int, traffic: str, counts: sink.Counts, patience_s: float) -> float:
    """Messages/s; where not all have come in time, of those that have. Raises load.Late when they are not accepted."""
    load.empty_maildir(side.system.maildir)
    before, start = counts.get("recipients"), time.monotonic()
    seen: Callable[[], int]
    if traffic == "relay":
        recipient, seen = "someone@away.test", lambda: counts.get("recipients") - before
    else:
        recipient, seen = side.recipient, lambda: sum(1 for _ in (side.system.maildir / "new").iterdir())
    load.send(side.system.port, recipient, messages, deadline_s=patience_s + 30)
    while (arrived := seen()) < messages and time.monotonic() < start + patience_s:
        time.sleep(0.01)
    return arrived / (time.monotonic() - start)


def _measure(bench: Bench, row: Row, key: str, peer: bool) -> None:
    """All pairs of one kind of trouble."""
    _, clients, bad, traffic = _KINDS[key]
    messages, pairs = (100, 1) if bench.quick else (min(1000, bench.messages), min(3, bench.pairs))
    ports = _Ports()
    with ExitStack() as stack:
        counts = stack.enter_context(
            sink.SinkProcess(bench.directory / "counts", doors=[["127.0.0.1", ports.good, {}]]))  # fmt: skip
        if bad:
            plan = sink.SinkProcess(bench.directory / "bad-counts", doors=[["127.0.0.1", ports.bad, bad]])
            stack.enter_context(plan)
        sides = stack.enter_context(bench.own_sides(_builders(bench, peer, ports), abruptly=True))
        for side in sides:
            _rate(side, max(20, messages // 5), traffic, counts, 30)
        stack.enter_context(_besieged(sides[1], clients, bad is not None))
        quiet_s = messages / _rate(sides[0], messages, traffic, counts, 60)
        patience_s = max(1.5 if bench.quick else 4.0, _PATIENCE * quiet_s)
        for number in range(pairs):
            got = {side.name: _rate(side, messages, traffic, counts, patience_s) for side in alternating(sides, number)}
            row.add({key: got["beset"]}, {key: got["quiet"]})


def rows(bench: Bench) -> list[Row]:
    """Ours, then Postfix, each beside itself in peace."""
    made = []
    for peer in (False,) if bench.quick else (False, True):
        who = "Postfix" if peer else "ours"
        row = Row("neighbours" + ("-postfix" if peer else ""), f"messages/s of honest traffic, {who} beset by others",
                  "two instances side by side", other="in peace", mine="beset")  # fmt: skip
        for key, (title, *_) in _KINDS.items():
            if not bench.quick or key in ("writers", "silent"):
                row.line(key, title, None if peer else Bar("ratio", ">=", 0.9))
                _measure(bench, row, key, peer)
        row.note("default concurrency")
        made.append(row)
    return made
