"""The other end of remote deliveries: an SMTP server that takes mail, and, while times are rough, has moods."""

import asyncio
import random
import re
import time

from chaos_book import Book, whole_numbers

_ADDRESS = re.compile(rb"<((?:sink|hard)-\d+-\d+)@")


MOODS = (
    ("hello 4xx", 0.02), ("rcpt 4xx", 0.08), ("rcpt 5xx", 0.04), ("dot 4xx", 0.06), ("dot 5xx", 0.03),
    ("drop before dot", 0.05), ("drop after dot", 0.05), ("take and drop", 0.04), ("slow", 0.05),
)  # fmt: skip


class Sink:
    """`calm`: every mood is over; only `hard-` addresses are refused still. `troubles` are (seconds, what)."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(f"sink/{seed}")
        self.calm = True
        self.book: Book | None = None
        self.port = 0
        self.moods: dict[str, int] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listens on a port of 127.0.0.1."""
        self._server = await asyncio.start_server(self._client, "127.0.0.1", 0, limit=4 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listens no more."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()

    def _mood(self) -> str:
        draw = 1.0 if self.calm else self._chance.random()
        for name, share in MOODS:
            if draw < share:
                self.moods[name] = self.moods.get(name, 0) + 1
                return name
            draw -= share
        return ""

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._session(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the client was killed, or it is over
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mood, keys = self._mood(), []
        book = self.book
        assert book is not None
        if mood == "slow":
            await asyncio.sleep(self._chance.random())
        writer.write(b"421 not now\r\n" if mood == "hello 4xx" else b"220 sink.test ESMTP\r\n")
        if mood == "hello 4xx":
            return
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"RCPT":
                found = _ADDRESS.search(line)
                key = found[1].decode() if found else "?"
                if found is None or key.startswith("hard-") or mood == "rcpt 5xx":
                    writer.write(b"550 nobody here\r\n")
                    book.sink_refused.add(key)
                elif mood == "rcpt 4xx":
                    writer.write(b"451 later\r\n")
                else:
                    keys.append(key)
                    writer.write(b"250 ok\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go\r\n")
                if not await self._take(reader, writer, mood, keys, book):
                    return
                keys = []
            else:
                writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 sink.test\r\n")
                if verb == b"QUIT":
                    return
            await writer.drain()

    async def _take(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mood: str, keys: list[str], book: Book
    ) -> bool:
        if mood == "drop before dot":
            await reader.readline()
            writer.transport.abort()
            return False
        data = await reader.readuntil(b"\r\n.\r\n")
        if mood in ("dot 4xx", "dot 5xx"):
            if mood == "dot 5xx":
                book.sink_refused.update(keys)
            writer.write(b"451 later\r\n" if mood == "dot 4xx" else b"554 no\r\n")
            return True
        if mood == "drop after dot":
            writer.transport.abort()
            return False
        content = re.sub(rb"^\.", b"", data[:-3].replace(b"\r\n", b"\n"), flags=re.MULTILINE)
        for key in keys:
            if whole_numbers(content) != [int(key.split("-")[1])]:
                book.fault(f"sink: {key}: not whole, {len(content)} bytes")
            else:
                now = time.time()
                book.arrivals[key].append((now, now))
        if mood == "take and drop":
            for key in keys:
                book.sink_repeats[key] += 1
            writer.transport.abort()
            return False
        writer.write(b"250 taken\r\n")
        return True
