"""What happens on the recorded disk before the power goes: each workload marks what it has promised to whom.

`queue`: messages are accepted. `mail`: they are delivered into a Maildir as well, by qmail-send's own parts in one
process. `life`: what tests/crash cuts on its model of a disk, mbox files and bounces included. `system`: a whole
installation, its programs and SMTP on loopback (power_system.py).
"""

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import power_rules
from houses import Houses, Mailboxes, Microseconds, StoredMessage
from machine import Machine, World
from power_disk import MountedDisk, QuickDisk, make_home
from queue_states import legal_states
from test_delivery_power_cuts import IS_WHOLE, check_all, check_reported, live

from notqmail.deliver.mailboxes import MaildirJob, UniqueNames, deliver_batch
from notqmail.queue.store import LOCAL
from notqmail.receive.enqueue import Enqueuer, Request
from notqmail.testing.fake_disk import FakeDisk
from notqmail.unix.clock import Clock
from notqmail.wire import queue_exit
from notqmail.wire.reports import Report, success, temporary
from notqmail.wire.spawn_link import Delivery

Mark = Callable[[bytes], None]
_SMALL, _LARGE = 3_000, 200_000
_LARGE_ONES = 0.08
_PUT_OFF = 0.15  # of the deliveries
_LIFE: list[list[bytes]] = [
    [b"dir@me.test"], [b"box@me.test"], [b"dir@me.test", b"box@me.test"], [b"box@me.test", b"no@me.test"],
    [b"box2@me.test"], [b"dir@me.test", b"no@me.test"],
]  # fmt: skip


class Work:
    """One kind of workload. `disk` makes the seam that its programs use; a test puts a broken one there."""

    def __init__(self, chance: random.Random, disk: Callable[[Path], MountedDisk] = MountedDisk) -> None:
        self._chance, self._disk = chance, disk

    def prepare(self, home: Path) -> None:
        """Makes the empty home, before anything is recorded."""
        make_home(home)

    def play(self, home: Path, mark: Mark, size: int) -> None:
        """Does its work; `size` says how much."""
        raise NotImplementedError

    def faults(self, home: Path, marks: list[bytes]) -> list[str]:
        """What is wrong after a cut before which these marks were made."""
        return power_rules.faults(home, marks)


class QueueWork(Work):
    """`size` messages alone and together, short and long."""

    _given = 0

    def play(self, home: Path, mark: Mark, size: int) -> None:
        """As Work.play."""
        disk = self._disk(home / "queue")
        enqueuer = Enqueuer(disk, Clock(), 9)
        while self._given < size:
            self._batch(enqueuer, mark)

    def _batch(self, enqueuer: Enqueuer, mark: Mark) -> None:
        count = self._chance.choice((1, 1, 1, 2, 3, 8))
        numbers = range(self._given, self._given + count)
        self._given += count
        requests = [self._request(number) for number in numbers]
        enqueuer.enqueue(requests)
        for number, request in zip(numbers, requests, strict=True):
            assert request.exit_code == queue_exit.ACCEPTED, request.exit_code
            mark(b"%b %d" % (power_rules.ACCEPTED, number))

    def _request(self, number: int) -> Request:
        size = _LARGE if self._chance.random() < _LARGE_ONES else self._chance.randrange(_SMALL)
        text = power_rules.text_of(number, size)
        cut = self._chance.randrange(len(text))
        return Request(
            [text[:cut], text[cut:]], [b"s%d@me.test" % number, b"r@me.test"], uid=7, pid=100 + number,
            invoked=b"by uid 7",
        )  # fmt: skip


class Postman(World):
    """Delivers into one Maildir, as the worker does it; some deliveries are put off."""

    def __init__(self, maildir: Path, mark: Mark, chance: random.Random) -> None:
        super().__init__({})
        self._maildir, self._mark, self._chance = bytes(maildir) + b"/", mark, chance
        self._names = UniqueNames(Microseconds(), pid=7, host=b"h")

    def attempts(self, channel: bytes, commands: list[Delivery], disk: FakeDisk) -> list[Report]:
        """As World.attempts."""
        if channel != LOCAL:
            return super().attempts(channel, commands, disk)
        reports: list[Report] = [temporary(b"later") for _ in commands]
        texts = {
            index: disk.read(b"mess/" + command.message)
            for index, command in enumerate(commands)
            if self._chance.random() > _PUT_OFF
        }
        jobs = [MaildirJob(self._maildir, b"Return-Path: <>\n", StoredMessage(text)) for text in texts.values()]  # type: ignore[arg-type]
        failures = deliver_batch(jobs, disk, self._names)  # type: ignore[arg-type]
        for (index, text), failure in zip(texts.items(), failures, strict=True):
            assert failure is None, failure
            reports[index] = success()
            self._mark(b"%b %d" % (power_rules.REPORTED, power_rules.whole(text)))
        return reports


class MailWork(QueueWork):
    """The same, and qmail-send delivers meanwhile, so that inode numbers and blocks are used again."""

    def play(self, home: Path, mark: Mark, size: int) -> None:
        """As Work.play."""
        disk = self._disk(home / "queue")
        enqueuer = Enqueuer(disk, Clock(), 9)
        postman = Postman(home / "Maildir", mark, self._chance)
        machine = Machine(disk, postman, disk.now_s, concurrency=6)  # type: ignore[arg-type]
        while self._given < size:
            self._batch(enqueuer, mark)
            for _ in range(self._chance.randrange(5)):
                machine.loop.turn()
        machine.run_until_empty()


class _MarkedSet(set[int]):
    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self._mark = mark

    def add(self, index: int) -> None:
        self._mark(b"%b %d" % (power_rules.ACCEPTED, index))


class _MarkedList(list[tuple[bytes, bytes]]):
    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self._mark = mark

    def append(self, reported: tuple[bytes, bytes]) -> None:
        self._mark(power_rules.REPORTED + b" " + b"\0".join(reported))


class LifeWork(Work):
    """tests/crash/test_delivery_power_cuts.py, with its rules, on a real disk. Its size is fixed."""

    def play(self, home: Path, mark: Mark, size: int) -> None:
        """As Work.play."""
        disk = self._disk(home / "queue")
        world = Houses({})
        world.reported = _MarkedList(mark)
        live(disk, world, _LIFE, _MarkedSet(mark))  # type: ignore[arg-type]

    def faults(self, home: Path, marks: list[bytes]) -> list[str]:
        """As Work.faults."""
        disk = QuickDisk(home / "queue")
        world = Houses({})
        reported = [mark.split(b" ", 1)[1] for mark in marks if mark.startswith(power_rules.REPORTED)]
        for one in reported:
            message, recipient = one.split(b"\0")
            world.reported.append((message, recipient))
        world.clock.given = 1_000_000  # names in Maildirs that nobody has had before the cut
        try:
            legal_states(disk)  # type: ignore[arg-type]
            check_reported(Mailboxes(disk, IS_WHOLE), world)  # type: ignore[arg-type]
            Machine(disk, world, disk.now_s).run_until_empty()  # type: ignore[arg-type]
            check_all(disk, world, _LIFE, power_rules.marked(marks, power_rules.ACCEPTED))  # type: ignore[arg-type]
        except (AssertionError, OSError) as error:
            return [f"{type(error).__name__}: {str(error)[:2_000]}"]
        return []


class ForgetfulDisk(MountedDisk):
    """A disk seam that leaves something out: is it noticed? `forgets` has "sync NAME" and "barrier NAME", the last part
    of the path that is synced, or before which the barrier stands.
    """

    forgets: tuple[str, ...] = ()

    def sync(self, paths: Sequence[bytes]) -> None:
        """As Disk.sync, but for what is forgotten."""
        kept = [path for path in paths if f"sync {_last_part(path)}" not in self.forgets]
        if kept:
            super().sync(kept)

    def barrier(self, files: Sequence[bytes], directories: Sequence[bytes], before: bytes) -> None:
        """As Disk.barrier, but for what is forgotten."""
        if f"barrier {_last_part(before)}" not in self.forgets:
            super().barrier(files, directories, before)


def _last_part(path: bytes) -> str:
    return os.path.basename(path).decode()


def disk_kind(order: str, forgets: list[str]) -> Callable[[Path], MountedDisk]:
    """What makes the disk seam of a workload."""
    kind = type("OneForgetfulDisk", (ForgetfulDisk,), {"forgets": tuple(forgets), "order": order})
    return cast("Callable[[Path], MountedDisk]", kind)
