"""A message goes through a chain of filters: programs that read it on one descriptor and may write another one.

What a filter finds (qmail-qfilter(1)): 0 the message, a regular file at its start; 1 where a new message may go;
3 the envelope; 4 where a new envelope may go; and the numbers that the caller adds. Output that stays empty means
"unchanged". Each file has no name and is gone with us.

Promises: a filter that is killed, cannot be run, goes on past its time or writes without end stops the chain, and never
passes for one that agreed; it and its process group are killed. A process that any other filter leaves behind is not
waited for. No message is whole in memory.
"""

import errno
import fcntl
import os
import select

from notqmail.queue.spool import unnamed_file
from notqmail.unix.named_programs import start_apart
from notqmail.unix.processes import close_all, wait, write_all
from notqmail.wire import queue_exit
from notqmail.wire.queue_envelope import BadEnvelope, encode_envelope, parse_envelope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from notqmail.unix.clock import Clock

MESSAGE_GROWS, MESSAGE_MORE = 4, 64 << 20  # a filter's output: so many times what it was given, and so many bytes
ENVELOPE_GROWS, ENVELOPE_MORE = 4, 1 << 20
ENVELOPE_MAX = 64 << 20  # about a million recipients
_FIRST_FREE = 10  # our own files are above every number that a filter knows
_CHUNK_BYTES = 65_536
_LOOK_S = 0.05  # how often a running filter's output is measured
_SIGKILL = 9
_NO_PROCESS = (errno.EAGAIN, errno.ENOMEM)


class Stopped(Exception):
    """The chain ended early, at the filter `name`.

    `code` is the filter's own exit code when `why` is empty; else `why` says in words what went wrong, and `code` is
    what qmail-queue would say about that. `custom` is a text of the filter's own, where the caller asks for one.
    """

    def __init__(self, name: bytes, code: int, why: bytes = b"") -> None:
        super().__init__(name, code, why)
        self.name, self.code, self.why = name, code, why
        self.custom = b""


class Limits:
    """What a filter may take. A message may grow, but not without bound."""

    __slots__ = ("envelope_more", "message_more", "timeout_s")

    def __init__(
        self, timeout_s: float, *, message_more: int = MESSAGE_MORE, envelope_more: int = ENVELOPE_MORE
    ) -> None:
        self.timeout_s, self.message_more, self.envelope_more = timeout_s, message_more, envelope_more


class Mail:
    """The message as it is by now. `message_fd` and `envelope_fd` are seekable files; `is_new`: a filter wrote it."""

    __slots__ = ("envelope_fd", "envelope_size", "is_new", "message_fd", "message_size", "recipients", "sender")

    def __init__(self, message_fd: int, envelope_fd: int) -> None:
        """Takes both descriptors over. Raises BadEnvelope, OSError."""
        self.is_new = False
        self.message_fd, self.message_size = message_fd, os.fstat(message_fd).st_size
        self.envelope_fd = envelope_fd
        self.take_envelope(envelope_fd)

    def take_envelope(self, descriptor: int) -> int:
        """This one from now on; returns the descriptor of the old one. Raises BadEnvelope (it stays), OSError."""
        size = os.fstat(descriptor).st_size
        self.sender, self.recipients = parse_envelope(os.pread(descriptor, size, 0))
        old, self.envelope_fd, self.envelope_size = self.envelope_fd, descriptor, size
        return old

    def take_message(self, descriptor: int) -> int:
        """This one from now on; returns the descriptor of the old one. Raises OSError."""
        size = os.fstat(descriptor).st_size
        old, self.message_fd, self.message_size = self.message_fd, descriptor, size
        self.is_new = True
        return old

    def close(self) -> None:
        """Gives both files back."""
        close_all((self.message_fd, self.envelope_fd))

    def rewind(self) -> None:
        """The next who reads begins at the start. Raises OSError."""
        os.lseek(self.message_fd, 0, os.SEEK_SET)
        os.lseek(self.envelope_fd, 0, os.SEEK_SET)

    def environment(self) -> dict[bytes, bytes]:
        """The variables that tell a filter about it."""
        user, at, host = self.sender.rpartition(b"@")
        return {
            b"QMAILUSER": user if at else self.sender,
            b"QMAILHOST": host if at else b"",
            b"QMAILRCPTS": b"".join([recipient + b"\n" for recipient in self.recipients]),
            b"NUMRCPTS": b"%d" % len(self.recipients),
            b"MSGSIZE": b"%d" % self.message_size,
            b"ENVSIZE": b"%d" % self.envelope_size,
        }


def open_file() -> int:
    """A file without a name, its descriptor above those that filters know. Raises OSError."""
    return raised(unnamed_file())


def raised(descriptor: int) -> int:
    """The same open file under a number above those that filters know; the old number is closed. Raises OSError."""
    if descriptor >= _FIRST_FREE:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
    finally:
        os.close(descriptor)


def copied(descriptor: int, limit: int | None = None) -> int:
    """A file with everything to the end of `descriptor`. Raises OSError, MemoryError beyond `limit` bytes."""
    file, size = open_file(), 0
    try:
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            size += len(chunk)
            if limit is not None and size > limit:
                raise MemoryError("too large")
            write_all(file, chunk)
    except BaseException:
        os.close(file)
        raise
    return file


def envelope_file(sender: bytes, recipients: "Sequence[bytes]") -> int:
    """An envelope as a file. Raises OSError."""
    file = open_file()
    write_all(file, encode_envelope(sender, recipients))
    return file


class Runner:
    """Runs filters over one message, one by one."""

    __slots__ = ("_clock", "_environ", "_limits", "_mail")

    def __init__(self, mail: Mail, environ: "Mapping[bytes, bytes]", clock: "Clock", limits: Limits) -> None:
        self._mail, self._clock, self._limits = mail, clock, limits
        self._environ = {name: value for name, value in environ.items() if name != b"QMAILNAME"}

    def run(self, command: "Sequence[bytes]", more: "Mapping[int, int]") -> None:
        """One filter; after it the message is what it made of it. Raises Stopped, OSError.

        `more` are files of `open_file` beside 0, 1, 3 and 4: the filter's numbers to ours. It finds them rewound.
        """
        mail, limits = self._mail, self._limits
        mail.rewind()
        for descriptor in more.values():
            os.lseek(descriptor, 0, os.SEEK_SET)
        new_message, new_envelope = open_file(), open_file()
        try:
            bounds = dict.fromkeys(more.values(), limits.envelope_more)
            bounds[new_message] = MESSAGE_GROWS * mail.message_size + limits.message_more
            bounds[new_envelope] = ENVELOPE_GROWS * mail.envelope_size + limits.envelope_more
            code = self._exit_code(
                command, {0: mail.message_fd, 1: new_message, 3: mail.envelope_fd, 4: new_envelope, **more}, bounds
            )
            if code:
                raise Stopped(command[0], code)
            if os.fstat(new_message).st_size:
                new_message = mail.take_message(new_message)
            if os.fstat(new_envelope).st_size:
                new_envelope = self._take_envelope(command[0], new_envelope)
        finally:
            close_all((new_message, new_envelope))

    def _take_envelope(self, name: bytes, descriptor: int) -> int:
        try:
            return self._mail.take_envelope(descriptor)
        except BadEnvelope as bad:
            raise Stopped(name, envelope_trouble(bad), b"wrote an envelope that is none") from bad

    def _exit_code(
        self, command: "Sequence[bytes]", descriptors: "Mapping[int, int]", bounds: "Mapping[int, int]"
    ) -> int:
        name = command[0]
        try:
            pid = start_apart(command, {**self._environ, **self._mail.environment()}, descriptors)
        except OSError as error:
            code = queue_exit.OUT_OF_MEMORY if error.errno in _NO_PROCESS else queue_exit.BUG
            raise Stopped(name, code, b"cannot be run: " + (error.strerror or "no reason").encode()) from error
        try:
            self._watch(pid, name, bounds)
        except BaseException:
            _kill_group(pid)
            raise
        exited = wait(pid).code
        assert exited is not None  # `_watch` raises for a filter that was killed
        return exited

    def _watch(self, pid: int, name: bytes, bounds: "Mapping[int, int]") -> None:
        """Returns when the filter has exited, without reaping it: until then its group's number is its own."""
        end_s = self._clock.steady_s() + self._limits.timeout_s
        poll, exit_fd = _exit_poll(pid)
        try:
            while True:
                ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if any(os.fstat(descriptor).st_size > bound for descriptor, bound in bounds.items()):
                    raise Stopped(name, queue_exit.WRITE_FAILED, b"wrote too much")
                if ended is not None:
                    if ended.si_code != os.CLD_EXITED:
                        raise Stopped(name, queue_exit.BUG, b"killed by signal %d" % ended.si_status)
                    return
                left_s = end_s - self._clock.steady_s()
                if left_s <= 0:
                    why = b"still running after %d seconds" % self._limits.timeout_s
                    raise Stopped(name, queue_exit.TIMED_OUT, why)
                poll.poll(int(min(left_s, _LOOK_S) * 1000) + 1)
        finally:
            if exit_fd >= 0:
                os.close(exit_fd)


def envelope_trouble(bad: BadEnvelope) -> int:
    """What qmail-queue says about such an envelope."""
    return queue_exit.READ_FAILED if bad.is_cut else queue_exit.BAD_ENVELOPE


def _exit_poll(pid: int) -> "tuple[select.poll, int]":
    """What wakes up when the child ends, and its descriptor; where the system cannot do that, nothing ever does."""
    poll, exit_fd = select.poll(), -1
    try:
        exit_fd = os.pidfd_open(pid)
        poll.register(exit_fd, select.POLLIN)
    except (OSError, AttributeError):
        pass  # an old kernel or another system: looking every _LOOK_S has to do
    return poll, exit_fd


def _kill_group(pid: int) -> None:
    """Ends the filter, which is not reaped yet, and whatever is left of its process group."""
    try:
        os.killpg(pid, _SIGKILL)
    except ProcessLookupError:
        pass  # all of it has ended
    wait(pid)
