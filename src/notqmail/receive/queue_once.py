"""qmail-queue's one-shot face: message on descriptor 0, envelope on 1, the exit code is the answer (qmail-queue(8)).

Who may write the queue does so, alone and without any resident: the queue's owner, and root, who becomes that
owner first. Everybody else hands message and envelope to `qmail-queue --serve` over its socket; the kernel tells
it who called. That is what replaces C's setuid bit.
"""

import os

from notqmail.queue import trigger
from notqmail.queue.client import SocketSubmission
from notqmail.queue.layout import queue_directory
from notqmail.queue.ledger_apart import sum_up_apart
from notqmail.receive.enqueue import ADDRESS_MAX, Enqueuer, Refused, Request, invoked_by
from notqmail.unix.accounts import become
from notqmail.unix.durable import Disk
from notqmail.unix.mains import complain
from notqmail.wire import queue_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from notqmail.unix.clock import Clock

_CHUNK = 65_536


def from_descriptors(home: bytes, clock: "Clock", message_fd: int = 0, envelope_fd: int = 1) -> int:
    """Queues one message; returns qmail-queue(8)'s exit code. ACCEPTED means durable."""
    try:
        os.chdir(home)
    except OSError:
        return queue_exit.NO_HOME
    try:
        owner = os.stat(queue_directory(home))
    except OSError:
        return queue_exit.NO_QUEUE
    if os.geteuid() in (0, owner.st_uid):
        return _write_directly(home, owner.st_uid, owner.st_gid, clock, message_fd, envelope_fd)
    return _hand_over(home, message_fd, envelope_fd)


def _write_directly(home: bytes, uid: int, gid: int, clock: "Clock", message_fd: int, envelope_fd: int) -> int:
    caller = os.getuid()
    try:
        become(uid, gid)
        os.chdir(queue_directory(home))
    except OSError:
        return queue_exit.NO_QUEUE
    os.umask(0o033)
    request = Request(
        read_message(message_fd), read_envelope(envelope_fd), uid=caller, pid=os.getpid(),
        invoked=invoked_by(caller, None),
    )  # fmt: skip
    Enqueuer(Disk(), clock, os.getpid(), sum_up_apart).enqueue([request])
    if request.exit_code == queue_exit.ACCEPTED:
        trigger.pull(b".")
    return request.exit_code


def _hand_over(home: bytes, message_fd: int, envelope_fd: int) -> int:
    submission = SocketSubmission.connect(home)
    if submission is None:
        complain(
            f"qmail-queue: fatal: nobody answers at {os.fsdecode(home)}/run/qmail-queue: "
            "start `qmail-queue --serve` (as root, or as the queue's owner)"
        )
        return queue_exit.NO_QUEUE
    try:
        for chunk in read_message(message_fd):
            submission.write(chunk)
        addresses = list(read_envelope(envelope_fd))
    except Refused as refused:
        submission.abandon()
        return refused.exit_code
    return queue_exit.exit_for_report(submission.close(addresses[0], addresses[1:]))


def read_message(descriptor: int) -> "Iterator[bytes]":
    """The message to its end, in chunks. Raises Refused."""
    while True:
        try:
            chunk = os.read(descriptor, _CHUNK)
        except OSError as error:
            raise Refused(queue_exit.READ_FAILED) from error
        if not chunk:
            return
        yield chunk


def read_envelope(descriptor: int) -> "Iterator[bytes]":
    """The sender, then each recipient, of `Fsender NUL Trecipient NUL ... NUL`. What follows the end is ignored.

    Raises Refused: READ_FAILED when it ends early, BAD_ENVELOPE, ADDRESS_TOO_LONG.
    """
    buffer, expected = b"", b"F"
    while True:
        end = buffer.find(b"\0")
        if end < 0:
            if buffer and buffer[:1] != expected:
                raise Refused(queue_exit.BAD_ENVELOPE)
            if len(buffer) > ADDRESS_MAX + 1:
                raise Refused(queue_exit.ADDRESS_TOO_LONG)
            try:
                more = os.read(descriptor, _CHUNK)
            except OSError as error:
                raise Refused(queue_exit.READ_FAILED) from error
            if not more:
                raise Refused(queue_exit.READ_FAILED)
            buffer += more
            continue
        start = 0
        while end >= 0:
            if end == start and expected == b"T":
                return
            if buffer[start : start + 1] != expected:
                raise Refused(queue_exit.BAD_ENVELOPE)
            yield buffer[start + 1 : end]
            start, expected = end + 1, b"T"
            end = buffer.find(b"\0", start)
        buffer = buffer[start:]
