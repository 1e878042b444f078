"""What both spawners share: the checks on a command before anything is started for it (spawn.c's, its texts).

qmail-send names a message file, a sender and a recipient. The file is opened here, read-only, and handed on
as a descriptor: who delivers never sees the queue. An impossible command is refused with a report at once.
"""

import os
import stat

from notqmail.wire.reports import Report, permanent, temporary
from notqmail.wire.spawn_link import SPAWN_SLOTS, Delivery

PATH_MAX = 99  # bytes of `14/2540341`; spawn.c counts 100 with the NUL

_NONNUMERIC = permanent(b"Internal error: messid has nonnumerics. (#5.3.5)\n")
_TOO_LONG = permanent(b"Internal error: messid too long. (#5.3.5)\n")
_TOO_SHORT = permanent(b"Internal error: messid too short. (#5.3.5)\n")
_NO_HOST = permanent(b"Sorry, address must include host name. (#5.1.3)\n")
_CANNOT_OPEN = temporary(b"qmail-spawn unable to open message. (#4.3.0)\n")
_CANNOT_STAT = temporary(b"qmail-spawn unable to fstat message. (#4.3.0)\n")
_WRONG_TYPE = temporary(b"Sorry, message has wrong type. (#4.3.5)\n")
_WRONG_OWNER = temporary(b"Sorry, message has wrong owner. (#4.3.5)\n")
_SLOT_TOO_BIG = temporary(b"Internal error: delnum too big. (#4.3.5)\n")
_SLOT_IN_USE = temporary(b"Internal error: delnum in use. (#4.3.5)\n")
OUT_OF_MEMORY = temporary(b"qmail-spawn out of memory. (#4.3.0)\n")
CANNOT_PIPE = temporary(b"qmail-spawn unable to create pipe. (#4.3.0)\n")
CANNOT_FORK = temporary(b"qmail-spawn unable to fork. (#4.3.0)\n")

_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Refused(Exception):
    """The command is answered already: `report` is what qmail-send is to be told."""

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report


class Slots:
    """Which of `count` delivery slots are busy. A peer that reuses one too early has lost count of its work."""

    __slots__ = ("_busy", "_count")

    def __init__(self, count: int = SPAWN_SLOTS) -> None:
        self._busy: set[int] = set()
        self._count = count

    def __len__(self) -> int:
        return len(self._busy)

    def take(self, slot: int) -> None:
        """Marks it busy. Raises Refused, and then the slot is as it was."""
        if slot >= self._count:
            raise Refused(_SLOT_TOO_BIG)
        if slot in self._busy:
            raise Refused(_SLOT_IN_USE)
        self._busy.add(slot)

    def free(self, slot: int) -> None:
        """Marks it free again, after its report went out."""
        self._busy.discard(slot)


def split_recipient(recipient: bytes) -> tuple[bytes, bytes]:
    """(local, host), cut at the LAST @. Raises Refused when there is none."""
    local, at, host = recipient.rpartition(b"@")
    if not at:
        raise Refused(_NO_HOST)
    return local, host


def open_message(home: bytes, queue_uid: int, delivery: Delivery) -> int:
    """A read-only, close-on-exec descriptor of HOME/queue/mess/<delivery.message>, at offset 0.

    `queue_uid` is who must own the file: were it another's, somebody could have a spawner read any file out.
    Raises Refused; no descriptor is left open then.
    """
    path = delivery.message
    if path[:1] == b"/" or path.translate(None, b"0123456789/"):
        raise Refused(_NONNUMERIC)
    if len(path) > PATH_MAX:
        raise Refused(_TOO_LONG)
    if not path:
        raise Refused(_TOO_SHORT)
    split_recipient(delivery.recipient)
    try:
        descriptor = os.open(home + b"/queue/mess/" + path, _OPEN_FLAGS)
    except (OSError, ValueError):  # ValueError: an embedded NUL, which the command reader cannot produce
        raise Refused(_CANNOT_OPEN) from None
    try:
        _check_file(descriptor, queue_uid)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_file(descriptor: int, queue_uid: int) -> None:
    try:
        status = os.fstat(descriptor)
    except OSError:
        raise Refused(_CANNOT_STAT) from None
    if not stat.S_ISREG(status.st_mode):
        raise Refused(_WRONG_TYPE)
    if status.st_uid != queue_uid:
        raise Refused(_WRONG_OWNER)
