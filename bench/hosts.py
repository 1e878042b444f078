"""The row of a large list: many recipients at many hosts, some of them dead, some slow. Who waits for whom?

In a network of its own: host N is an address of its own under 127/8 with port 25, known by DNS as anywhere. Dead
hosts take no connection, slow ones think before they greet. Both sides have the same concurrency and the same
time-out for connections.
"""

import random
import socket
import statistics
import time
from pathlib import Path

import client
import load
import namespace
import ours
import postfix
import sink
from report import Bar, Row
from sides import Bench, Side, start, take_down

from notqmail.testing.dns_server import FakeDnsServer

_EACH = 10  # recipients at a host
_CONCURRENCY = 100  # deliveries at once: Postfix's default_process_limit, so concurrencyremote too
_RECIPIENTS_A_MESSAGE = 1000
_SEED = 4


class Net:
    """How many hosts, which are what, how long they take."""

    def __init__(self, *, hosts: int, slow_s: float, dead_s: float, deadline_s: float) -> None:
        self.slow_s, self.dead_s, self.deadline_s = slow_s, dead_s, deadline_s
        kinds = ["dead"] * (hosts // 10) + ["slow"] * (hosts // 10)
        kinds += ["quick"] * (hosts - len(kinds))
        random.Random(_SEED).shuffle(kinds)
        self.kinds = kinds

    def address(self, host: int) -> str:
        """127.1.x.y answers, 127.2.x.y is slow, 127.3.x.y dead."""
        network = {"quick": 1, "slow": 2, "dead": 3}[self.kinds[host]]
        return f"127.{network}.{host // 250}.{host % 250 + 1}"

    def recipients(self) -> list[str]:
        """Host by host, as a sorted list has them."""
        return [f"r{number}@h{host}.test" for host in range(len(self.kinds)) for number in range(_EACH)]

    def count(self, kind: str) -> int:
        """Recipients at hosts of this kind."""
        return self.kinds.count(kind) * _EACH


class DnsServer(FakeDnsServer):
    """On the port that resolv.conf means: in there nobody else has it."""

    def _bind_both(self) -> None:
        self._udp.bind(("127.0.0.1", 53))
        self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
        self._tcp.bind(("127.0.0.1", 53))
        self._tcp.listen()


def _dns(net: Net) -> DnsServer:
    server = DnsServer()
    for host in range(len(net.kinds)):
        server.records(f"h{host}.test", "MX", f"10 mx.h{host}.test.", ttl_s=3600)
        server.records(f"mx.h{host}.test", "A", net.address(host), ttl_s=3600)
    return server


def _measure(side: Side, net: Net, counts: sink.Counts) -> dict[str, float]:
    """Injects the whole list, waits until every live recipient has it, or the time is up."""
    recipients = net.recipients()
    message = client.content(load.MESSAGE_BYTES)
    start_s = time.monotonic()
    with client.Session(side.system.port) as session:
        for first in range(0, len(recipients), _RECIPIENTS_A_MESSAGE):
            session.send("sender@source.test", recipients[first : first + _RECIPIENTS_A_MESSAGE], message)
    accepted_s = time.monotonic() - start_s
    live = net.count("quick") + net.count("slow")
    while counts.get("recipients") < live and time.monotonic() < start_s + net.deadline_s:
        time.sleep(0.02)
    quick = sorted(at_s - start_s for at_s in counts.times("quick"))
    slow = sorted(at_s - start_s for at_s in counts.times("slow"))
    quick += [net.deadline_s] * (net.count("quick") - len(quick))  # not yet: waiting at least so long
    slow += [net.deadline_s] * (net.count("slow") - len(slow))
    return {
        "accepted_s": accepted_s, "quick_s": quick[-1], "quick_median_s": statistics.median(quick),
        "live_s": max(quick + slow), "per_s": live / max(quick + slow),
        "missing": max(0, live - counts.get("recipients")), "repeated": counts.get("repeated"),
        "transactions": counts.get("transactions"),
        "processor_ms": side.meter.processor_s() / live * 1e3,
    }  # fmt: skip


def _one_side(bench: Bench, which: int, net: Net) -> dict[str, float]:
    """In the namespace: everything stands up, is measured, and goes."""
    timeout_s = f"{net.dead_s:g}"
    builder = bench.both(
        lambda base, wrap: ours.OurSystem(
            base, 2525, wrap=wrap,
            controls={"concurrencyremote": f"{_CONCURRENCY}\n", "timeoutconnect": f"{timeout_s}\n"},
        ),
        lambda base, wrap: postfix.PrivatePostfix(
            base, 2525, wrap=wrap,
            settings=f"relayhost =\nsmtp_connect_timeout = {timeout_s}s\n"
                     f"default_process_limit = {_CONCURRENCY}\nsmtp_address_preference = ipv4\n",
        ),
    )[which]  # fmt: skip
    doors = [["0.0.0.0", 25, {}]]
    slow = {"127.2.": {"greet_s": net.slow_s}}
    dead = [net.address(host) for host, kind in enumerate(net.kinds) if kind == "dead"]
    plan = {"doors": doors, "by_address": slow, "dead": dead, "unique": True}
    with _dns(net), sink.SinkProcess(bench.directory / "counts", **plan) as counts:
        sides = start([builder])
        try:
            return _measure(sides[0], net, counts)
        finally:
            take_down(sides, abruptly=True)
            if bench.keep_logs is not None:
                log = sides[0].system.log
                (bench.keep_logs / f"hosts-{sides[0].name}.log").write_bytes(log.read_bytes())


def row(bench: Bench) -> Row:
    """All pairs."""
    if bench.quick:
        net, pairs = Net(hosts=20, slow_s=0.3, dead_s=2, deadline_s=8), 1
    else:
        net, pairs = Net(hosts=1000, slow_s=5, dead_s=30, deadline_s=300), 1
    title = (f"{len(net.recipients())} recipients at {len(net.kinds)} hosts, 10 % dead ({net.dead_s:g} s), "
             f"10 % slow ({net.slow_s:g} s)")  # fmt: skip
    row = Row("hosts", title, f"{_CONCURRENCY} deliveries at once on both sides, {_RECIPIENTS_A_MESSAGE} recipients a "
              f"message, {pairs} pairs; ours does not count up to 400 that take longer than 3 s")  # fmt: skip
    row.line("per_s", "live recipients/s, until the last of them", Bar("ratio", ">=", 1.5))
    row.line("live_s", "seconds until the last live recipient")
    row.line("quick_s", "seconds until the last recipient at a quick host")
    row.line("quick_median_s", "seconds, median of the recipients at quick hosts")
    row.line("missing", "live recipients still waiting at the end", Bar("ours", "<=", 0))
    row.line("repeated", "recipients served twice", Bar("ours", "<=", 0))
    row.line("accepted_s", "seconds until all messages had their 250")
    row.line("transactions", "transactions at the hosts")
    row.line("processor_ms", "ms of processor a live recipient")
    resolv_conf = Path(bench.directory / "resolv.conf")
    resolv_conf.write_text("nameserver 127.0.0.1\n")
    for number in range(pairs):
        got = {}
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            got[which] = namespace.run(lambda which=which: _one_side(bench, which, net), resolv_conf)
        row.add(got[0], got[1])  # type: ignore[arg-type]
    row.note("DNS: one server for both sides, no cache between; a live recipient not reached counts as reached at the "
             f"end of the time, {net.deadline_s:g} s")  # fmt: skip
    return row
