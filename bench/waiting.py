"""The row of a long queue: very many messages wait for their next try; what do new ones notice of it?

The waiting messages are made directly, as files of a preprocessed queue (docs of the layout: queue/layout.py), due
tomorrow: sending a million would take an hour. Beside the long queue an empty one stands on the same disk.
"""

import os
import time
from pathlib import Path

import disk
import load
import ours
from meter import Meter, proportional_kb, what_proc_says
from report import Bar, Row
from sides import Bench, Side, alternating, say, show_logs, take_down

from notqmail.queue.layout import split_path

_DAY_S = 86_400
_HOUR_S = 3_600
_REST_MAX_S = 600.0
_MESSAGE = b"Received: (qmail 1 invoked by uid 0); 1 Jan 2026 00:00:00 -0000\nSubject: waiting\n\nwaiting\n"
FILES_EACH = 3
_ROOM_EACH = FILES_EACH * 4_096 + 400


def room_bytes(messages: int) -> int:
    """What so many take of a disk, directories included."""
    return messages * _ROOM_EACH


def fill(home: Path, first: int, last: int) -> float:
    """Puts the messages with these serial numbers into the queue of `home`, which nobody uses; returns the seconds."""
    start_s = time.monotonic()
    now_s = int(time.time())
    queue = bytes(home / "queue")
    fresh = queue + b"/pid/waiting"
    for serial in range(first, last):
        _write(fresh, _MESSAGE)
        number = os.stat(fresh).st_ino
        os.rename(fresh, queue + b"/" + split_path(b"mess", number))
        for kind, text, when_s in (
            (b"info", b"Fsender@source.test\0", now_s - _HOUR_S),
            (b"remote", b"Tr%d@h%d.test\0" % (serial, serial % 1000), now_s + _DAY_S),
        ):
            path = queue + b"/" + split_path(kind, number)
            _write(path, text)
            os.utime(path, (now_s, when_s))
    os.sync()
    return time.monotonic() - start_s


def _write(path: bytes, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(descriptor, data)
    os.close(descriptor)


def stand(name: str, place: Path) -> Side:
    """A home with a meter, not started."""
    meter = Meter(name)
    return Side(name, ours.OurSystem(place, load.free_port(), wrap=meter.inside), meter)


def start_timed(side: Side) -> dict[str, float]:
    """Starts it, which ends when qmail-send has read the queue; then waits for rest."""
    begin = time.monotonic()
    side.system.start()
    start_s = time.monotonic() - begin
    side.meter.wait_idle(_REST_MAX_S)
    return {"start_s": start_s, "rest_s": time.monotonic() - begin - start_s, "sender_mb": sender_mb(side)}


def sender_mb(side: Side) -> float:
    """Memory of the process that keeps the schedule."""
    for pid in side.meter.pids():
        if b"bin/qmail-send" in what_proc_says(pid, "cmdline"):
            return proportional_kb(pid) / 1024
    raise RuntimeError("there is no qmail-send")


def traffic(side: Side, messages: int) -> dict[str, float]:
    """Ordinary mail to the Maildir."""
    load.empty_maildir(side.system.maildir)
    before_s, start_s = side.meter.processor_s(), time.monotonic()
    load.send(side.system.port, side.recipient, messages, deadline_s=120)
    accepted_s = time.monotonic() - start_s
    load.wait_delivered(side.system.maildir, messages, deadline_s=120)
    done_s = time.monotonic() - start_s
    side.meter.wait_idle()
    return {
        "accepted_per_s": messages / accepted_s, "delivered_per_s": messages / done_s,
        "processor_ms": (side.meter.processor_s() - before_s) / messages * 1e3,
    }  # fmt: skip


def _row(bench: Bench, pairs: int, messages: int) -> Row:
    row = Row("waiting", f"{bench.waiting} waiting messages", f"{messages} new messages, {pairs} pairs", "empty queue")
    row.line("accepted_per_s", "messages/s accepted (250)", Bar("ratio", ">=", 0.9))
    row.line("delivered_per_s", "messages/s, start to last delivery")
    row.line("processor_ms", "ms of processor a message (new ones)", Bar("ratio", "<=", 1.1))
    row.line("sender_mb", "MB of qmail-send", Bar("ours", "<", 1000))
    row.line("start_s", "seconds to start (directories not in memory)", Bar("ours", "<", 60))
    row.line("rest_s", "seconds after it until all is quiet (collecting)")
    return row


def row(bench: Bench) -> Row:
    """One long queue, all pairs. Raises load.Late, RuntimeError."""
    pairs, messages = (1, 50) if bench.quick else (bench.pairs, min(1000, bench.messages))
    row = _row(bench, pairs, messages)
    with disk.roomy(bench.roomy, room_bytes(bench.waiting), bench.waiting * FILES_EACH, small=bench.quick) as room:
        long, empty = stand("long", room.directory / "long"), stand("empty", room.directory / "empty")
        try:
            took_s = fill(long.system.home, 0, bench.waiting)
            say(f"  {bench.waiting} messages made in {took_s:.0f} s")
            room.forget_what_was_read()
            row.add(start_timed(long), start_timed(empty))
            for side in (long, empty):
                traffic(side, messages // 5)
            for number in range(pairs):
                got = {side.name: traffic(side, messages) for side in alternating([long, empty], number)}
                row.add(got["long"], got["empty"])
        except (load.Late, RuntimeError):
            show_logs([long, empty])
            raise
        finally:
            take_down([long, empty], abruptly=True)  # nothing of them is needed any more
    if not room.forgets:
        row.note("the start found the directories in memory")
    return row
