"""The DNS for a resident: the same questions as unix.resolver, without waiting, with a memory.

An answer is remembered for its TTL, a clear no as long as the SOA says; a doubt (SOFT) is not. Who asks what is being
asked already waits for that answer. The memory is bounded: the entries that were put in first go first.
"""

import asyncio
import socket

from notqmail.unix.resolver import (
    HARD,
    SOFT,
    TRY_S,
    Answer,
    Query,
    ServerFailed,
    Truncated,
    both_families,
    family_of,
    tries,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from notqmail.unix.resolver import Server

    class AsyncResolver(Protocol):
        """unix.resolver.Resolver for residents."""

        async def mx(self, host: bytes) -> Answer: ...
        async def addresses(self, host: bytes) -> Answer: ...


REMEMBERED_MAX = 20_000


class AsyncDnsResolver:
    """Asks the servers from one event loop. `steady_s` is a clock that only goes forward."""

    def __init__(
        self, servers: "Sequence[Server]", *, steady_s: "Callable[[], float]", try_s: float = TRY_S,
        remembered_max: int = REMEMBERED_MAX,
    ) -> None:  # fmt: skip
        self._servers, self._steady_s, self._try_s = list(servers), steady_s, try_s
        self._remembered: dict[tuple[bytes, str], tuple[float, Answer]] = {}
        self._remembered_max = remembered_max
        self._asking: dict[tuple[bytes, str], asyncio.Future[Answer]] = {}

    async def mx(self, host: bytes) -> Answer:
        """The mail exchangers of a host."""
        return self._recall(host, "MX") or await self._ask_once(host, "MX")

    async def addresses(self, host: bytes) -> Answer:
        """The addresses of a host, of both families, asked for at the same time."""
        four, six = self._recall(host, "A"), self._recall(host, "AAAA")
        if four is not None and six is not None:
            return both_families(four, six)
        return both_families(*await asyncio.gather(self._ask_once(host, "A"), self._ask_once(host, "AAAA")))

    def _recall(self, host: bytes, record_type: str) -> Answer | None:
        entry = self._remembered.get((host.lower(), record_type))
        return entry[1] if entry is not None and self._steady_s() < entry[0] else None

    async def _ask_once(self, host: bytes, record_type: str) -> Answer:
        remembered = self._recall(host, record_type)
        if remembered is not None:
            return remembered
        key = (host.lower(), record_type)
        under_way = self._asking.get(key)
        if under_way is None:
            under_way = asyncio.ensure_future(self._ask(host, record_type))
            self._asking[key] = under_way
            under_way.add_done_callback(lambda _done: self._asking.pop(key, None))
        answer = await asyncio.shield(under_way)  # one asker who goes away must not spoil it for the others
        if answer.ttl_s > 0 and answer.kind != SOFT:
            self._remember(key, answer)
        return answer

    def _remember(self, key: tuple[bytes, str], answer: Answer) -> None:
        if len(self._remembered) >= self._remembered_max:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[key] = (self._steady_s() + answer.ttl_s, answer)

    async def _ask(self, host: bytes, record_type: str) -> Answer:
        try:
            query = Query(host, record_type)
        except ValueError:
            return Answer(HARD)
        for server, edns in tries(self._servers):
            try:
                async with asyncio.timeout(self._try_s):
                    return await self._ask_server(server, query, edns=edns)
            except Truncated:
                answer = await self._ask_by_tcp(server, query)
                if answer is not None:
                    return answer
            except (OSError, ServerFailed):
                continue  # refused, unreachable, timed out or no help: perhaps the next one
        return Answer(SOFT)

    async def _ask_server(self, server: "Server", query: Query, *, edns: bool) -> Answer:
        loop = asyncio.get_running_loop()
        with socket.socket(family_of(server), socket.SOCK_DGRAM) as link:
            link.setblocking(False)
            link.connect(server)
            link.send(query.wire(edns=edns))
            while True:
                answer = query.read(await loop.sock_recv(link, 65_535))
                if answer is not None:
                    return answer

    async def _ask_by_tcp(self, server: "Server", query: Query) -> Answer | None:
        wire = query.wire(edns=False)
        try:
            async with asyncio.timeout(self._try_s):
                reader, writer = await asyncio.open_connection(*server)
                try:
                    writer.write(len(wire).to_bytes(2, "big") + wire)
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    return query.read(await reader.readexactly(length), by_tcp=True)
                finally:
                    writer.close()
        except (OSError, EOFError, ServerFailed):
            return None  # asyncio.IncompleteReadError is an EOFError
