"""qmail-lspawn's children, each in the first moments after its fork: shed what is the parent's, become a user, go on.

A child never returns into qmail-lspawn's code: whatever happens it ends by `os._exit`, with one of the codes that
qmail-lspawn turns into a report.
"""

import os
import socket

from notqmail.deliver import users, worker
from notqmail.unix.accounts import Accounts, become
from notqmail.unix.bulk_sync import load_bulk_sync
from notqmail.unix.durable import Disk
from notqmail.unix.launchers import is_ours
from notqmail.unix.mains import complain
from notqmail.unix.processes import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from notqmail.unix.clock import Clock


class Settings:
    """What does not change while qmail-lspawn runs. `instead` is $QMAILLOCAL or empty."""

    __slots__ = ("accounts", "bulk", "default_delivery", "environ", "home", "instead")

    def __init__(
        self, home: bytes, default_delivery: bytes, accounts: Accounts, environ: "Mapping[bytes, bytes]"
    ) -> None:
        self.home, self.default_delivery, self.accounts = home, default_delivery, accounts
        self.environ = dict(environ)
        self.instead = self.environ.get(b"QMAILLOCAL", b"")
        self.bulk = load_bulk_sync()  # here: a worker's user may be unable to import what it needs


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
            self.path = b"" if is_ours(self._own, b"qmail-local") else self._own
            self._identity = identity


def be_worker(link: socket.socket, key: tuple[int, int], settings: Settings, clock: "Clock") -> None:
    """In the forked child: keeps only `link`, becomes the user, serves. Never returns."""
    code = users.BUG
    try:
        _keep_only(link)
        if not settings.accounts.single_user:
            become(key[0], key[1], [key[1]])
        worker.serve(
            link, home=settings.home, environ=settings.environ, default_delivery=settings.default_delivery,
            clock=clock, disk=Disk(bulk=settings.bulk),
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
