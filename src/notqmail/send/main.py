"""qmail-send: everything it needs at its start, then its loop (qmail-send(8)).

Descriptors, from qmail-start: 0 log out; 1 and 2 qmail-lspawn's commands and reports; 3 and 4 qmail-rspawn's;
5 and 6 qmail-clean's.
"""

import fcntl
import gc
import os
import signal

from notqmail.control.files import Missing, leading_digits
from notqmail.control.send_settings import SendSettings
from notqmail.queue import trigger
from notqmail.queue.client import SocketSubmission, open_submission
from notqmail.queue.layout import SENDMUTEX, queue_directory
from notqmail.queue.ledger_apart import sum_up_apart
from notqmail.queue.store import LOCAL, REMOTE, QueueStore
from notqmail.send.bounces import Bouncer
from notqmail.send.channels import Channel
from notqmail.send.cleaner_link import CleanerLink
from notqmail.send.log import Log
from notqmail.send.loop import Flags, Loop, Trigger, poll_wait
from notqmail.send.sender import Sender
from notqmail.send.start import WRITER_VARIABLE
from notqmail.send.todo import Preprocessor
from notqmail.unix.bulk_sync import load_bulk_sync
from notqmail.unix.controls import Unreadable, control_reader
from notqmail.unix.durable import Disk
from notqmail.unix.mains import TEMPORARY, complain
from notqmail.wire.spawn_link import ReportReader
from notqmail.wire.wide_link import ASKING_SLOT, question, terms_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from notqmail.unix.clock import Clock
    from notqmail.wire.wide_link import Terms

LOG_FD, CLEAN_COMMANDS_FD, CLEAN_REPLIES_FD = 0, 5, 6
LOCAL_COMMANDS_FD, LOCAL_REPORTS_FD, REMOTE_COMMANDS_FD, REMOTE_REPORTS_FD = 1, 2, 3, 4
_NO_SPAWNER = "hath the daemon spawn no fire?"  # qmail's own words


class CannotStart(Exception):
    """str() is the end of the line `alert: cannot start: ...`."""


def serve(home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock") -> int:
    """Runs qmail-send on descriptors 0 to 6 until a clean exit; returns the exit code."""
    log = Log(LOG_FD)
    try:
        loop = _build(home, environ, clock, log)
    except CannotStart as reason:
        log.alert(b"cannot start: " + str(reason).encode())
        if not _is_log(LOG_FD):
            complain(f"qmail-send: fatal: cannot start: {reason} (qmail-start starts me)")
        return TEMPORARY
    gc.collect()
    gc.freeze()
    loop.run()
    return 0


def _is_log(descriptor: int) -> bool:
    """Whether somebody will find there what is logged: not where a person has started us by hand."""
    try:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    except OSError:
        return False  # closed
    return flags & os.O_ACCMODE != os.O_RDONLY and not os.isatty(descriptor)


def _build(home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock", log: Log) -> Loop:
    _look_all_are_open()  # now, for what we open ourselves would take the missing numbers
    read = control_reader(home)
    writer = leading_digits(environ.get(WRITER_VARIABLE, b"")) or 0
    environ = {name: value for name, value in environ.items() if name != WRITER_VARIABLE}
    try:
        os.chdir(home)
    except OSError:
        raise CannotStart("unable to switch to home directory") from None
    try:
        settings = SendSettings(read)
    except (Missing, Unreadable) as trouble:
        raise CannotStart(f"unable to read controls: {trouble}") from None
    try:
        os.chdir(queue_directory(home))
    except OSError:
        raise CannotStart("unable to switch to queue directory") from None
    os.umask(0o077)
    _take_mutex()
    channels = _channels(settings)
    store, cleaner = (
        QueueStore(Disk(bulk=load_bulk_sync()), sum_up_apart),
        CleanerLink(CLEAN_COMMANDS_FD, CLEAN_REPLIES_FD),
    )
    bouncer = Bouncer(
        store, log, clock, lambda: open_submission(home, environ, resident=True),
        bounce_from=settings.bounce_from, bounce_host=settings.bounce_host,
        double_bounce_recipient=settings.double_bounce_recipient,
    )  # fmt: skip
    fifo = Trigger(lambda: trigger.listen(b"."))
    preprocessor = Preprocessor(store, log, cleaner, settings.routing, fifo.rearm)
    sender = Sender(
        store, log, channels, bouncer, preprocessor, lifetime_s=settings.lifetime_s,
        shown_address=lambda address: preprocessor.routing.strip_virtual_prefix(address),
    )  # fmt: skip

    def reread() -> None:
        try:
            preprocessor.routing = preprocessor.routing.reread(read)
        except (Missing, Unreadable) as trouble:
            log.alert(b"unable to reread controls: " + str(trouble).encode())

    flags = Flags()
    wakeup_fd = _catch_signals(flags)
    fifo.rearm()
    try:
        sender.books.open()
        sender.load(clock.now_s())
    except OSError as error:
        raise CannotStart(f"unable to read the queue: {error.strerror}") from None
    sender.log_status()
    return Loop(
        store=store, log=log, clock=clock, sender=sender, preprocessor=preprocessor, cleaner=cleaner, trigger=fifo,
        flags=flags, reread=reread, wait=poll_wait(wakeup_fd), writer_is_lost=lambda: _is_lost(home, writer),
    )  # fmt: skip


def _look_all_are_open() -> None:
    """By hand, without descriptors: reading a report from a terminal would wait for ever."""
    for descriptor in range(1, CLEAN_REPLIES_FD + 1):
        try:
            os.fstat(descriptor)
        except OSError:
            raise CannotStart(_NO_SPAWNER) from None


def _take_mutex() -> None:
    """One qmail-send a queue: the lock is held as long as this process lives."""
    try:
        mutex = os.open(SENDMUTEX, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise CannotStart("unable to open mutex") from None
    try:
        fcntl.flock(mutex, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise CannotStart("qmail-send is already running") from None


def _channels(settings: SendSettings) -> list[Channel]:
    """Each spawner first says how many slots it has, and is then asked whether it can more."""
    local_slots = _hello(LOCAL_REPORTS_FD)
    remote_slots = _hello(REMOTE_REPORTS_FD)
    local = _ask_for_terms(LOCAL_COMMANDS_FD, LOCAL_REPORTS_FD)
    remote = _ask_for_terms(REMOTE_COMMANDS_FD, REMOTE_REPORTS_FD)
    for descriptor in (LOCAL_COMMANDS_FD, LOCAL_REPORTS_FD, REMOTE_COMMANDS_FD, REMOTE_REPORTS_FD):
        os.set_blocking(descriptor, False)
    local_slots = local.slots if local is not None else local_slots
    remote_slots = remote.slots if remote is not None else remote_slots
    concurrency_remote = min(settings.concurrency_remote, remote_slots)
    return [
        Channel(
            LOCAL, min(settings.concurrency_local, local_slots), LOCAL_COMMANDS_FD, LOCAL_REPORTS_FD, terms=local
        ),
        Channel(
            REMOTE, concurrency_remote, REMOTE_COMMANDS_FD, REMOTE_REPORTS_FD, terms=remote,
            host_limit=max(settings.concurrency_host, 1),
            slow_max=min(settings.concurrency_slow, remote_slots - concurrency_remote) if concurrency_remote else 0,
        ),
    ]  # fmt: skip


def _hello(reports_fd: int) -> int:
    return _read_some(reports_fd, 1)[0]


def _ask_for_terms(commands_fd: int, reports_fd: int) -> "Terms | None":
    """The wide link, if the spawner knows it: whoever it is, it answers a command."""
    try:
        os.write(commands_fd, question())
    except OSError:
        raise CannotStart(_NO_SPAWNER) from None
    reader = ReportReader()
    while not (found := reader.receive(_read_some(reports_fd, 4_096))):
        pass
    slot, report = found[0]
    return terms_from(report) if slot == ASKING_SLOT else None


def _read_some(descriptor: int, size: int) -> bytes:
    try:
        data = os.read(descriptor, size)
    except OSError:
        data = b""
    if not data:
        raise CannotStart(_NO_SPAWNER)
    return data


def _is_lost(home: bytes, writer: int) -> bool:
    """Whether the writer that qmail-start started with us has ended, and no other has taken its place."""
    try:
        if not writer or os.waitpid(writer, os.WNOHANG)[0] == 0:
            return False
    except ChildProcessError:
        return False  # we have seen its end before
    submission = SocketSubmission.connect(home)
    if submission is None:
        return True
    submission.abandon()
    return False


def _catch_signals(flags: Flags) -> int:
    """TERM, ALRM, HUP and a child's end set flags; the returned descriptor becomes readable when one is set."""
    for number, name in ((signal.SIGTERM, "exit"), (signal.SIGALRM, "run"), (signal.SIGHUP, "reread")):
        signal.signal(number, lambda *_, name=name: setattr(flags, name, True))
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: setattr(flags, "child", True))
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write)
    return wake_read
