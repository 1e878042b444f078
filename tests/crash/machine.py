"""A whole qmail-send on a FakeDisk: the real parts; network, processes and clock are played by the test."""

from collections.abc import Iterator
from contextlib import contextmanager

from queue_states import FixedClock

from notqmail.control.rewrite import Routing
from notqmail.queue.layout import split_path
from notqmail.queue.store import LOCAL, REMOTE, QueueStore
from notqmail.receive.enqueue import Enqueuer, Request
from notqmail.send.bounces import Bouncer
from notqmail.send.channels import Channel
from notqmail.send.clean import DONE, Cleaner
from notqmail.send.log import Log
from notqmail.send.loop import Flags, Loop, Trigger
from notqmail.send.sender import Sender
from notqmail.send.todo import Preprocessor
from notqmail.testing.fake_disk import FakeDisk
from notqmail.wire import queue_exit
from notqmail.wire.reports import Report, decode_report
from notqmail.wire.spawn_link import CommandReader, Delivery

SEND, CLEAN, QUEUE, WORKER = "qmail-send", "qmail-clean", "qmail-queue --serve", "worker"


@contextmanager
def acting(disk: FakeDisk, role: str) -> Iterator[None]:
    """What is done to the disk meanwhile is this program's doing; a Recorder notes it."""
    before = getattr(disk, "role", SEND)
    disk.role = role  # type: ignore[attr-defined]
    yield
    disk.role = before  # type: ignore[attr-defined]


class World:
    """What is outside and survives every power cut: what was delivered, and how recipients answer."""

    def __init__(self, answers: dict[bytes, list[bytes]]) -> None:
        self.answers = {address: list(texts) for address, texts in answers.items()}
        self.delivered: list[tuple[bytes, bytes, bytes]] = []  # sender, recipient, message

    def attempts(self, channel: bytes, commands: list[Delivery], disk: FakeDisk) -> list[Report]:
        """What a spawner does with the commands that it finds together."""
        return [self.attempt(one.sender, one.recipient, disk.read(b"mess/" + one.message)) for one in commands]

    def attempt(self, sender: bytes, recipient: bytes, message: bytes) -> Report:
        texts = self.answers.get(recipient, [b"K"])
        report = decode_report(texts.pop(0) if len(texts) > 1 else texts[0])
        if report.succeeded:
            self.delivered.append((sender, recipient, message))
        return report


class PlayedChannel(Channel):
    """A channel whose deliveries happen at once, in the world."""

    def __init__(self, name: bytes, concurrency: int, disk: FakeDisk, world: World, descriptor: int) -> None:
        super().__init__(name, concurrency, -1, descriptor)
        self._disk, self._world, self._commands = disk, world, CommandReader()
        self._ready: list[tuple[int, Report | None]] = []

    def push(self) -> None:
        data, self.unsent = self.unsent, b""
        commands = self._commands.receive(data)
        with acting(self._disk, WORKER):
            reports = self._world.attempts(self.name, commands, self._disk)
        self._ready += zip([command.slot for command in commands], reports, strict=True)

    def reports(self) -> list[tuple[int, Report | None]]:
        ready, self._ready = self._ready, []
        return ready

    @property
    def has_reports(self) -> bool:
        return bool(self._ready)


class PlayedCleaner:
    """qmail-clean in the same process, on the same disk."""

    def __init__(self, disk: FakeDisk, clock: FixedClock) -> None:
        self._disk, self._cleaner = disk, Cleaner(disk, clock)
        self._removed: list[bool] = []

    def ask(self, commands: list[bytes]) -> None:
        self._removed = self.remove(commands)

    has_answered = True  # at once

    def wait_for_answer(self) -> None:
        pass  # it is there

    def removed(self) -> list[bool]:
        return self._removed

    def remove(self, commands: list[bytes]) -> list[bool]:
        with acting(self._disk, CLEAN):
            return [self._cleaner.perform(command) == DONE for command in commands]


class PlayedSubmission:
    """A bounce's way into the same queue."""

    def __init__(self, machine: "Machine") -> None:
        self._machine, self._parts = machine, []
        self.qp = 4_000 + machine.clock.now % 1_000_000  # another one after a restart: a process number

    def write(self, data: bytes) -> None:
        self._parts.append(data)

    def abandon(self) -> None:
        self._parts.clear()

    def close(self, sender: bytes, recipients: list[bytes]) -> Report:
        request = Request(self._parts, [sender, *recipients], uid=1, pid=self.qp, invoked=b"for bounce")
        with acting(self._machine.disk, QUEUE):
            Enqueuer(self._machine.disk, self._machine.clock, 8).enqueue([request])
        self._machine.submitted = True
        self._machine.log.line(b"bounce exit %d" % request.exit_code)
        return queue_exit.report_for_exit(request.exit_code)


class MemoryLog(Log):
    """Keeps its lines."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.kept: list[bytes] = []

    def line(self, text: bytes) -> None:
        self.kept.append(text)

    def flush(self) -> None:
        pass  # nothing to write anywhere


class Machine:
    """qmail-send, started on this disk at this time."""

    submitted = False  # since somebody last looked

    def __init__(self, disk: FakeDisk, world: World, now_s: int = 1_000_000, *, concurrency: int = 2) -> None:
        self.disk, self.world, self.clock = disk, world, FixedClock(now_s)
        disk.now_s = now_s
        self.log = MemoryLog()
        self.store = QueueStore(disk)
        self.channels = [
            PlayedChannel(LOCAL, concurrency, disk, world, 101), PlayedChannel(REMOTE, concurrency, disk, world, 102),
        ]  # fmt: skip
        cleaner = PlayedCleaner(disk, self.clock)
        bouncer = Bouncer(
            self.store, self.log, self.clock, lambda: PlayedSubmission(self),
            bounce_from=b"MAILER-DAEMON", bounce_host=b"me.test", double_bounce_recipient=b"postmaster@me.test",
        )  # fmt: skip
        routing = Routing(local_domains=[b"me.test"], virtual_domains={}, percent_domains=[], default_host=b"me.test")
        self._preprocessor = preprocessor = Preprocessor(self.store, self.log, cleaner, routing, lambda: None)
        self.sender = Sender(
            self.store,
            self.log,
            self.channels,
            bouncer,
            preprocessor,
            lifetime_s=604_800,
            shown_address=routing.strip_virtual_prefix,
        )
        self.flags = Flags()
        self.sender.books.open()
        self.sender.load(now_s)
        self.loop = Loop(
            store=self.store, log=self.log, clock=self.clock, sender=self.sender, preprocessor=preprocessor,
            cleaner=cleaner, trigger=Trigger(lambda: -1), flags=self.flags, reread=lambda: None, wait=self._wait,
        )  # fmt: skip

    def _wait(self, readable: list[int], writable: list[int], timeout_s: float) -> set[int]:
        self._preprocessor.pull()  # somebody is always sending: every turn looks again
        ready = {channel.reports_fd for channel in self.channels if channel.has_reports}
        if not ready and not writable and timeout_s:
            self.clock.now += max(1, int(timeout_s))
            self.disk.now_s = self.clock.now
        return ready

    def run_until_empty(self, turns_max: int = 600) -> None:
        """Until no message is accepted or preprocessed. Fails when that takes too many turns."""
        for _ in range(turns_max):
            self.loop.turn()
            waiting = [
                path for path in self.disk.everything() if path.startswith((b"todo/", b"info/", b"local/", b"remote/"))
            ]
            if not waiting and not self.sender.ended and not self.sender.ended_in_todo:
                return
        raise AssertionError(f"the queue does not get empty: {self.disk.everything()}, {self.log.kept[-20:]}")


def stored_message(disk: FakeDisk, number: int) -> bytes:
    """The mess file."""
    return disk.read(split_path(b"mess", number))
