"""Starting the resident qmail-queue: rights, socket, signals; then the loop of queue_serve.py."""

import gc
import os
import signal
import socket
import stat

from notqmail.queue.client import socket_path
from notqmail.queue.layout import queue_directory
from notqmail.receive.queue_serve import QueueServer
from notqmail.unix.accounts import MissingAccount, accounts_for, become
from notqmail.unix.bulk_sync import load_bulk_sync
from notqmail.unix.clock import Clock
from notqmail.unix.durable import Disk
from notqmail.unix.mains import PERMANENT, TEMPORARY, complain
from notqmail.unix.memory import RESIDENT_BYTES, limit_memory
from notqmail.unix.open_files import allow_many_open_files


def serve(home: bytes, arguments: list[str]) -> int:
    """Serves until TERM. `--lifeline FD` ends it when that descriptor reaches its end. Returns an exit code.

    As root it becomes the queue's owner before it reads a byte from anybody.
    """
    lifeline_fd = -1
    if arguments[:1] == ["--lifeline"] and len(arguments) == 2 and arguments[1].isdigit():
        lifeline_fd = int(arguments[1])
    elif arguments:
        complain("usage: qmail-queue --serve [--lifeline FD]")
        return PERMANENT
    try:
        accounts = accounts_for(home)
    except MissingAccount as missing:
        complain(str(missing))
        return TEMPORARY
    try:
        _own_run_directory(home, accounts.uids["queue"], accounts.gids["queue"])
        become(accounts.uids["queue"], accounts.gids["queue"])
        os.umask(0o033)
        os.chdir(queue_directory(home))
        # qmail-start's writer only helps out; a supervisor's, ending again and again, would be given up for good.
        listener = listen(home, stand_by=lifeline_fd < 0)
    except BlockingIOError:
        complain("qmail-queue: fatal: another qmail-queue --serve already runs for this home")
        return TEMPORARY
    except OSError as error:
        where = f": {os.fsdecode(error.filename)}" if error.filename else ""
        complain(f"qmail-queue: fatal: cannot serve {os.fsdecode(home)}: {error.strerror or error}{where}")
        return TEMPORARY
    server = QueueServer(
        home, Disk(bulk=load_bulk_sync()), Clock(), listener,
        uids=None if accounts.single_user else dict(accounts.uids), lifeline_fd=lifeline_fd,
    )  # fmt: skip

    def stop(*_: object) -> None:
        server.stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write)
    server.watch(wake_read)
    limit_memory(RESIDENT_BYTES)
    allow_many_open_files()  # each connection may bring a file
    gc.collect()
    gc.freeze()
    gc.disable()  # nothing here makes cycles; a pause would be everybody's pause
    complain("qmail-queue: serving")
    server.run()
    return 0


def _own_run_directory(home: bytes, uid: int, gid: int) -> None:
    """HOME/run must exist, be the queue owner's, who makes the socket in it, and be open for everybody to enter."""
    run = os.path.join(home, b"run")
    try:
        os.mkdir(run)
    except FileExistsError:
        pass  # from an earlier start, or from `notqmail init`
    status = os.stat(run)
    if status.st_uid in (uid, os.geteuid()) and stat.S_IMODE(status.st_mode) != 0o755:
        os.chmod(run, 0o755)  # whatever umask we were started with
    if os.geteuid() == 0 and status.st_uid == 0 and uid != 0:
        os.chown(run, uid, gid)  # only when it must: a sandboxed root may not (packaging/systemd/qmail-send.service)


def listen(home: bytes, *, stand_by: bool) -> socket.socket:
    """The listening socket HOME/run/qmail-queue, open to every user as the setuid qmail-queue was.

    When another writer serves this home: waits for its end if `stand_by`, else raises BlockingIOError. Raises OSError.
    """
    import fcntl

    path = socket_path(home)
    lock = os.open(path + b".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held as long as the process lives
    except BlockingIOError:
        if not stand_by:
            raise
        complain("qmail-queue: another qmail-queue --serve already runs for this home: waiting for its end")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # first start in this home
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen(1_024)
    listener.setblocking(False)
    return listener
