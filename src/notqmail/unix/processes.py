"""Starting other programs with exactly the descriptors their contract lists, and learning how they ended.

Uses `fork` and `exec` by hand: subprocess costs a one-shot program more to import than to run, and it decides
about SIGPIPE itself. A process with threads must not fork by hand; it uses `spawn_among_threads`.
"""

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

EXEC_FAILED = 120  # qmail's code for "cannot run it", where errno says temporary or the caller does not care


class Ended:
    """How a child ended: `code` is its exit code, or None when a signal killed it (`killed_by` says which)."""

    __slots__ = ("code", "killed_by")

    def __init__(self, status: int) -> None:
        self.killed_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        self.code = None if self.killed_by else os.waitstatus_to_exitcode(status)

    @property
    def crashed(self) -> bool:
        """Whether a signal ended it."""
        return self.code is None


def spawn(
    argv: "Sequence[bytes]", *, descriptors: "Mapping[int, int]", environ: "Mapping[bytes, bytes]",
    directory: bytes | None = None, search_path: bool = False, default_sigpipe: bool = False,
    exit_on_failure: "Callable[[OSError], int]" = lambda _error: EXEC_FAILED,
    exit_on_chdir_failure: int = 61, before_exec: "Callable[[], None] | None" = None,
) -> int:  # fmt: skip
    """Forks and runs `argv`; returns the child's pid. Raises OSError when there can be no child.

    `descriptors` maps the child's numbers to ours; every other descriptor above 2 stays close-on-exec. `directory`
    is entered first (failure: `exit_on_chdir_failure`), then `before_exec` runs in the child (to drop rights); a
    failed exec becomes `exit_on_failure(error)`. The child never returns into the caller's code.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        _place(descriptors)
        if directory is not None:
            try:
                os.chdir(directory)
            except OSError:
                os._exit(exit_on_chdir_failure)
        if default_sigpipe:
            import signal  # 5 ms that most one-shot programs need not spend

            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        if before_exec is not None:
            before_exec()
        if search_path:
            os.execvpe(argv[0], list(argv), dict(environ))
        else:
            os.execve(argv[0], list(argv), dict(environ))
    except OSError as error:
        os._exit(exit_on_failure(error))
    finally:
        os._exit(EXEC_FAILED)
    raise AssertionError("not reached")


def spawn_among_threads(
    argv: "Sequence[bytes]", *, descriptors: "Mapping[int, int]", environ: "Mapping[bytes, bytes]"
) -> int:
    """As `spawn`, by posix_spawn(3), from where we are and as who we are. Raises OSError also when it cannot be run."""
    parked = _parking(descriptors)
    actions = [(os.POSIX_SPAWN_DUP2, source, parked[target]) for target, source in descriptors.items()]
    actions += [(os.POSIX_SPAWN_DUP2, parked[target], target) for target in descriptors]
    closing = [(os.POSIX_SPAWN_CLOSE, place) for place in parked.values()]
    return os.posix_spawn(argv[0], list(argv), dict(environ), file_actions=[*actions, *closing])


def _parking(descriptors: "Mapping[int, int]") -> dict[int, int]:
    """A high number for each target, so that placing one overwrites no source still needed."""
    first = max([*descriptors, *descriptors.values(), 10]) + 1
    return {target: first + number for number, target in enumerate(descriptors)}


def _place(descriptors: "Mapping[int, int]") -> None:
    """dup2 all of them, through their parking places (close-on-exec)."""
    parked = _parking(descriptors)
    for target, source in descriptors.items():
        os.dup2(source, parked[target], inheritable=False)
    for target, place in parked.items():
        os.dup2(place, target, inheritable=True)


def wait(pid: int) -> Ended:
    """Waits for one child."""
    while True:
        try:
            return Ended(os.waitpid(pid, 0)[1])
        except InterruptedError:
            continue


def look(pid: int) -> Ended | None:
    """How one child ended, or None when it still runs."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return Ended(status) if done else None


def write_all(descriptor: int, data: "bytes | memoryview") -> None:
    """Writes everything. Raises OSError (BrokenPipeError when the reader is gone)."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def close_all(descriptors: "Sequence[int]") -> None:
    """Closes what is open; one that was closed already is no error here."""
    for descriptor in descriptors:
        try:
            os.close(descriptor)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
