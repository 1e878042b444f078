"""The row of sessions that do nothing: what they cost, and how long a new client waits for its greeting meanwhile."""

import asyncio
import contextlib
import resource
import statistics
import time
from collections.abc import AsyncIterator

import client
from meter import proportional_kb, what_proc_says
from report import Bar, Row
from sides import Bench, Side

_OUR_SESSIONS, _PEER_SESSIONS = 10_000, 80  # Postfix has 100 processes for sessions by default, and one for each
_NEW_SESSIONS = 200
_AT_ONCE = 100
_SOME_S = 30.0


def raise_descriptors() -> int:
    """Makes room for this many sessions at both ends, as far as we may; returns how many descriptors there are."""
    wanted = 2 * _OUR_SESSIONS + 8_192
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((max(wanted, soft), max(wanted, hard)), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            break
        except (OSError, ValueError):
            continue  # only root may raise the hard limit
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@contextlib.asynccontextmanager
async def _idle_sessions(port: int, number: int) -> AsyncIterator[None]:
    """So many sessions that have said EHLO and say no more."""
    writers: list[asyncio.StreamWriter] = []

    async def open_one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        await reader.readline()
        writer.write(b"EHLO idle.test\r\n")
        while (await reader.readline())[3:4] == b"-":
            pass

    try:
        for first in range(0, number, _AT_ONCE):
            async with asyncio.timeout(_SOME_S):
                await asyncio.gather(*(open_one() for _ in range(min(_AT_ONCE, number - first))))
        yield
    finally:
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.1)


def _greeting_ms(port: int) -> float:
    start = time.monotonic()
    session = client.Session(port)
    took_ms = (time.monotonic() - start) * 1e3
    session.ask(b"QUIT", b"2")
    session.close()
    return took_ms


def _of_session_processes_kb(side: Side) -> int:
    """Memory of the peer's processes that have one session each; 0 for ours, which has none."""
    return sum(proportional_kb(pid) for pid in side.meter.pids() if what_proc_says(pid, "comm").strip() == b"smtpd")


async def measure(side: Side, number: int, new: int) -> dict[str, float]:
    """Memory with the sessions and without, and the greetings of `new` new ones, one after the other."""
    before_mb = side.meter.memory_mb()
    start = time.monotonic()
    async with _idle_sessions(side.system.port, number):
        took_s = time.monotonic() - start
        with_mb = side.meter.memory_mb()
        greetings = [await asyncio.to_thread(_greeting_ms, side.system.port) for _ in range(new)]
        own_kb = _of_session_processes_kb(side)  # while they are there
    each_kb = own_kb / number if own_kb else (with_mb - before_mb) * 1024 / number
    return {
        "memory_mb": with_mb, "each_kb": each_kb,
        "greeting_ms": statistics.median(greetings), "greeting_max_ms": max(greetings), "open_per_s": number / took_s,
    }  # fmt: skip


def row(bench: Bench) -> Row:
    """Once each: memory does not wander as speed does."""
    ours, theirs = bench.sides()
    room = (raise_descriptors() - 128) // 2  # our resident counts two descriptors for a session
    number = min(200 if bench.quick else _OUR_SESSIONS, room)
    peers, new = (20, 20) if bench.quick else (_PEER_SESSIONS, _NEW_SESSIONS)
    row = Row("idle", "idle sessions on one resident", f"{number} sessions of ours, {peers} of Postfix")
    row.line("memory_mb", "MB in all (PSS of every process of the side)", Bar("ours", "<", 80))
    row.line("each_kb", "kB a session")
    row.line("greeting_ms", "ms until a new session is greeted, median")
    row.line("greeting_max_ms", f"ms until a new session is greeted, slowest of {new}", Bar("ours", "<", 20))
    row.line("open_per_s", "sessions/s while they were opened")
    got = {side.name: asyncio.run(measure(side, count, new)) for side, count in ((ours, number), (theirs, peers))}
    would_mb = got["postfix"]["memory_mb"] + got["postfix"]["each_kb"] * (number - peers) / 1024
    got["postfix"]["memory_mb"] = would_mb
    row.add(got["ours"], got["postfix"])
    row.note(f"Postfix has a process for each session: its MB are extrapolated from {peers} sessions to {number}, the "
             f"rest is measured with {peers}; by default it serves 100 at a time")  # fmt: skip
    row.note("kernel memory (socket buffers) is in neither figure")
    if number < _OUR_SESSIONS and not bench.quick:
        row.note(f"only {number}: this user may not have more descriptors")
    return row
