"""Starting the programs of a household so that none outlives it.

Each program gets a session of its own: Ctrl-C at the terminal reaches `notqmail run` alone, which then
stops them in order. On Linux each is also told to end when its parent dies (PR_SET_PDEATHSIG), so even
`kill -9` leaves nobody: the programs below qmail-send see the end of their pipes. And the household adopts
orphans (PR_SET_CHILD_SUBREAPER), so it sees the last of them leave.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from notqmail.unix.processes import spawn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def adopt_orphans() -> None:
    """Makes this process the parent of descendants whose own parent ended."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start_child(argv: Sequence[bytes], *, environ: Mapping[bytes, bytes], output_fd: int) -> int:
    """Runs `argv`, fd 0 empty, `output_fd` on 1 and 2; returns its pid (also its process group)."""
    parent = os.getpid()

    def settle() -> None:
        os.setsid()
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:  # it died before the line above could see it
                os._exit(1)

    nothing_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return spawn(
            argv,
            descriptors={0: nothing_fd, 1: output_fd, 2: output_fd},
            environ=environ,
            default_sigpipe=True,
            before_exec=settle,
        )
    finally:
        os.close(nothing_fd)


def group_is_gone(pid: int) -> bool:
    """Whether nobody is left of the process group that `pid` began."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # somebody is there, as another user
    return False


def signal_group(pid: int, number: int) -> bool:
    """Sends a signal to the group; one that has left already is what was wanted. False: those who are left of it run as
    another user, and cannot be reached.
    """
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass  # gone between the look and the signal
    except PermissionError:
        return False
    return True
