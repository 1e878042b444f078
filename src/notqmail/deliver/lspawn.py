"""qmail-lspawn(8): takes qmail-send's commands, finds each address's user, has a warm worker of that uid deliver.

It is the one program of the mail system that stays root. So it reads no message and no `.qmail`; of what strangers
wrote it sees the addresses, which it cuts at the last @ and looks up. A worker is forked for a (uid, gid), gives up
its rights before its first job, and is given only jobs of that uid; idle ones are let go. Password-file lookups
run in a short-lived child as qmailp, as in C, and their answers live for a second.

One thread, one poll loop, nothing in it waits for a worker.
"""

import gc
import os
import select
import socket

from notqmail.control.assign import Assignment, decode
from notqmail.deliver import spawn, users, worker, worker_link
from notqmail.deliver.mailboxes import AnyPlaceDisk
from notqmail.deliver.spawn import Refused, Slots, open_message, split_recipient
from notqmail.deliver.worker_link import CRASHED, Job
from notqmail.queue import client as _queue_client  # noqa: F401 - so that no worker's child has to import it
from notqmail.unix.accounts import Accounts, become
from notqmail.unix.durable import load_syncfs
from notqmail.unix.launchers import is_ours
from notqmail.unix.mains import complain
from notqmail.unix.processes import write_all
from notqmail.wire.reports import Report, permanent, success, temporary
from notqmail.wire.spawn_link import SPAWN_SLOTS, CommandReader, Delivery, encode_report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from notqmail.unix.clock import Clock

WORKER_IDLE_S = 60.0
LOOK_ROUND_MS = 5_000  # how often idle workers are counted and dead ones buried when nothing else happens
WORKERS_MAX = 64  # then the one that has been idle longest is let go
LOOKUP_LIVES_S = 1.0
LOOKUPS_KEPT = 1_000
_GETPW_OUTPUT_MAX = 4_096

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


class Employed:
    """A worker as we see it: its socket, the slots it has, the jobs not sent yet."""

    __slots__ = ("idle_since_s", "open_slots", "pid", "queue", "sock")

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid, self.sock, self.idle_since_s = pid, sock, 0.0
        self.open_slots: set[int] = set()
        self.queue: list[tuple[Job, int]] = []


class Lookup:
    """A password-file lookup in a child, and the deliveries that wait for it."""

    __slots__ = ("deliveries", "local", "output", "pid", "reader")

    def __init__(self, local: bytes, pid: int, reader: int) -> None:
        self.local, self.pid, self.reader, self.output = local, pid, reader, b""
        self.deliveries: list[Waiting] = []


class Settings:
    """What does not change while qmail-lspawn runs. `instead` is $QMAILLOCAL or empty."""

    __slots__ = ("accounts", "default_delivery", "environ", "home", "instead")

    def __init__(
        self, home: bytes, default_delivery: bytes, accounts: Accounts, environ: "Mapping[bytes, bytes]"
    ) -> None:
        self.home, self.default_delivery, self.accounts = home, default_delivery, accounts
        self.environ = dict(environ)
        self.instead = self.environ.get(b"QMAILLOCAL", b"")


class LocalSpawner:
    """The program's whole state. `commands` and `reports` are descriptors 0 and 1."""

    def __init__(self, settings: Settings, clock: "Clock", commands: int = 0, reports: int = 1) -> None:
        self._settings, self._clock = settings, clock
        self._commands, self._reports = commands, reports
        self._reader, self._slots = CommandReader(), Slots()
        self._assigned = users.AssignedUsers(settings.home)
        self._workers: dict[tuple[int, int], Employed] = {}
        self._by_fd: dict[int, Employed | Lookup] = {}
        self._lookups: dict[bytes, Lookup] = {}
        self._known: dict[bytes, tuple[float, Assignment]] = {}
        self._leaving: list[int] = []  # workers let go, not yet waited for
        self._unsent: dict[tuple[int, int], Employed] = {}
        self._program = ProgramChoice(settings)
        self._out = bytearray()
        self._poll = select.poll()
        self._listening = self._writing = True
        self._look_round_s = 0.0
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
            for descriptor, events in self._poll.poll(LOOK_ROUND_MS if self._workers or self._leaving else None):
                if descriptor == self._commands:
                    self._hear_commands()
                    continue
                other = self._by_fd.get(descriptor)
                if isinstance(other, Lookup):
                    self._hear_lookup(other)
                elif other is not None:
                    self._hear_worker(other, events)
            for key, employed in list(self._unsent.items()):
                self._send_jobs(key, employed)
            self._write_reports()
            if self._clock.steady_s() >= self._look_round_s:
                self._let_idle_go()
        self._dismiss_all()

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
            self._start(delivery)

    def _report(self, slot: int, report: Report) -> None:
        self._slots.free(slot)
        self._out += encode_report(slot, report)

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
            self._out += encode_report(slot, refused.report)  # a busy slot stays busy
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
                local, login=self._login, home=settings.home, uid=os.geteuid(), gid=os.getegid()
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
            lookup = self._lookups[waiting.local] = self._by_fd[reader] = Lookup(waiting.local, pid, reader)
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
        del self._by_fd[lookup.reader], self._lookups[lookup.local]
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
        if self._settings.accounts.single_user:
            key = (os.geteuid(), os.getegid())
        else:
            key = (assignment.uid, assignment.gid)
            if key[0] == 0:
                self._drop(waiting, report_for_status(users.ROOT, b""))
                return
            if max(key) >= 0xFFFFFFFF:  # (uid_t) -1 means "leave it" to setresuid(2)
                self._drop(waiting, report_for_status(users.BUG, b""))
                return
        employed = self._workers.get(key)
        if employed is None:
            try:
                employed = self._hire(key)
            except OSError:
                self._drop(waiting, spawn.CANNOT_FORK)
                return
        job = Job(
            waiting.slot, assignment.user, assignment.home, waiting.local, assignment.dash, assignment.ext,
            waiting.domain, waiting.sender, self._program.path,
        )  # fmt: skip
        if job.size() > worker_link.JOB_FIELD_BYTES:
            self._drop(waiting, spawn.OUT_OF_MEMORY)
            return
        employed.queue.append((job, waiting.message_fd))
        employed.open_slots.add(waiting.slot)
        self._unsent[key] = employed

    def _hire(self, key: tuple[int, int]) -> Employed:
        """Forks a worker. Raises OSError."""
        if len(self._workers) >= WORKERS_MAX:
            self._let_longest_idle_go()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            be_worker(theirs, key, self._settings, self._clock)
        theirs.close()
        ours.setblocking(False)
        employed = self._workers[key] = self._by_fd[ours.fileno()] = Employed(pid, ours)
        self._poll.register(ours, select.POLLIN)
        return employed

    def _send_jobs(self, key: tuple[int, int], employed: Employed) -> None:
        """Sends what its socket takes; the rest when poll says that there is room."""
        while employed.queue:
            count = _packet_size(employed.queue)
            part = employed.queue[:count]
            packet = worker_link.encode_jobs([job for job, _ in part])
            try:
                socket.send_fds(employed.sock, [packet], [message_fd for _, message_fd in part])
            except BlockingIOError:
                self._poll.modify(employed.sock, select.POLLIN | select.POLLOUT)
                return
            except (BrokenPipeError, ConnectionResetError):
                break  # it is dead: poll says so too, and there its jobs are answered
            except OSError:
                self._refuse(employed, part)  # a packet that no socket takes
            for _, message_fd in part:
                os.close(message_fd)
            del employed.queue[:count]
        del self._unsent[key]

    def _refuse(self, employed: Employed, part: "list[tuple[Job, int]]") -> None:
        for job, _ in part:
            employed.open_slots.discard(job.slot)
            self._report(job.slot, spawn.OUT_OF_MEMORY)

    def _hear_worker(self, employed: Employed, events: int) -> None:
        if events & select.POLLOUT:
            self._poll.modify(employed.sock, select.POLLIN)
        if not events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            return
        try:
            packet = employed.sock.recv(worker_link.PACKET_MAX)
            for slot, status, output in worker_link.decode_results(packet):
                if slot in employed.open_slots:
                    employed.open_slots.remove(slot)
                    self._report(slot, report_for_status(status, output))
        except BlockingIOError:
            return
        except (ConnectionResetError, worker_link.BadPacket):
            packet = b""
        if not packet:
            self._bury(employed)
        elif not employed.open_slots:
            employed.idle_since_s = self._clock.steady_s()

    def _bury(self, employed: Employed) -> None:
        """A worker that ended by itself: every job it had counts as crashed, the next gets a new worker."""
        self._dismiss(employed)
        self._leaving.remove(employed.pid)
        pid, status = os.waitpid(employed.pid, os.WNOHANG)
        if not pid:
            self._leaving.append(employed.pid)
        code = os.waitstatus_to_exitcode(status) if pid and os.WIFEXITED(status) else CRASHED
        report = _CODE_TEXTS.get(code, _CRASHED)
        for _, message_fd in employed.queue:
            os.close(message_fd)
        employed.queue.clear()
        for slot in employed.open_slots:
            self._report(slot, report)

    # -- letting workers go -----------------------------------------------------------------------------------------

    def _dismiss(self, employed: Employed) -> None:
        """Closes its socket: that ends it."""
        key = next(key for key, value in self._workers.items() if value is employed)
        del self._workers[key], self._by_fd[employed.sock.fileno()]
        self._unsent.pop(key, None)
        self._poll.unregister(employed.sock)
        employed.sock.close()
        self._leaving.append(employed.pid)

    def _let_idle_go(self) -> None:
        now_s = self._clock.steady_s()
        self._look_round_s = now_s + LOOK_ROUND_MS / 1_000
        if self._leaving:
            self._leaving = [pid for pid in self._leaving if os.waitpid(pid, os.WNOHANG)[0] == 0]
        for employed in list(self._workers.values()):
            if not employed.open_slots and employed.idle_since_s < now_s - WORKER_IDLE_S:
                self._dismiss(employed)

    def _let_longest_idle_go(self) -> None:
        idle = [employed for employed in self._workers.values() if not employed.open_slots]
        if idle:
            self._dismiss(min(idle, key=lambda employed: employed.idle_since_s))

    def _dismiss_all(self) -> None:
        for employed in list(self._workers.values()):
            self._dismiss(employed)
        for pid in self._leaving:
            os.waitpid(pid, 0)
        self._leaving.clear()
        self._assigned.close()


def _packet_size(queue: "list[tuple[Job, int]]") -> int:
    """How many jobs from the front go into one packet: at least one."""
    size = 0
    for number, (job, _) in enumerate(queue[: worker_link.JOBS_PER_PACKET]):
        size += job.size()
        if number and size > worker_link.PACKET_FIELD_BYTES:
            return number
    return min(len(queue), worker_link.JOBS_PER_PACKET)


class ProgramChoice:
    """What is executed in place of our own core: $QMAILLOCAL, else a HOME/bin/qmail-local that is not ours.

    Looked at again when the file changes, so a site may put in a wrapper (or take it out) under a running system.
    """

    __slots__ = ("_identity", "_own", "_settings", "path")

    def __init__(self, settings: Settings) -> None:
        self._settings, self._own = settings, settings.home + b"/bin/qmail-local"
        self._identity: tuple[int, int, int] | None = None
        self.path = settings.instead

    def refresh(self) -> None:
        """Sets `path`: empty means our core, in the worker."""
        if self._settings.instead:
            return
        try:
            found = os.stat(self._own)
        except OSError:
            self.path, self._identity = b"", None  # no program there: nobody's wrapper is passed over
            return
        identity = (found.st_ino, found.st_mtime_ns, found.st_size)
        if identity != self._identity:
            self.path = b"" if is_ours(self._own) else self._own
            self._identity = identity


# -- in the children -----------------------------------------------------------------------------------------------


def be_worker(link: socket.socket, key: tuple[int, int], settings: Settings, clock: "Clock") -> None:
    """In the forked child: keeps only `link`, becomes the user, serves. Never returns."""
    code = users.BUG
    try:
        _keep_only(link)
        if not settings.accounts.single_user:
            become(key[0], key[1], [key[1]])
        worker.serve(
            link, home=settings.home, environ=settings.environ, default_delivery=settings.default_delivery,
            clock=clock, disk=AnyPlaceDisk(load_syncfs()),
        )  # fmt: skip
        code = 0
    except Exception as error:  # noqa: BLE001 - the outermost frame of a process: said once, its jobs wait
        complain(f"qmail-lspawn: worker for uid {key[0]}: {type(error).__name__}: {error}")
    finally:
        os._exit(code)


def _keep_only(link: socket.socket) -> None:
    """Closes what qmail-lspawn has open, but for `link` and descriptor 2; 0 and 1 become /dev/null."""
    nothing = os.open(b"/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(nothing, 0, inheritable=False)
    os.dup2(nothing, 1, inheritable=False)
    kept = link.fileno()
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def start_getpw(settings: Settings, local: bytes) -> tuple[int, int]:
    """(pid, descriptor of its output) of a child that looks `local` up as qmailp:nofiles. Raises OSError."""
    reader, writer = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    if pid == 0:
        _be_getpw(settings, local, writer)
    os.close(writer)
    return pid, reader


def _be_getpw(settings: Settings, local: bytes, writer: int) -> None:
    """In the child: a site's own HOME/bin/qmail-getpw is executed, ours is this process. Never returns."""
    code = users.BUG
    try:
        program = settings.home + b"/bin/qmail-getpw"
        foreign = os.path.exists(program) and not is_ours(program)
        gid = settings.accounts.gids["nofiles"]
        become(settings.accounts.uids["password"], gid, [gid])
        os.dup2(writer, 1)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        if foreign:
            code = users.CANNOT_RUN_GETPW
            os.chdir(settings.home)
            os.execve(program, [b"bin/qmail-getpw", local], settings.environ)
        code = users.SYSTEM_TROUBLE
        write_all(1, users.find_account(local).encode())
        code = 0
    except users.LookupFailed as failed:
        code = failed.code
    finally:
        os._exit(code)
