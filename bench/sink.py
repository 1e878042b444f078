#!/usr/bin/env python3
"""An SMTP sink that counts transactions and recipients, and misbehaves where it is told to.

    python sink.py COUNTS '{"doors": [["127.0.0.1", 2525, {"reply_s": 0.1}]], "dead": ["127.3.0.1"]}'

Behaviour of a door (or, in a private network, of the addresses that begin with a key of `by_address`):
`greet_s` before the greeting, `reply_s` before the reply to a message, `silent`: never a word, `drip_s`: so long
after each byte of a reply, `closes`: 421 after each message. `dead` addresses take no connection: SYNs vanish.
Counts are in a shared file (`Counts`), so that looking at them costs the sink nothing.
"""

import asyncio
import ctypes
import json
import mmap
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import load

_HEAD = struct.Struct("<8Q")
_KINDS = ("quick", "slow")  # whose recipients are counted apart: slow is what waits before it greets
_TIMES_MAX = 32_768
_BYTES = _HEAD.size + len(_KINDS) * (8 + _TIMES_MAX * 8)
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF: return 0, the packet is not for this socket
_SO_ATTACH_FILTER, _SO_REUSEPORT = 26, 15


class Counts:
    """The shared counts. `open` sessions now; `times(kind)` when (monotonic seconds) each recipient was accepted."""

    _NAMES = ("sessions", "transactions", "recipients", "open", "repeated")

    def __init__(self, path: Path, *, create: bool = False) -> None:
        with path.open("w+b" if create else "r+b") as file:
            if create:
                file.truncate(_BYTES)
            self._map = mmap.mmap(file.fileno(), _BYTES)

    def get(self, name: str) -> int:
        """One of sessions, transactions, recipients, open, repeated."""
        return int(_HEAD.unpack_from(self._map)[self._NAMES.index(name)])

    def add(self, name: str, number: int = 1) -> None:
        """The sink alone does this."""
        at = self._NAMES.index(name) * 8
        (value,) = struct.unpack_from("<Q", self._map, at)
        struct.pack_into("<Q", self._map, at, value + number)

    def stamp(self, kind: int, times: int, now_s: float) -> None:
        """`times` recipients were accepted now."""
        base = _HEAD.size + kind * (8 + _TIMES_MAX * 8)
        (count,) = struct.unpack_from("<Q", self._map, base)
        for number in range(count, min(count + times, _TIMES_MAX)):
            struct.pack_into("<d", self._map, base + 8 + number * 8, now_s)
        struct.pack_into("<Q", self._map, base, count + times)

    def times(self, kind: str) -> tuple[float, ...]:
        """When each recipient of "quick" or "slow" doors was accepted, in order."""
        base = _HEAD.size + _KINDS.index(kind) * (8 + _TIMES_MAX * 8)
        (count,) = struct.unpack_from("<Q", self._map, base)
        return struct.unpack_from(f"<{min(count, _TIMES_MAX)}d", self._map, base + 8)

    def close(self) -> None:
        """Gives the mapping back."""
        self._map.close()


class Peer(asyncio.Protocol):
    """One session."""

    def __init__(self, sink: "Sink", behaviour: dict[str, float]) -> None:
        self.sink, self.how = sink, behaviour
        self.kind = 0
        self.recipients: list[bytes] = []
        self.kept = b""
        self.in_data = self.gone = False
        self.unsaid = b""
        self.dripping = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        here = transport.get_extra_info("sockname")[0]
        for start, behaviour in self.sink.by_address.items():
            if here.startswith(start):
                self.how, self.kind = behaviour, 1
        self.sink.counts.add("sessions")
        self.sink.counts.add("open")
        if not self.how.get("silent"):
            self.say(b"220 sink.test ESMTP\r\n", self.how.get("greet_s", 0))

    def connection_lost(self, _error: Exception | None) -> None:
        self.gone = True
        self.sink.counts.add("open", -1)

    def say(self, text: bytes, after_s: float = 0) -> None:
        """Now, later, or byte by byte."""
        if after_s:
            self.sink.loop.call_later(after_s, self.say, text)
        elif self.gone or self.transport.is_closing():
            return
        elif self.how.get("drip_s"):
            self.unsaid += text
            if not self.dripping:
                self.dripping = True
                self.drip()
        else:
            self.transport.write(text)

    def drip(self) -> None:
        if self.unsaid and not self.gone:
            self.transport.write(self.unsaid[:1])
            self.unsaid = self.unsaid[1:]
            self.sink.loop.call_later(self.how["drip_s"], self.drip)
        else:
            self.dripping = False

    def data_received(self, data: bytes) -> None:
        if self.how.get("silent"):
            return
        self.kept += data
        while self.kept:
            if self.in_data:
                if not self.take_body():
                    return
                continue
            line, found, rest = self.kept.partition(b"\r\n")
            if not found:
                return
            self.kept = rest
            self.obey(line)

    def take_body(self) -> bool:
        end = self.kept.find(b"\r\n.\r\n")
        if end < 0:
            self.kept = self.kept[-4:]
            return False
        self.kept, self.in_data = self.kept[end + 5 :], False
        counts = self.sink.counts
        counts.add("transactions")
        counts.add("recipients", len(self.recipients))
        counts.add("repeated", self.sink.seen_before(self.recipients))
        counts.stamp(self.kind, len(self.recipients), time.monotonic())
        self.recipients = []
        self.say(b"250 ok\r\n" + (b"421 enough for now\r\n" if self.how.get("closes") else b""),
                 self.how.get("reply_s", 0))  # fmt: skip
        if self.how.get("closes"):
            self.sink.loop.call_later(self.how.get("reply_s", 0), self.transport.close)
        return True

    def obey(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb == b"EHLO":
            self.say(b"250-sink.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
        elif verb == b"RCPT":
            self.recipients.append(line)
            self.say(b"250 ok\r\n")
        elif verb == b"DATA":
            self.in_data, self.kept = True, b"\r\n" + self.kept
            self.say(b"354 go on\r\n")
        elif verb == b"QUIT":
            self.say(b"221 bye\r\n")
            self.transport.close()
        else:
            self.say(b"250 ok\r\n")


class Sink:
    """All doors."""

    def __init__(self, counts: Counts, plan: dict[str, object], loop: asyncio.AbstractEventLoop) -> None:
        self.counts, self.loop = counts, loop
        self.by_address: dict[str, dict[str, float]] = dict(plan.get("by_address", {}))  # type: ignore[call-overload]
        self._seen: set[bytes] | None = set() if plan.get("unique") else None

    def seen_before(self, recipients: list[bytes]) -> int:
        """How many of them had this message already, where each gets one."""
        if self._seen is None:
            return 0
        again = sum(recipient in self._seen for recipient in recipients)
        self._seen.update(recipients)
        return again


def _bound(address: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, _SO_REUSEPORT, 1)  # one for all addresses beside those for single ones
    listener.bind((address, port))
    return listener


def _dead(address: str, port: int) -> socket.socket:
    """A listener that sees no packet, so that who connects waits in vain."""
    listener = _bound(address, port)
    code = ctypes.create_string_buffer(_DROP_ALL)
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(code)))
    listener.listen()
    return listener


async def serve(counts: Counts, plan: dict[str, list[tuple[str, int, dict[str, float]]]]) -> None:
    """Until SIGTERM."""
    loop = asyncio.get_running_loop()
    sink, over = Sink(counts, plan, loop), asyncio.Event()  # type: ignore[arg-type]
    loop.add_signal_handler(signal.SIGTERM, over.set)
    graves = [_dead(str(address), 25) for address in plan.get("dead", ())]
    for address, port, behaviour in plan["doors"]:
        await loop.create_server(lambda how=behaviour: Peer(sink, how), sock=_bound(address, port), backlog=1024)
    print("ready", flush=True)
    await over.wait()
    for grave in graves:
        grave.close()


class SinkProcess:
    """The sink in a process of its own, which belongs to no side; a context manager giving the counts."""

    def __init__(self, counts: Path, **plan: object) -> None:
        self._path, self._plan = counts, plan

    def __enter__(self) -> Counts:
        self._counts = Counts(self._path, create=True)
        argv = [sys.executable, __file__, str(self._path), json.dumps(self._plan)]
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            self.__exit__()
            raise RuntimeError("the sink does not come up")
        return self._counts

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._counts.close()


def wait_for(counts: Counts, name: str, number: int, *, deadline_s: float) -> None:
    """Returns when the sink has counted so many. Raises load.Late."""
    end = time.monotonic() + deadline_s
    while (seen := counts.get(name)) < number:
        if time.monotonic() > end:
            raise load.Late(f"the sink has seen {seen} of {number} {name}")
        time.sleep(min(0.1, max(0.002, (number - seen) * 0.0001)))


if __name__ == "__main__":
    try:
        from uvloop import new_event_loop
    except ImportError:
        from asyncio import new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(Counts(Path(sys.argv[1])), json.loads(sys.argv[2])))
