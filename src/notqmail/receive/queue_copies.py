"""Large messages, whose bytes are in a caller's file: each is copied into the queue by a child of the writer.

Reading a stranger's file can take long, or for ever (a sparse file of gigabytes, a file system of the caller's own
making), and the writer is everybody's. So the package's connection is given to a forked child, which queues the one
message by the ordinary steps, answers, and ends; the writer goes on at once. Writers side by side are nothing new to
the queue. One user has few such children, and all strangers together leave some to our own accounts, so what never
ends costs only that user's next large messages.
"""

import os
import signal
import stat

from notqmail.queue.client import ANSWER_TIMEOUT_S
from notqmail.receive.enqueue import Refused
from notqmail.wire import queue_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

CHILDREN_OF_STRANGERS_MAX = 40
CHILDREN_PER_UID_MAX = 20  # so many have all our own accounts together as well, beyond those of strangers
OURS = -1  # in place of a uid: all accounts of the mail system
_END_WAIT_MS = 10_000


class Copies:
    """The children under way: by the descriptor that becomes readable when one ends."""

    def __init__(self) -> None:
        self._uids: dict[int, int] = {}  # pidfd -> whose message
        self._pids: dict[int, int] = {}  # pidfd -> child

    def __contains__(self, descriptor: int) -> bool:
        return descriptor in self._pids

    def has_room(self, uid: int) -> bool:
        """Whether this user, or OURS, may have another child."""
        mine = sum(one == uid for one in self._uids.values())
        foreign = sum(one != OURS for one in self._uids.values())
        return mine < CHILDREN_PER_UID_MAX and (uid == OURS or foreign < CHILDREN_OF_STRANGERS_MAX)

    def start(self, uid: int, keep: "socket.socket", descriptors: "list[int]", copy: "Callable[[], bytes]") -> int:
        """Forks; returns what to poll. The child closes `descriptors`, calls `copy` and sends its result to `keep`.

        Raises OSError.
        """
        pid = os.fork()
        if pid == 0:
            self._be_child(keep, descriptors, copy)
        pidfd = os.pidfd_open(pid)
        self._uids[pidfd], self._pids[pidfd] = uid, pid
        return pidfd

    def end(self, pidfd: int) -> bool:
        """Buries the child; whether it has answered its client."""
        _, status = os.waitpid(self._pids.pop(pidfd), 0)
        del self._uids[pidfd]
        os.close(pidfd)
        return status == 0

    def finish(self) -> None:
        """At the end of the writer: gives those under way a little time. What is not done then is not accepted."""
        import select

        for pidfd in list(self._pids):
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(_END_WAIT_MS):
                os.kill(self._pids[pidfd], signal.SIGKILL)
            self.end(pidfd)

    @staticmethod
    def _be_child(keep: "socket.socket", descriptors: "list[int]", copy: "Callable[[], bytes]") -> None:
        """Never returns. Whatever goes wrong, the client sees the connection end without an answer: temporary."""
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
            signal.alarm(ANSWER_TIMEOUT_S)  # then the client has given up
            for descriptor in descriptors:
                os.close(descriptor)
            keep.settimeout(ANSWER_TIMEOUT_S)
            keep.sendall(copy())
        except BaseException:  # noqa: BLE001 - the outermost frame of a process
            os._exit(1)
        os._exit(0)


def file_chunks(descriptor: int, length: int) -> "Iterator[bytes]":
    """The message out of the caller's file, by position: whatever offset it has, and whatever it does meanwhile."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size < length:  # files of /proc say that they are empty
        raise Refused(queue_exit.READ_FAILED)
    room = os.statvfs(b".")
    if length > room.f_bavail * room.f_frsize:  # a sparse file, say: not found out by filling the disk
        raise Refused(queue_exit.WRITE_FAILED)
    position = 0
    while position < length:
        try:
            chunk = os.pread(descriptor, min(1_048_576, length - position), position)
        except OSError as error:
            raise Refused(queue_exit.READ_FAILED) from error
        if not chunk:
            raise Refused(queue_exit.READ_FAILED)  # shorter than promised
        position += len(chunk)
        yield chunk
