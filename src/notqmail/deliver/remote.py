"""Delivery to another host by SMTP: what the one-shot and the resident driver share.

A `Job` says what goes where; `deliver.routes` finds the addresses; `wire.smtp_client` speaks; the two drivers
(deliver.remote_once, deliver.remote_async) hold the socket. As in qmail the first address that accepts a TCP
connection is final: what its SMTP server says is the answer, and no other exchanger is asked.
"""

import errno
import os
import socket
import stat

from notqmail.message.address import quote_address
from notqmail.wire.reports import permanent, temporary
from notqmail.wire.smtp_client import Envelope, Outcome
from notqmail.wire.stuffing import Stuffer, ends_mid_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from notqmail.control.remote_settings import RemoteSettings
    from notqmail.deliver.routes import Candidate
    from notqmail.deliver.tcpto import TimeoutTable
    from notqmail.wire.reports import Report
    from notqmail.wire.smtp_client import Session

CHUNK_BYTES = 65_536
_SCAN_MAX_BYTES = 1 << 20  # a longer message is called 8-bit unseen, which is never wrong

IMPROPER_USE = permanent(b"I (qmail-remote) was invoked improperly. (#5.3.5)\n")
OUT_OF_MEMORY = temporary(b"Out of memory. (#4.3.0)\n")
NO_HOME = temporary(b"Unable to switch to home directory. (#4.3.0)\n")
NO_CONTROLS = temporary(b"Unable to read control files. (#4.3.0)\n")
NO_RESOURCES = temporary(b"System resources temporarily unavailable. (#4.3.0)\n")
NO_MESSAGE = temporary(b"Unable to read message. (#4.3.0)\n")
NO_CONNECTION = temporary(b"Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n")


class NoResources(Exception):
    """The machine cannot give us a socket now, or not one bound to outgoingip."""


class Message:
    """A message in a file, from the descriptor's offset to the end. Never whole in memory when it is long.

    Read by position: nobody else's reading through the same open file disturbs it, nor ours theirs.
    """

    __slots__ = ("_descriptor", "_start", "ends_mid_line", "size")

    def __init__(self, descriptor: int) -> None:
        """A regular file is read in place, anything else (a pipe) is copied to a temporary file. Raises OSError."""
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            descriptor = _spool(descriptor)
        self._descriptor = descriptor
        self._start = os.lseek(descriptor, 0, os.SEEK_CUR)
        self.size = max(os.fstat(descriptor).st_size - self._start, 0)
        last = os.pread(descriptor, 1, self._start + self.size - 1) if self.size else b""
        self.ends_mid_line = ends_mid_line(last)

    def chunks(self) -> "Iterator[bytes]":
        """Its bytes. Raises OSError."""
        position = self._start
        end = position + self.size
        while position < end:
            chunk = os.pread(self._descriptor, min(CHUNK_BYTES, end - position), position)
            if not chunk:
                raise OSError(errno.EIO, "the message became shorter")
            position += len(chunk)
            yield chunk

    def has_8bit(self) -> bool:
        """Whether a byte above 127 is in it; a long message is not searched and counts as having one."""
        if self.size > _SCAN_MAX_BYTES:
            return True
        try:
            return not all(chunk.isascii() for chunk in self.chunks())
        except OSError:
            return True  # sending it will fail too, and say so


def _spool(descriptor: int) -> int:
    import tempfile

    with tempfile.TemporaryFile(buffering=0) as file:
        while chunk := os.read(descriptor, CHUNK_BYTES):
            file.write(chunk)
        file.seek(0)
        return os.dup(file.fileno())


class Job:
    """One message for some recipients at one host."""

    __slots__ = ("host", "message", "recipients", "sender")

    def __init__(self, host: bytes, sender: bytes, recipients: "Sequence[bytes]", message: Message) -> None:
        self.host, self.sender, self.recipients, self.message = host, sender, recipients, message

    def only_for(self, numbers: "Sequence[int]") -> "Job":
        """The same for some of its recipients."""
        return Job(self.host, self.sender, [self.recipients[number] for number in numbers], self.message)

    def envelope(self) -> Envelope:
        """What the SMTP session is given."""
        return Envelope(
            quote_address(self.sender),
            [quote_address(recipient) for recipient in self.recipients],
            size=self.message.size,
            has_8bit=self.message.has_8bit,
            ends_mid_line=self.message.ends_mid_line,
        )


class Surroundings:
    """What a delivery needs of the machine: settings, this machine's addresses, the memory of time-outs, chance, and
    of servers (address, port) that answer once for several recipients: `singly`, which grows.
    """

    __slots__ = ("draw", "own", "settings", "singly", "timeouts")

    def __init__(
        self, settings: "RemoteSettings", *, own: "Collection[bytes]", timeouts: "TimeoutTable",
        draw: "Callable[[], float]", singly: "set[tuple[bytes, int]] | None" = None,
    ) -> None:  # fmt: skip
        self.settings, self.own, self.timeouts, self.draw = settings, own, timeouts, draw
        self.singly = set() if singly is None else singly


def chance() -> float:
    """0 <= x < 1, from the kernel; the random module costs a one-shot program more than its job."""
    return int.from_bytes(os.urandom(4), "big") / 4_294_967_296


def without_dialogue(report: "Report") -> Outcome:
    """An outcome for which nobody was asked."""
    return Outcome((), report)


def open_socket(candidate: "Candidate", outgoing_ips: "Sequence[bytes]") -> socket.socket:
    """A socket for the candidate's family, bound to control/outgoingip where that has an address of the family.

    Raises NoResources; OSError (EAFNOSUPPORT) where this machine does not have the family at all.
    """
    family = socket.AF_INET6 if b":" in candidate.address else socket.AF_INET
    try:
        link = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            raise
        raise NoResources from error
    try:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for address in outgoing_ips:
            if (b":" in address) == (family == socket.AF_INET6):
                link.bind((address.decode("ascii", "replace"), 0))
                break
    except OSError as error:
        link.close()
        raise NoResources from error
    return link


def body(message: Message, session: "Session") -> "Iterator[bytes]":
    """What follows DATA, ready for the wire, the final dot with the last piece. Raises OSError for the file."""
    stuffer = Stuffer()
    held = b""
    for chunk in message.chunks():
        if held:
            yield held
        held = stuffer.feed(chunk)
    yield held + stuffer.finish() + session.end_body()
