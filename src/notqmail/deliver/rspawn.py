"""qmail-rspawn: the remote deliveries of qmail-send, many at a time, in one event loop (qmail-rspawn(8)).

Commands come in on one pipe, reports go out on another (wire.spawn_link; with a qmail-send of ours wire.wide_link, so
that recipients of one message at one host ride in one transaction). A delivery is made in this process by the agent
behind our qmail-remote; where another program is to do it, foreign_remote.py runs that.

Every command that was taken is answered exactly once; whatever goes wrong unexpectedly in one delivery is that
delivery's temporary failure. At end of the commands the deliveries under way are finished, then `serve` returns.
"""

import asyncio
import gc
import os

from notqmail.control.files import Missing
from notqmail.control.remote_settings import read_remote_settings
from notqmail.deliver.foreign_remote import foreign_program, run_for_each
from notqmail.deliver.remote import (
    NO_CONTROLS,
    NO_MESSAGE,
    NO_RESOURCES,
    OUT_OF_MEMORY,
    Job,
    Message,
    Surroundings,
    chance,
)
from notqmail.deliver.remote_async import deliver
from notqmail.deliver.remote_report import CRASHED
from notqmail.deliver.spawn import Refused, Slots, open_message, split_recipient
from notqmail.unix.controls import Unreadable, control_reader
from notqmail.unix.mains import complain
from notqmail.unix.processes import write_all
from notqmail.wire.reports import temporary
from notqmail.wire.spawn_link import SPAWN_SLOTS, BadCommand, CommandReader, Delivery, encode_report
from notqmail.wire.wide_link import (
    ASKING_SLOT,
    Terms,
    WideCommandReader,
    encode_wide_report,
    is_question,
    place_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from notqmail.control.remote_settings import RemoteSettings
    from notqmail.deliver.remote_async import Tell
    from notqmail.deliver.tcpto import TimeoutTable
    from notqmail.unix.resolver_async import AsyncResolver
    from notqmail.wire.reports import Report

RECIPIENTS_MAX = 100  # in one transaction: what every server must take (RFC 5321 4.5.3.1.8)
_WIDE_SLOTS_MAX = 1_000
_FILES_A_SLOT = 4  # message, connection, DNS; or message and pipe of a program
_FILES_BESIDE = 40
_STRANGE_HOST = temporary(b"Internal error: recipients at different hosts. (#4.3.5)\n")
REFRESH_S = 1.0  # a changed control file, program or interface is noticed after so long
_READ_BYTES = 65_536


class Known:
    """What is read again every REFRESH_S: the settings or why there are none, our addresses, whom to run."""

    __slots__ = ("own", "program", "read_at_s", "settings", "trouble")

    def __init__(self, read_at_s: float) -> None:
        self.read_at_s = read_at_s
        self.settings: RemoteSettings | None = None
        self.own: Collection[bytes] = ()
        self.program: bytes | None = None
        self.trouble: Report | None = None


class Rspawn:
    """The spawner. `serve` is its life; everything of the machine is passed in."""

    def __init__(
        self, home: bytes, queue_uid: int, environ: "Mapping[bytes, bytes]", *, resolver: "AsyncResolver",
        timeouts: "TimeoutTable", own_addresses: "Callable[[], Collection[bytes]]", open_files: int = 1_024,
        commands_fd: int = 0, reports_fd: int = 1,
    ) -> None:  # fmt: skip
        self._home, self._queue_uid, self._environ = home, queue_uid, environ
        self._resolver, self._timeouts, self._own_addresses = resolver, timeouts, own_addresses
        self._singly: set[tuple[bytes, int]] = set()  # servers that answer once for several recipients
        self._commands_fd, self._reports_fd = commands_fd, reports_fd
        self._reader: CommandReader | WideCommandReader = CommandReader()
        self._slots = Slots()
        self._is_wide = False
        self._wide_slots = max(1, min(_WIDE_SLOTS_MAX, (open_files - _FILES_BESIDE) // _FILES_A_SLOT))
        self._tasks: set[asyncio.Task[None]] = set()
        self._reports: list[bytes] = []
        self._somebody_listens = True
        self._reading = True
        self._known: Known | None = None

    async def serve(self) -> None:
        """Says hello, works until the commands end and the last delivery is answered."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._finished = loop.create_future()
        os.set_blocking(self._reports_fd, True)  # reports are short, and qmail-send always listens
        self._write_reports(b"%c" % SPAWN_SLOTS)
        loop.add_reader(self._commands_fd, self._read_commands)
        await self._finished
        await asyncio.sleep(0)  # let the last QUIT leave

    # Commands and reports.

    def _read_commands(self) -> None:
        try:
            data = os.read(self._commands_fd, _READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""  # as good as the end
        try:
            for delivery in self._reader.receive(data):
                self._take(delivery)
        except BadCommand:
            data = b""  # not a qmail-send: finish what is under way, take nothing more from it
        if not data:
            self._reading = False
            self._loop.remove_reader(self._commands_fd)
            self._look_for_end()

    def _take(self, delivery: Delivery) -> None:
        if not self._is_wide and is_question(delivery):
            self._become_wide()
            return
        try:
            self._slots.take(delivery.slot)
        except Refused as refusal:
            self._refuse(delivery, refusal.report)
            return
        try:
            if len({split_recipient(recipient)[1].lower() for recipient in delivery.recipients}) > 1:
                raise Refused(_STRANGE_HOST)
            message_fd = open_message(self._home, self._queue_uid, delivery)
        except Refused as refusal:
            self._slots.free(delivery.slot)
            self._refuse(delivery, refusal.report)
            return
        task = self._loop.create_task(self._deliver(delivery, message_fd))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _become_wide(self) -> None:
        """qmail-send is one of ours and waits for this answer before it says more.

        A program of the site's takes one recipient a run, so that each has a slot and a report of its own.
        """
        recipients = 1 if foreign_program(self._home, self._environ) is not None else RECIPIENTS_MAX
        self._reports.append(encode_report(ASKING_SLOT, Terms(self._wide_slots, recipients).answer()))
        self._flush_reports()
        self._reader, self._slots, self._is_wide = WideCommandReader(), Slots(self._wide_slots), True

    def _refuse(self, delivery: Delivery, report: "Report") -> None:
        for index in range(len(delivery.recipients)):
            self._report(place_of(delivery.slot, index), report)

    def _report(self, place: int, report: "Report") -> None:
        """Reports of one turn of the loop leave in one write."""
        if not self._reports:
            self._loop.call_soon(self._flush_reports)
        self._reports.append(encode_wide_report(place, report) if self._is_wide else encode_report(place, report))

    def _flush_reports(self) -> None:
        self._write_reports(b"".join(self._reports))
        self._reports.clear()
        self._look_for_end()

    def _write_reports(self, data: bytes) -> None:
        if self._somebody_listens:
            try:
                write_all(self._reports_fd, data)
            except OSError:
                self._somebody_listens = False  # qmail-send is gone; it will try these again, we finish and leave

    def _look_for_end(self) -> None:
        if not self._reading and not len(self._slots) and not self._reports and not self._finished.done():
            self._finished.set_result(None)

    # One delivery.

    async def _deliver(self, delivery: Delivery, message_fd: int) -> None:
        untold = set(range(len(delivery.recipients)))

        def tell(index: int, report: "Report") -> None:
            untold.remove(index)
            if not untold:
                self._slots.free(delivery.slot)  # before its last report: qmail-send may use it again at once
            self._report(place_of(delivery.slot, index), report)

        trouble = CRASHED
        try:
            known = self._current()
            if known.program is not None:
                await run_for_each(known.program, delivery, message_fd, self._environ, tell)
            else:
                await self._deliver_here(known, delivery, message_fd, tell)
        except MemoryError:
            trouble = OUT_OF_MEMORY
        except Exception as error:  # noqa: BLE001 - a bug met by one delivery: it waits, the others go on
            complain(f"qmail-rspawn: delivery failed: {type(error).__name__}: {error}")
        finally:
            os.close(message_fd)
        for index in sorted(untold):
            tell(index, trouble)
        self._look_for_end()

    async def _deliver_here(self, known: Known, delivery: Delivery, message_fd: int, tell: "Tell") -> None:
        if known.settings is None:
            return tell_all(delivery, tell, known.trouble or NO_CONTROLS)
        try:
            message = Message(message_fd)
        except OSError:
            return tell_all(delivery, tell, NO_MESSAGE)
        _, host = split_recipient(delivery.recipient)
        job = Job(host, delivery.sender, delivery.recipients, message)
        around = Surroundings(
            known.settings, own=known.own, timeouts=self._timeouts, draw=chance, singly=self._singly
        )  # fmt: skip
        return await deliver(job, around, self._resolver, tell)

    def _current(self) -> Known:
        now_s = self._loop.time()
        if self._known is None or now_s >= self._known.read_at_s + REFRESH_S:
            self._known = self._read_again(now_s)
        return self._known

    def _read_again(self, now_s: float) -> Known:
        known = Known(now_s)
        known.program = foreign_program(self._home, self._environ)
        try:
            known.settings = read_remote_settings(control_reader(self._home))
            known.own = self._own_addresses()
        except (Missing, Unreadable):
            known.trouble = NO_CONTROLS
        except OSError:
            known.settings, known.trouble = None, NO_RESOURCES
        return known


def tell_all(delivery: Delivery, tell: "Tell", report: "Report") -> None:
    """The same report for each recipient."""
    for index in range(len(delivery.recipients)):
        tell(index, report)


def run(spawner: Rspawn) -> None:
    """Gives the spawner an event loop, uvloop's where that is installed, and serves."""
    try:
        import uvloop
    except ImportError:
        new_loop = asyncio.new_event_loop
    else:
        new_loop = uvloop.new_event_loop
    gc.collect()
    gc.freeze()  # what is loaded now stays: no need to look through it at every collection
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(spawner.serve())
