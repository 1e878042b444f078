"""How every injector hands a message over: the blocking side, for one-shot programs, qmail-local and bounces.

Three ways, in this order, as a site may have it:
1. $QMAILQUEUE, or a HOME/bin/qmail-queue that is not ours: run it, message on its fd 0, envelope on fd 1, custom
   error text from its fd 6 (and 4, which older filters use); its exit code is the answer (qmail-queue(8)).
2. the resident `qmail-queue --serve` on HOME/run/qmail-queue: one package, one answer.
3. our own bin/qmail-queue, run as in 1: it may be able to write the queue itself.
"""

import os
import select

from notqmail.queue.spool import SpooledMessage
from notqmail.unix.launchers import is_ours
from notqmail.unix.processes import Ended, close_all, look, spawn, spawn_among_threads, wait, write_all
from notqmail.wire import queue_exit
from notqmail.wire.netstring import BadNetstring, decode_one
from notqmail.wire.qmqp import RESIDENT_HELLO, encode_descriptor_package, encode_package
from notqmail.wire.reports import Report, decode_report

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Mapping

CUSTOM_TEXT_MAX = 1_000  # bytes of a filter's own error text
ANSWER_TIMEOUT_S = 600  # the resident answers in milliseconds; a stuck disk must not hold a session for ever
_ANSWER_MAX = 4_096
_ERROR_FDS = (6, 4)
_LOOK_FOR_END_MS = 200


def queue_program(home: bytes, environ: "Mapping[bytes, bytes]") -> bytes | None:
    """The foreign program to run in place of our queue, or None: $QMAILQUEUE, or what stands at bin/qmail-queue."""
    program = environ.get(b"QMAILQUEUE")
    if program is not None:
        return program
    own = os.path.join(home, b"bin/qmail-queue")
    return own if os.path.exists(own) and not is_ours(own, b"qmail-queue") else None


def open_submission(home: bytes, environ: "Mapping[bytes, bytes]", *, resident: bool = False) -> "Submission":
    """Begins a message. A `resident` caller's messages get numbers of their own as `qp`, not its pid.

    Raises OSError when no program can be started.
    """
    program = queue_program(home, environ)
    if program is None:
        submission = SocketSubmission.connect(home, resident=resident)
        if submission is not None:
            return submission
        program = b"bin/qmail-queue"
    return ProgramSubmission(home, environ, program, among_threads=resident and os.getcwdb() == home)


class ProgramSubmission:
    """The classic way: a process for the message (qmail.c's contract).

    Write, then `close` or `abandon`; `qp` is the number to print for it.
    """

    def __init__(
        self, home: bytes, environ: "Mapping[bytes, bytes]", program: bytes, *, among_threads: bool = False
    ) -> None:
        """Starts `program`. `among_threads`: this process has threads, and has entered `home` already."""
        self._broken = False
        self.qp = 0
        (message_in, self._message), (envelope_in, self._envelope), (self._errors, errors_out) = _pipes(3)
        ends = {0: message_in, 1: envelope_in, **dict.fromkeys(_ERROR_FDS, errors_out)}
        try:
            if among_threads:
                self._spawn_among_threads(program, ends, environ)
            else:
                self.qp = spawn([program], environ=environ, directory=home, descriptors=ends)
        except OSError:
            close_all((self._message, self._envelope, self._errors))
            raise
        finally:
            close_all((message_in, envelope_in, errors_out))

    def _spawn_among_threads(self, program: bytes, ends: dict[int, int], environ: "Mapping[bytes, bytes]") -> None:
        try:
            self.qp = spawn_among_threads([program], descriptors=ends, environ=environ)
        except OSError:
            self._broken = True  # posix_spawn says at once what a forked child would say with its exit code

    def write(self, data: bytes) -> None:
        """Takes more of the message. Never raises for trouble on the other side; `close` tells."""
        if not self._broken:
            self._broken = not _written(self._message, data)

    def abandon(self) -> None:
        """Drops the message: its envelope is never ended, so the program must not queue it."""
        self._end(None)

    def close(self, sender: bytes, recipients: "Iterable[bytes]") -> Report:
        """Hands over the envelope and waits for the answer. K means durably queued."""
        return self._end(_envelope(sender, recipients))

    def _end(self, envelope: "Iterable[bytes] | None") -> Report:
        os.close(self._message)
        if envelope is not None and not self._broken:
            self._broken = not all(_written(self._envelope, part) for part in envelope)
        os.close(self._envelope)
        if self.qp == 0:
            os.close(self._errors)
            return queue_exit.report_for_exit(queue_exit.NO_EXEC)
        custom, ended = self._last_words()
        if ended.code is None:
            return queue_exit.CRASHED
        if ended.code == queue_exit.ACCEPTED and (self._broken or envelope is None):
            return queue_exit.report_for_exit(queue_exit.READ_FAILED)  # it never saw the whole message
        return queue_exit.report_for_exit(ended.code, custom)

    def _last_words(self) -> tuple[bytes, Ended]:
        """What came through the error pipe, and how the program ended.

        The pipe comes first, for a program may write before it ends. But once it has ended, whoever else still holds
        the pipe (a background process it left) is not waited for.
        """
        poll = select.poll()
        poll.register(self._errors, select.POLLIN)
        words, ended = b"", None
        while ended is None or poll.poll(0):
            if not poll.poll(_LOOK_FOR_END_MS):
                ended = ended or look(self.qp)
                continue
            chunk = os.read(self._errors, CUSTOM_TEXT_MAX)
            if not chunk:
                break
            words += chunk[: CUSTOM_TEXT_MAX - len(words)]
        os.close(self._errors)
        return words, ended or wait(self.qp)


class SocketSubmission:
    """The resident's way. Small messages wait in memory, large ones in a file without a name."""

    qp: int = 0

    def __init__(self, connection: "socket.socket", *, resident: bool) -> None:
        self._connection, self._resident = connection, resident
        self._message = SpooledMessage()

    @classmethod
    def connect(cls, home: bytes, *, resident: bool = False) -> "SocketSubmission | None":
        """A submission over HOME/run/qmail-queue, or None when nobody answers there."""
        import socket

        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(ANSWER_TIMEOUT_S)
            connection.connect(socket_path(home))
        except OSError:
            connection.close()
            return None
        return cls(connection, resident=resident)

    def write(self, data: bytes) -> None:
        """Takes more of the message. Never raises; `close` tells."""
        self._message.write(data)

    def abandon(self) -> None:
        """Drops the message: the resident never hears of it."""
        self._connection.close()
        self._message.close()

    def close(self, sender: bytes, recipients: "Iterable[bytes]") -> Report:
        """Hands everything over and waits for the answer. K means durably queued."""
        if self._message.failed:
            self.abandon()
            return queue_exit.report_for_exit(queue_exit.WRITE_FAILED)
        try:
            return self._exchange(sender, list(recipients))
        except TimeoutError:
            return queue_exit.report_for_exit(queue_exit.TIMED_OUT)
        except (OSError, BadNetstring):
            return queue_exit.CRASHED  # it may have been queued before the answer was lost: better twice than never
        finally:
            self.abandon()

    def _exchange(self, sender: bytes, recipients: list[bytes]) -> Report:
        import socket

        if self._resident:
            self._connection.sendall(RESIDENT_HELLO)
        whole = self._message.in_memory()
        if whole is not None:
            self._connection.sendall(encode_package(whole, sender, recipients))
        else:
            package = encode_descriptor_package(self._message.length, sender, recipients)
            sent = socket.send_fds(self._connection, [package], [self._message.descriptor])
            self._connection.sendall(package[sent:])
        answer = b""
        while not answer.endswith(b","):
            chunk = self._connection.recv(_ANSWER_MAX)
            if not chunk or len(answer) > _ANSWER_MAX:
                raise ConnectionResetError("the queue's writer went away")
            answer += chunk
        return self._understood(decode_one(answer)[0])

    def _understood(self, answer: bytes) -> Report:
        report, self.qp = read_answer(answer)
        return report


def socket_path(home: bytes) -> bytes:
    """Where the resident listens."""
    return os.path.join(home, b"run/qmail-queue")


def read_answer(answer: bytes) -> tuple[Report, int]:
    """The resident's answer as report and qp number; a success has no text, as the classic program has none."""
    report = decode_report(answer)
    if not report.succeeded:
        return report, 0
    number = report.text.rpartition(b" ")[2]
    return Report(report.kind), int(number) if number.isdigit() and len(number) <= 20 else 0


def _pipes(count: int) -> list[tuple[int, int]]:
    """So many pipes, or none: raises OSError."""
    pipes: list[tuple[int, int]] = []
    try:
        for _ in range(count):
            pipes.append(os.pipe())
    except OSError:
        for pair in pipes:
            close_all(pair)
        raise
    return pipes


def _envelope(sender: bytes, recipients: "Iterable[bytes]") -> "Iterable[bytes]":
    yield b"F" + sender + b"\0"
    for recipient in recipients:
        yield b"T" + recipient + b"\0"
    yield b"\0"


def _written(descriptor: int, data: bytes) -> bool:
    """Whether the program took it all. The caller ignores SIGPIPE, as every qmail program does."""
    try:
        write_all(descriptor, data)
    except OSError:
        return False
    return True


Submission = ProgramSubmission | SocketSubmission  # what `open_submission` gives: both have the same three verbs
