"""The load: SMTP clients of our own that leave when they like, Postfix's smtp-source, and qmail-inject."""

import asyncio
import random
import shutil
import socket
import struct
import subprocess
import time

from chaos_book import ACCEPTED, ARRIVES, BOUNCES, DOUBT, REFUSED, UNFINISHED, Book, Mail, addresses, sender, text
from chaos_place import Place

REPLY_WAIT_S = 30.0
_SOURCE_MESSAGES = 20
_LEAVES = ("after MAIL", "within the message", "before the dot", "after the dot")


class Left(Exception):
    """The client goes away at this point, by its own wish or because the server did."""


class Load:
    """Messages until `stop`. `made` counts numbers given, `room` how many may still be given."""

    def __init__(self, place: Place, port: int, book: Book, *, seed: int, room: int) -> None:
        self._place, self._port, self.book = place, port, book
        self._chance = random.Random(f"load/{seed}")
        self.room = room
        self.stopping = False
        self.left: dict[str, int] = {}
        self.answers: dict[str, int] = {}
        self.source_program = shutil.which("smtp-source", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        self.source_runs = self.source_failures = 0
        self._next = 1

    def new_mail(self, kinds: list[str] | None = None) -> Mail:
        """The next number, entered in the book before anybody can have seen it."""
        chance = self._chance
        if kinds is None:
            weights = (8, 2, 2, 3, 4, 1, 1)
            kinds = chance.choices((*ARRIVES, *BOUNCES), weights, k=chance.choices((1, 2, 5, 12), (12, 3, 2, 1))[0])
        size = chance.choices((300, 4_000, 40_000, 200_000), (6, 8, 2, 1))[0]
        mail = Mail(self._next, kinds, chance.randint(size // 4, size))
        self._next += 1
        self.room -= 1
        self.book.mails[mail.number] = mail
        return mail

    async def client(self) -> None:
        """One client after another: each connection carries a few messages."""
        while not self.stopping and self.room > 0:
            try:
                await self._connection()
            except (OSError, Left, asyncio.IncompleteReadError, TimeoutError):
                await asyncio.sleep(0.05)

    async def _connection(self) -> None:
        reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self._port), REPLY_WAIT_S)
        try:
            await _reply(reader)
            writer.write(b"HELO chaos.test\r\n")
            await _reply(reader)
            for _ in range(self._chance.randint(1, 5)):
                if self.stopping or self.room <= 0:
                    break
                await self.send(reader, writer, self.new_mail())
            writer.write(b"QUIT\r\n")
        except Left:
            if self._chance.random() < 0.5:  # a reset instead of an end
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            raise
        finally:
            writer.close()

    async def send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mail: Mail) -> None:
        """One transaction; the book says what the client saw. Raises Left."""
        leave = self._chance.choice(_LEAVES) if self._chance.random() < 0.08 else ""
        writer.write(f"MAIL FROM:<{sender(mail, self.book.user)}>\r\n".encode())
        await self._expect(reader, mail, b"2")
        self._leave(leave, "after MAIL")
        for address in addresses(mail, self.book.user):
            writer.write(f"RCPT TO:<{address}>\r\n".encode())
            await self._expect(reader, mail, b"2")
        writer.write(b"DATA\r\n")
        await self._expect(reader, mail, b"3")
        data = text(mail, self.book.seed, self.book.user).replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")
        if leave == "within the message":
            writer.write(data[: self._chance.randrange(len(data))])
            self._leave(leave, leave)
        writer.write(data)
        self._leave(leave, "before the dot")
        mail.answer = DOUBT  # from here on it may be queued
        writer.write(b".\r\n")
        await writer.drain()
        self._leave(leave, "after the dot")
        code = await _reply(reader)
        mail.answer = {b"2": ACCEPTED, b"5": REFUSED}.get(code[:1], DOUBT)
        mail.when_s = time.time()
        name = code[:3].decode() if mail.answer != ACCEPTED else ACCEPTED
        self.answers[name] = self.answers.get(name, 0) + 1

    def _leave(self, wish: str, where: str) -> None:
        if wish == where:
            self.left[where] = self.left.get(where, 0) + 1
            raise Left

    async def _expect(self, reader: asyncio.StreamReader, mail: Mail, digit: bytes) -> None:
        code = await _reply(reader)
        if code[:1] != digit:
            mail.answer = UNFINISHED
            name = code[:3].decode()
            self.answers[name] = self.answers.get(name, 0) + 1
            raise Left

    async def probe(self) -> bool:
        """A message of the simplest kind, to see that the system takes mail and to wake qmail-send."""
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self._port), 5)
        except (OSError, TimeoutError):
            return False
        try:
            await _reply(reader)
            writer.write(b"HELO probe.test\r\n")
            await _reply(reader)
            mail = self.new_mail(["md"])
            await self.send(reader, writer, mail)
        except (OSError, Left, asyncio.IncompleteReadError, TimeoutError):
            return False
        finally:
            writer.close()
        return mail.answer == ACCEPTED

    async def injector(self) -> None:
        """qmail-inject, the way of local programs: exit code 0 is the promise, anything else leaves a doubt."""
        while not self.stopping and self.room > 0:
            mail = self.new_mail()
            mail.answer = DOUBT
            process = await asyncio.create_subprocess_exec(
                str(self._place.home / "bin/qmail-inject"), "-f", sender(mail, self.book.user), "-a",
                *addresses(mail, self.book.user), env=environment(self._place), stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            await process.communicate(text(mail, self.book.seed, self.book.user))
            if process.returncode == 0:
                mail.answer, mail.when_s = ACCEPTED, time.time()
            name = f"inject {process.returncode}"
            self.answers[name] = self.answers.get(name, 0) + 1
            await asyncio.sleep(self._chance.random() * 0.5)

    async def source(self) -> None:
        """smtp-source again and again, a few messages each; only a run that ended well has promised anything."""
        if self.source_program is None:
            return
        run = 0
        while not self.stopping:
            run += 1
            to, back = f"x{run}@bulk.test", f"{self.book.user}-ret-0@localhost"
            process = await asyncio.create_subprocess_exec(
                self.source_program, "-s", "4", "-m", str(_SOURCE_MESSAGES), "-l", "3000", "-N", "-f", back, "-t", to,
                f"127.0.0.1:{self._port}", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, env={"PATH": "/usr/sbin:/usr/bin:/bin"},
            )  # fmt: skip
            try:
                await asyncio.wait_for(process.wait(), REPLY_WAIT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
            self.source_runs += 1
            if process.returncode == 0:
                self.book.bulk_promised[run] = _SOURCE_MESSAGES
            else:
                self.source_failures += 1
            await asyncio.sleep(self._chance.random() * 0.4)


def environment(place: Place) -> dict[str, str]:
    """What every program of the home is started with; its QMAILHOME is how we know our own."""
    return {
        "QMAILHOME": str(place.home),
        "PATH": f"{place.home}/bin:/usr/local/bin:/usr/bin:/bin",
        "TMPDIR": str(place.temporary),
    }


async def _reply(reader: asyncio.StreamReader) -> bytes:
    while True:
        line = await asyncio.wait_for(reader.readline(), REPLY_WAIT_S)
        if not line:
            raise Left
        if line[3:4] != b"-":
            return line
