#!/usr/bin/env python3
"""Clients nobody wants: `python trouble.py writers|readers PORT COUNT RECIPIENT`, until killed.

writers: send a message, a byte a second. readers: ask and ask and never read an answer. Says `ready` when all are
connected.
"""

import asyncio
import socket
import sys

_GREETED_MAX_S = 20.0
_QUESTIONS = b"NOOP\r\n" * 400


async def _writer(port: int, recipient: str, ready: asyncio.Semaphore) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    commands = (b"EHLO slow.test", b"MAIL FROM:<slow@source.test>", b"RCPT TO:<%b>" % recipient.encode(), b"DATA")
    await reader.readline()
    for command in commands:
        writer.write(command + b"\r\n")
        while (await reader.readline())[3:4] == b"-":
            pass
    ready.release()
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(1)


async def _reader(port: int, _recipient: str, ready: asyncio.Semaphore) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.setblocking(False)
        await loop.sock_connect(link, ("127.0.0.1", port))
        ready.release()
        while True:
            try:
                await asyncio.wait_for(loop.sock_sendall(link, _QUESTIONS), 1)
            except TimeoutError:
                await asyncio.sleep(1)  # it waits until we read: so do we


async def _unending(kind: str, port: int, recipient: str, ready: asyncio.Semaphore) -> None:
    """Comes again when it is thrown out, as such clients do."""
    while True:
        try:
            await (_writer if kind == "writers" else _reader)(port, recipient, ready)
        except OSError:
            await asyncio.sleep(0.5)


async def main(kind: str, port: int, count: int, recipient: str) -> None:
    """Until killed."""
    ready = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(_unending(kind, port, recipient, ready)) for _ in range(count)]
    async with asyncio.timeout(_GREETED_MAX_S):
        for _ in tasks:
            await ready.acquire()
    print("ready", flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
