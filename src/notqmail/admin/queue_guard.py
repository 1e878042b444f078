"""Is anybody using the queue? Who repairs one holds qmail-send's own lock meanwhile, so that none can start."""

import fcntl
import os

from notqmail.queue.client import SocketSubmission
from notqmail.queue.layout import SENDMUTEX, TRIGGER, queue_directory

_STOP = (
    "stop it first (Ctrl-C of `notqmail run`; systemctl stop; svc -d; TERM to qmail-send), then run this again; "
    "`notqmail queue` may be asked at any time"
)


class InUse(Exception):
    """Somebody works on this queue; str() says who, and what to do."""


class Guard:
    """The lock, held until `release`. Where the queue has no lock file there is nobody to fear and nothing to hold."""

    def __init__(self, home: bytes) -> None:
        """Raises InUse, and OSError when the lock may not be opened."""
        self._descriptor = _lock(os.path.join(queue_directory(home), SENDMUTEX), os.fsdecode(home))
        writer = SocketSubmission.connect(home)
        if writer is not None:
            writer.abandon()
            self.release()
            raise InUse(f"qmail-queue --serve is running in {os.fsdecode(home)} and may take mail in: {_STOP}")

    def release(self) -> None:
        """Lets others start; more than once is no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def is_running(home: bytes) -> bool:
    """Whether a qmail-send listens at the trigger. Not by its lock: one that starts just now must not find it taken.

    Raises PermissionError when we may not ask.
    """
    try:
        os.close(os.open(os.path.join(queue_directory(home), TRIGGER), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except PermissionError:
        raise
    except OSError:
        return False  # nobody listens, or there is no fifo
    return True


def _lock(path: bytes, home: str) -> int:
    """A descriptor that holds it; -1 where there is none."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise
    except OSError:
        return -1  # missing, or no file at all: the check says so
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InUse(f"qmail-send is running in {home} (it holds queue/{SENDMUTEX.decode()}): {_STOP}") from None
    return descriptor
