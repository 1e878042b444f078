"""qmail-lspawn(8): takes qmail-send's commands, finds each address's user, has a warm worker of that uid deliver.

It is the one program of the mail system that stays root. So it reads no message and no `.qmail`; of what strangers
wrote it sees the addresses, which it cuts at the last @ and looks up. A worker is forked for a (uid, gid), gives up
its rights before its first job, and is given only jobs of that uid; idle ones are let go. Password-file lookups
run in a short-lived child as qmailp, as in C, and their answers live for a second.

One thread, one poll loop, nothing in it waits for a worker.
"""

import fcntl  # noqa: F401 - and so on: what a worker needs it must have before it gives up the right to read it
import gc
import os
import select

from notqmail.control.assign import Assignment, decode
from notqmail.deliver import users
from notqmail.deliver.crew import LOOK_ROUND_S, Crew
from notqmail.deliver.lspawn_children import ProgramChoice, Settings, start_getpw
from notqmail.deliver.spawn import Refused, Slots, open_message, split_recipient
from notqmail.deliver.worker_link import CRASHED, Job
from notqmail.queue import client as _queue_client  # noqa: F401
from notqmail.unix.processes import write_all
from notqmail.wire.reports import Report, permanent, success, temporary
from notqmail.wire.spawn_link import SPAWN_SLOTS, CommandReader, Delivery, encode_report
from notqmail.wire.wide_link import (
    ASKING_SLOT,
    Terms,
    WideCommandReader,
    encode_wide_report,
    is_question,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from notqmail.unix.clock import Clock

WIDE_SLOTS = 1_000  # what a qmail-send of ours may use; a classic one has SPAWN_SLOTS
LOOKUP_LIVES_S = 1.0
LOOKUPS_KEPT = 1_000
_GETPW_OUTPUT_MAX = 4_096
_NO_ID = 0xFFFFFFFF  # (uid_t) -1 means "leave it as it is" to setresuid(2)

_SOFT_EXITS = frozenset((111, 71, 74, 75))
_CODE_TEXTS = {
    users.CDB_TROUBLE: temporary(b"Trouble reading users/cdb in qmail-lspawn.\n"),
    users.OUT_OF_MEMORY: temporary(b"Out of memory in qmail-lspawn.\n"),
    users.SYSTEM_TROUBLE: temporary(b"Temporary failure in qmail-lspawn.\n"),
    users.NO_ALIAS: temporary(b"Unable to find alias user!\n"),
    users.ROOT: temporary(b"Not allowed to perform deliveries as root.\n"),
    users.BUG: temporary(b"Internal qmail-lspawn bug.\n"),
    users.NFS_TROUBLE: temporary(b"NFS failure in qmail-local.\n"),
    users.CANNOT_RUN_HARD: permanent(b"Unable to run qmail-local.\n"),
    users.CANNOT_RUN: temporary(b"Unable to run qmail-local.\n"),
    users.CANNOT_RUN_GETPW: temporary(b"Unable to run qmail-getpw.\n"),
}
_CRASHED = temporary(b"qmail-local crashed.\n")


def report_for_status(status: int, output: bytes) -> Report:
    """What qmail-local's exit status means: unlisted codes are permanent. `output` counts up to its first NUL."""
    if status == CRASHED:
        return _CRASHED
    if status in _CODE_TEXTS:
        return _CODE_TEXTS[status]
    text = output.split(b"\0", 1)[0]
    if status == 0:
        return success(text)
    return temporary(text) if status in _SOFT_EXITS else permanent(text)


class Waiting:
    """A delivery on its way to a worker: its message is open, its address is cut in two."""

    __slots__ = ("domain", "local", "message_fd", "sender", "slot")

    def __init__(self, slot: int, message_fd: int, local: bytes, domain: bytes, sender: bytes) -> None:
        self.slot, self.message_fd, self.local, self.domain, self.sender = slot, message_fd, local, domain, sender


class Lookup:
    """A password-file lookup in a child, and the deliveries that wait for it."""

    __slots__ = ("deliveries", "local", "output", "pid", "reader")

    def __init__(self, local: bytes, pid: int, reader: int) -> None:
        self.local, self.pid, self.reader, self.output = local, pid, reader, b""
        self.deliveries: list[Waiting] = []


class LocalSpawner:
    """The program's whole state. `commands` and `reports` are descriptors 0 and 1."""

    def __init__(self, settings: Settings, clock: "Clock", commands: int = 0, reports: int = 1) -> None:
        self._settings, self._clock = settings, clock
        self._commands, self._reports = commands, reports
        self._reader: CommandReader | WideCommandReader = CommandReader()
        self._slots = Slots()
        self._encode: Callable[[int, Report], bytes] = encode_report
        self._assigned = users.AssignedUsers(settings.home)
        self._lookups: dict[bytes, Lookup] = {}
        self._known: dict[bytes, tuple[float, Assignment]] = {}
        self._lookup_by_fd: dict[int, Lookup] = {}
        self._program = ProgramChoice(settings)
        self._out = bytearray()
        self._poll = select.poll()
        self._listening = self._writing = True
        self._crew = Crew(settings, clock, self._poll, self._finish, self._report)
        self._own_key = (os.geteuid(), os.getegid())
        self._login = b""
        if settings.accounts.single_user:
            self._login = users.login_name(os.geteuid(), settings.environ.get(b"USER", b""))

    def run(self) -> None:
        """Until commands end and no slot is busy. Raises BadCommand for a peer that is no qmail-send."""
        gc.collect()
        gc.freeze()  # what is imported is shared with the workers, and stays shared while nobody counts in it
        self._out.append(SPAWN_SLOTS)
        self._write_reports()
        self._poll.register(self._commands, select.POLLIN)
        while self._listening or len(self._slots):
            for descriptor, events in self._poll.poll(LOOK_ROUND_S * 1_000 if self._crew else None):
                if descriptor == self._commands:
                    self._hear_commands()
                elif descriptor in self._lookup_by_fd:
                    self._hear_lookup(self._lookup_by_fd[descriptor])
                else:
                    self._crew.hear(descriptor, events)
            self._crew.send()
            self._write_reports()
            self._crew.look_round()
        self._crew.dismiss_all()
        self._assigned.close()

    # -- commands and reports ---------------------------------------------------------------------------------------

    def _hear_commands(self) -> None:
        try:
            data = os.read(self._commands, 65_536)
        except OSError:
            data = b""  # a broken pipe tells no more than a closed one
        if not data:
            self._listening = False
            self._poll.unregister(self._commands)
            return
        self._program.refresh()
        for delivery in self._reader.receive(data):
            if self._encode is encode_report and is_question(delivery):
                self._become_wide()
            else:
                self._start(delivery)

    def _become_wide(self) -> None:
        """qmail-send is one of ours and waits for this answer before it says more."""
        self._out += encode_report(ASKING_SLOT, Terms(WIDE_SLOTS, 1).answer())
        self._reader, self._slots, self._encode = WideCommandReader(), Slots(WIDE_SLOTS), encode_wide_report

    def _finish(self, slot: int, status: int, output: bytes) -> None:
        self._report(slot, report_for_status(status, output))

    def _report(self, slot: int, report: Report) -> None:
        self._slots.free(slot)
        self._out += self._encode(slot, report)

    def _write_reports(self) -> None:
        """Blocking: qmail-send reads. When nobody reads any more, the deliveries under way are still finished."""
        if self._out and self._writing:
            try:
                write_all(self._reports, memoryview(self._out))
            except OSError:
                self._writing = False
        self._out.clear()

    # -- from a command to a user -----------------------------------------------------------------------------------

    def _start(self, delivery: Delivery) -> None:
        slot = delivery.slot
        try:
            self._slots.take(slot)
        except Refused as refused:
            self._out += self._encode(slot, refused.report)  # a busy slot stays busy
            return
        try:
            message_fd = open_message(self._settings.home, self._settings.accounts.uids["queue"], delivery)
        except Refused as refused:
            self._report(slot, refused.report)
            return
        local, domain = split_recipient(delivery.recipient)
        waiting = Waiting(slot, message_fd, local, domain, delivery.sender)
        if not local:
            self._drop(waiting, success())  # <@host>: to nobody
            return
        try:
            assignment = self._assigned.find(local) or self._known_account(local)
        except users.LookupFailed as failed:
            self._drop(waiting, report_for_status(failed.code, b""))
            return
        if assignment is not None:
            self._employ(waiting, assignment)
        else:
            self._look_up(waiting)

    def _drop(self, waiting: Waiting, report: Report) -> None:
        os.close(waiting.message_fd)
        self._report(waiting.slot, report)

    def _known_account(self, local: bytes) -> Assignment | None:
        settings = self._settings
        if settings.accounts.single_user:
            return users.single_user_account(
                local, login=self._login, home=settings.home, uid=self._own_key[0], gid=self._own_key[1]
            )
        known = self._known.get(local)
        if known is not None and known[0] > self._clock.steady_s():
            return known[1]
        return None

    def _look_up(self, waiting: Waiting) -> None:
        """Asks the password file in a child; deliveries to one address share the question."""
        lookup = self._lookups.get(waiting.local)
        if lookup is None:
            try:
                pid, reader = start_getpw(self._settings, waiting.local)
            except OSError:
                self._drop(waiting, report_for_status(users.SYSTEM_TROUBLE, b""))
                return
            lookup = self._lookups[waiting.local] = self._lookup_by_fd[reader] = Lookup(waiting.local, pid, reader)
            self._poll.register(reader, select.POLLIN)
        lookup.deliveries.append(waiting)

    def _hear_lookup(self, lookup: Lookup) -> None:
        piece = os.read(lookup.reader, _GETPW_OUTPUT_MAX)
        if piece and len(lookup.output) < _GETPW_OUTPUT_MAX:
            lookup.output += piece
        elif not piece:
            self._finish_lookup(lookup)

    def _finish_lookup(self, lookup: Lookup) -> None:
        """Its output ended. A site's own qmail-getpw that lived on after that would hold us here."""
        self._poll.unregister(lookup.reader)
        del self._lookup_by_fd[lookup.reader], self._lookups[lookup.local]
        os.close(lookup.reader)
        status = os.waitpid(lookup.pid, 0)[1]
        code = users.SYSTEM_TROUBLE if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)
        assignment = decode(lookup.output) if code == 0 else None
        if assignment is None:
            for waiting in lookup.deliveries:
                self._drop(waiting, report_for_status(code or users.BUG, b""))
            return
        if len(self._known) >= LOOKUPS_KEPT:
            self._known.clear()
        self._known[lookup.local] = (self._clock.steady_s() + LOOKUP_LIVES_S, assignment)
        for waiting in lookup.deliveries:
            self._employ(waiting, assignment)

    # -- from a user to a worker ------------------------------------------------------------------------------------

    def _employ(self, waiting: Waiting, assignment: Assignment) -> None:
        key = self._own_key
        if not self._settings.accounts.single_user:
            key = (assignment.uid, assignment.gid)
            if key[0] == 0 or max(key) >= _NO_ID:
                self._drop(waiting, report_for_status(users.BUG if key[0] else users.ROOT, b""))
                return
        job = Job(
            waiting.slot, assignment.user, assignment.home, waiting.local, assignment.dash, assignment.ext,
            waiting.domain, waiting.sender, self._program.path,
        )  # fmt: skip
        self._crew.give(key, job, waiting.message_fd)
