"""A qmail-send on a table: the real parts on a FakeDisk, real pipes for the spawners, the clock in the test's hand."""

import os
import select

from notqmail.control.rewrite import Routing
from notqmail.queue.store import LOCAL, REMOTE, QueueStore
from notqmail.receive.enqueue import Enqueuer, Request
from notqmail.send.bounces import Bouncer
from notqmail.send.channels import Channel
from notqmail.send.clean import DONE, Cleaner
from notqmail.send.destinations import UNLIMITED
from notqmail.send.log import Log
from notqmail.send.loop import Flags, Loop, Trigger
from notqmail.send.sender import Sender
from notqmail.send.todo import Preprocessor
from notqmail.testing.fake_disk import FakeDisk
from notqmail.unix.clock import Clock
from notqmail.wire import queue_exit
from notqmail.wire.reports import Report
from notqmail.wire.spawn_link import CommandReader, Delivery
from notqmail.wire.wide_link import Terms

NOW_S = 1_000_000
ROUTING = Routing(
    local_domains=[b"me.test"], virtual_domains={b"virt.test": b"joe"}, percent_domains=[], default_host=b"me.test"
)


class SteppedClock(Clock):
    """Stands at `now` until the test moves it; whichever way it does, time has passed."""

    __slots__ = ("_at", "_steady", "now")

    def __init__(self, now: int = NOW_S) -> None:
        self.now = self._at = now
        self._steady = 0.0

    def now_s(self) -> int:
        return self.now

    def steady_s(self) -> float:
        self._steady += abs(self.now - self._at)
        self._at = self.now
        return self._steady


class MemoryLog(Log):
    """Keeps its lines."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.kept: list[bytes] = []

    def line(self, text: bytes) -> None:
        self.kept.append(text)

    def flush(self) -> None:
        pass  # nothing to write anywhere


class Spawner:
    """The other end of a channel's pipes."""

    def __init__(self) -> None:
        commands_in, self.commands_fd = os.pipe()
        self.reports_fd, reports_out = os.pipe()
        for descriptor in (commands_in, self.commands_fd, self.reports_fd):
            os.set_blocking(descriptor, False)
        self._commands_in, self._reports_out = commands_in, reports_out
        self._reader = CommandReader()

    def received(self) -> bytes:
        """The bytes that have come since the last time."""
        try:
            return os.read(self._commands_in, 1_000_000)
        except BlockingIOError:
            return b""

    def commands(self) -> list[Delivery]:
        """What has been ordered since the last time."""
        return self._reader.receive(self.received())

    def report(self, slot: int, text: bytes) -> None:
        os.write(self._reports_out, bytes([slot]) + text + b"\0")

    def say(self, data: bytes) -> None:
        os.write(self._reports_out, data)

    def die(self) -> None:
        os.close(self._commands_in)
        os.close(self._reports_out)

    def close(self) -> None:
        for descriptor in (self._commands_in, self._reports_out, self.commands_fd, self.reports_fd):
            try:
                os.close(descriptor)
            except OSError:
                pass  # it died in the test


class DiskCleaner:
    """qmail-clean in the same process; `answers` overrides what it says to the next commands."""

    def __init__(self, disk: FakeDisk, clock: Clock) -> None:
        self._cleaner = Cleaner(disk, clock)
        self.commands: list[bytes] = []
        self.answers: list[bool | Exception] = []
        self._asked: list[bool] = []

    def ask(self, commands: list[bytes]) -> None:
        self._asked = self.remove(commands)

    has_answered = True  # at once

    def wait_for_answer(self) -> None:
        pass  # it is there

    def removed(self) -> list[bool]:
        return self._asked

    def remove(self, commands: list[bytes]) -> list[bool]:
        self.commands += commands
        done = []
        for command in commands:
            if self.answers:
                answer = self.answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                done.append(answer)
            else:
                done.append(self._cleaner.perform(command) == DONE)
        return done


class BounceSubmission:
    """Keeps a bounce; its answer is the bench's `bounce_answers`, then K."""

    qp = 4711

    def __init__(self, bench: "Bench") -> None:
        self._bench, self._parts = bench, []

    def write(self, data: bytes) -> None:
        self._parts.append(data)

    def abandon(self) -> None:
        self._bench.bounces.append(None)

    def close(self, sender: bytes, recipients: list[bytes]) -> Report:
        answer = self._bench.bounce_answers.pop(0) if self._bench.bounce_answers else b"K"
        if answer == b"K":
            self._bench.bounces.append((sender, recipients, b"".join(self._parts)))
        return Report(answer[:1], answer[1:])


class Bench:
    """See the module. `turn` is one round of the loop; the trigger counts as pulled before each."""

    def __init__(
        self, disk: FakeDisk | None = None, *, now_s: int = NOW_S, concurrency: tuple[int, int] = (2, 2),
        lifetime_s: int = 604_800, routing: Routing = ROUTING, terms: Terms | None = None,
        slow_max: int = 0,
    ) -> None:  # fmt: skip
        self.disk = disk if disk is not None else FakeDisk(now_s)
        self.disk.now_s = now_s
        self.clock, self.log, self.store = SteppedClock(now_s), MemoryLog(), QueueStore(self.disk)
        self.local, self.remote = Spawner(), Spawner()
        self.bounces: list[tuple[bytes, list[bytes], bytes] | None] = []
        self.bounce_answers: list[bytes] = []
        self.cannot_open_submission = False
        self.cleaner = DiskCleaner(self.disk, self.clock)
        self.channels = [
            Channel(
                name,
                slots,
                spawner.commands_fd,
                spawner.reports_fd,
                terms=terms if name == REMOTE else None,
                host_limit=UNLIMITED if terms is None or name == LOCAL else 20,
                slow_max=slow_max if name == REMOTE else 0,
            )
            for name, slots, spawner in zip((LOCAL, REMOTE), concurrency, (self.local, self.remote), strict=True)
        ]
        bouncer = Bouncer(
            self.store, self.log, self.clock, self._open_submission,
            bounce_from=b"MAILER-DAEMON", bounce_host=b"me.test", double_bounce_recipient=b"postmaster@me.test",
        )  # fmt: skip
        self.preprocessor = Preprocessor(self.store, self.log, self.cleaner, routing, lambda: None)
        self.sender = Sender(
            self.store, self.log, self.channels, bouncer, self.preprocessor, lifetime_s=lifetime_s,
            shown_address=lambda address: self.preprocessor.routing.strip_virtual_prefix(address),
        )  # fmt: skip
        self.flags = Flags()
        self.timeouts: list[float] = []
        self.rereads = 0
        self.sender.books.open()
        self.sender.load(now_s)
        self.loop = Loop(
            store=self.store, log=self.log, clock=self.clock, sender=self.sender, preprocessor=self.preprocessor,
            cleaner=self.cleaner, trigger=Trigger(lambda: -1), flags=self.flags, reread=self._reread, wait=self._wait,
        )  # fmt: skip

    def close(self) -> None:
        self.local.close()
        self.remote.close()

    def queue(self, recipients: list[bytes], sender: bytes = b"s@far.test", body: bytes = b"Subject: x\n\nb\n") -> int:
        """Accepts a message; returns its number."""
        request = Request([body], [sender, *recipients], uid=7, pid=100, invoked=b"by uid 7")
        Enqueuer(self.disk, self.clock, 9).enqueue([request])
        assert request.exit_code == queue_exit.ACCEPTED
        return request.number

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.preprocessor.pull()
            self.loop.turn()

    def at(self, now_s: int) -> None:
        """Moves the clock, then one turn."""
        self.clock.now = self.disk.now_s = now_s
        self.turn()

    def settle_down(self) -> None:
        """Enough turns for everything that needs no report and no time, the last ones quiet."""
        self.turn(6)
        for _ in range(3):
            self.loop.turn()

    def logged(self, start: bytes) -> list[bytes]:
        return [line for line in self.log.kept if line.startswith(start)]

    def paths(self, start: bytes = b"") -> list[bytes]:
        """What is in the queue, without pid/."""
        return [path for path in self.disk.everything() if path.startswith(start) and not path.startswith(b"pid/")]

    def _open_submission(self) -> BounceSubmission:
        if self.cannot_open_submission:
            raise OSError(11, "no more processes")
        return BounceSubmission(self)

    def _reread(self) -> None:
        self.rereads += 1

    def _wait(self, readable: list[int], writable: list[int], timeout_s: float) -> set[int]:
        self.timeouts.append(timeout_s)
        ready_in, ready_out, _ = select.select(readable, writable, [], 0)
        return {*ready_in, *ready_out}
