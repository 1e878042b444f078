"""qmail-start: the pipes and the processes of qmail-send, and itself becomes qmail-send (qmail-start(8)).

Who is what:            user      0           1           further
    logger              qmaill    log pipe    ours        (only when a logger is given)
    qmail-queue --serve (own)     /dev/null   log         lifeline: ends when qmail-send ends
    qmail-lspawn        root      commands    reports     2: log, for what must not go wrong; nothing above
    qmail-rspawn        qmailr    commands    reports     the same
    qmail-clean         qmailq    commands    replies     the same
    qmail-send          qmails    log, and the other ends of the pipes as 1 to 6

In single-user mode everybody is the caller. The queue's writer is started only when HOME/bin/qmail-queue is ours:
C's is setuid and needs no resident.
"""

import fcntl
import os
import signal

from notqmail.unix.accounts import USERS, Accounts, become, is_single_user
from notqmail.unix.launchers import is_ours
from notqmail.unix.processes import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WRITER_VARIABLE = b"QMAIL_WRITER"  # tells qmail-send the process number of the writer that it must look after
_LIFELINE_FD = 3  # in the writer
_PARKED_FD = 10  # from here on, where nothing is open: what we were started with stays as it is


def why_not(home: bytes) -> "str | None":
    """What keeps this user from starting this home, a sentence for a person; None when nothing is known to.

    Asked before anything is started: a child that could not become its user would end without a word.
    """
    shown = os.fsdecode(home)
    try:
        owner_uid = os.stat(os.path.join(home, b"queue")).st_uid
    except (FileNotFoundError, NotADirectoryError):
        return f"{shown} has no queue: run `notqmail init {shown}`"
    except OSError as error:
        return f"cannot see the queue of {shown}: {error.strerror}"
    if os.geteuid() == 0 or is_single_user(home):
        return None
    import pwd

    try:
        owner = pwd.getpwuid(owner_uid).pw_name
    except KeyError:
        owner = f"uid {owner_uid}"
    # The queue's account does not own all of it, so it could not start the rest; another user's home is all theirs.
    return f"the queue of {shown} belongs to {owner}: start me as {'root' if owner == USERS['queue'] else owner}"


class Start:
    """One start of the whole. `serve` replaces this process and returns only by raising OSError."""

    def __init__(self, home: bytes, environ: "Mapping[bytes, bytes]", accounts: Accounts) -> None:
        self._home, self._accounts = home, accounts
        self._lifeline_fd = -1
        path = environ.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin")
        self._environ = {**environ, b"PATH": path}
        self._send_environ = dict(self._environ)

    def serve(self, default_delivery: bytes, logger: list[bytes]) -> None:
        """Starts all, then becomes qmail-send. Raises OSError when something cannot be started."""
        os.chdir("/")
        os.umask(0o077)
        log_fd = self._logger(logger) if logger else 1
        self._queue_writer(log_fd)
        ends: dict[int, int] = {0: log_fd}
        spawners: list[tuple[list[bytes], str, str]] = [
            ([b"qmail-lspawn", default_delivery], "owner", "queue"),
            ([b"qmail-rspawn"], "remote", "queue"),
            ([b"qmail-clean"], "queue", "queue"),
        ]
        for number, (argv, user, group) in enumerate(spawners):
            commands_in, commands_out = os.pipe()
            replies_in, replies_out = os.pipe()
            self._spawn(argv, {0: commands_in, 1: replies_out, 2: log_fd}, self._rights(user, group))
            os.close(commands_in)
            os.close(replies_out)
            ends |= {2 * number + 1: commands_out, 2 * number + 2: replies_in}
        self._become_send(ends)

    def _spawn(self, argv: list[bytes], descriptors: dict[int, int], rights: "Callable[[], None]") -> None:
        def prepare() -> None:
            os.closerange(max(descriptors) + 1, 10)
            rights()

        spawn(
            [self._program(argv[0]), *argv[1:]], descriptors=descriptors, environ=self._environ,
            search_path=True, before_exec=prepare, exit_on_failure=lambda _error: 111,
        )  # fmt: skip

    def _program(self, name: bytes) -> bytes:
        """Found by PATH, as in C; HOME/bin when PATH does not lead to it."""
        for directory in self._environ[b"PATH"].split(b":"):
            if os.access(os.path.join(directory, name), os.X_OK):
                return name
        own = os.path.join(self._home, b"bin", name)
        return own if os.access(own, os.X_OK) else name

    def _rights(self, user: str, group: str) -> "Callable[[], None]":
        uid, gid = self._accounts.uids[user], self._accounts.gids[group]

        def take() -> None:
            if self._accounts.single_user:
                return
            groups = [gid]
            if user == "remote":  # its supplementary groups may open keys for it
                import grp
                import pwd

                name = pwd.getpwuid(uid).pw_name
                groups += [entry.gr_gid for entry in grp.getgrall() if name in entry.gr_mem and entry.gr_gid != gid]
            become(uid, gid, groups)

        return take

    def _logger(self, argv: list[bytes]) -> int:
        log_in, log_out = os.pipe()
        self._spawn(argv, {0: log_in, 1: 1, 2: 2}, self._rights("log", "nofiles"))
        os.close(log_in)
        return log_out

    def _queue_writer(self, log_fd: int) -> None:
        program = os.path.join(self._home, b"bin/qmail-queue")
        if not is_ours(program) or self._writer_answers():
            return
        nothing = os.open("/dev/null", os.O_RDWR)
        lifeline_in, lifeline_out = os.pipe()
        writer = spawn(
            [program, b"--serve", b"--lifeline", b"%d" % _LIFELINE_FD], environ=self._environ,
            descriptors={0: nothing, 1: nothing, 2: log_fd, _LIFELINE_FD: lifeline_in},
            exit_on_failure=lambda _error: 111,
        )  # fmt: skip
        os.close(nothing)
        os.close(lifeline_in)
        self._lifeline_fd = lifeline_out
        self._send_environ = {**self._environ, WRITER_VARIABLE: b"%d" % writer}

    def _writer_answers(self) -> bool:
        import socket

        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.connect(os.path.join(self._home, b"run/qmail-queue"))
            except OSError:
                return False
        return True

    def _become_send(self, ends: dict[int, int]) -> None:
        # Every end is moved out of the way first: 0 to 6 are both sources and targets.
        parked = {target: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _PARKED_FD) for target, source in ends.items()}
        if self._lifeline_fd >= 0:  # qmail-send keeps it without knowing: when it ends, the writer does
            fcntl.fcntl(self._lifeline_fd, fcntl.F_DUPFD, _PARKED_FD)
        for target, source in parked.items():
            os.dup2(source, target, inheritable=True)
        self._rights("send", "queue")()
        for number in (signal.SIGALRM, signal.SIGHUP):  # until it has its own handlers, which takes Python a while
            signal.signal(number, signal.SIG_IGN)  # all is due and read at the start anyway
        program = self._program(b"qmail-send")
        os.execvpe(program, [program], self._send_environ)
