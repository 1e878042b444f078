"""qmail-rfilter and qmail-lfilter: a message goes through filters on its way out of the queue.

They stand in the place of qmail-remote and qmail-local (QMAILREMOTE, QMAILLOCAL), with the same arguments. The filters
of control/remotefilters or control/localfilters run in turn (policy.filters); then this process becomes the real
program, with a message on descriptor 0 that is a regular file, as it expects. The queue keeps the message as it came.

Promises: no filter that fails lets the message pass or bounces it; only its own exit code 100 (or 82 with a text of the
kind D) does. What filters write to descriptor 2 goes to the log and never into the report.
"""

import os
import stat

from notqmail.control.filters import Unusable, delivery_chain, filter_timeout_s
from notqmail.policy.filters import Limits, Mail, Runner, Stopped, copied, envelope_file, open_file, raised
from notqmail.unix.controls import Unreadable, control_reader
from notqmail.unix.launchers import is_ours
from notqmail.unix.mains import complain
from notqmail.wire import queue_exit
from notqmail.wire.reports import permanent, success, temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from notqmail.unix.clock import Clock
    from notqmail.wire.reports import Report

DROP = (2, 99)  # a filter's exit codes: spawn-filter's and qmail-qfilter's
BOUNCE = 100
LOG_MAX = 10_000  # bytes of what one filter says that are logged
_WORDS_FD = 6  # as for a filter before the queue: a text of the filter's own, with exit code 82
_WORDS_MAX = 1_000


class Delivery:
    """One run of qmail-remote or qmail-local: `domain` chooses the filters, `with_sender` gives the arguments anew."""

    __slots__ = ("domain", "extension", "recipients", "sender", "with_sender")

    def __init__(
        self, domain: bytes, extension: bytes, sender: bytes, recipients: "Sequence[bytes]",
        with_sender: "Callable[[bytes], list[bytes]]",
    ) -> None:  # fmt: skip
        self.domain, self.extension, self.sender, self.recipients = domain, extension, sender, recipients
        self.with_sender = with_sender


def remote_delivery(words: "Sequence[bytes]") -> Delivery | None:
    """From `HOST SENDER RECIPIENT...`; None when that is not what the words are. The sender's domain chooses."""
    if len(words) < 3:
        return None
    host, sender, *recipients = words
    return Delivery(
        sender.rpartition(b"@")[2] if b"@" in sender else b"", recipients[0], sender, recipients,
        lambda new: [host, new, *recipients],
    )  # fmt: skip


def local_delivery(words: "Sequence[bytes]") -> Delivery | None:
    """From qmail-local's arguments; None for others, also for -n, which delivers nothing. The recipient's domain."""
    options = [word for word in words[:1] if word in (b"--", b"-N")]
    rest = words[len(options) :]
    if len(rest) != 8 or rest[0][:1] == b"-":
        return None
    _, _, local, _, ext, domain, sender, default = rest
    return Delivery(
        domain, ext, sender, [local + b"@" + domain], lambda new: [*options, *rest[:6], new, default]
    )  # fmt: skip


class Place:
    """Which of the two we are: its name, its list of filters, and the program that comes after them."""

    __slots__ = ("filters", "name", "program", "variable")

    def __init__(self, name: str, filters: str, program: bytes, variable: bytes) -> None:
        self.name, self.filters, self.program, self.variable = name, filters, program, variable

    def next_program(self, home: bytes, environ: "Mapping[bytes, bytes]") -> bytes:
        """The real one: $QREMOTE or $QLOCAL, else that of the home. Raises Unusable when that is this program again."""
        program = environ.get(self.variable) or os.path.join(home, b"bin", self.program)
        if is_ours(program, self.name.encode()):
            raise Unusable(
                f"{os.fsdecode(program)} is {self.name} itself: set {self.variable.decode()} to the real one"
            )
        return program


REMOTE = Place("qmail-rfilter", "remotefilters", b"qmail-remote", b"QREMOTE")
LOCAL = Place("qmail-lfilter", "localfilters", b"qmail-local", b"QLOCAL")


def filter_and_become(
    place: Place, words: "Sequence[bytes]", delivery: Delivery | None, home: bytes,
    environ: "Mapping[bytes, bytes]", clock: "Clock",
) -> "Report":  # fmt: skip
    """Filters descriptor 0 and becomes the real program. Returns only when that is not to be, or cannot be."""
    try:
        os.chdir(home)  # where the names of filters begin
        chain: list[list[bytes]] = []
        if delivery is not None:
            read = control_reader(home)
            chain = delivery_chain(read, place.filters, delivery.domain)
        if chain and delivery is not None:
            limits = Limits(filter_timeout_s(read))
            words = delivery.with_sender(filtered(place, chain, delivery, environ, clock, limits))
        return _become(place.next_program(home, environ), place.program, words, environ)
    except Stopped as stopped:
        return report_for(stopped, place)
    except (Unusable, Unreadable) as trouble:
        complain_apart(place, str(trouble).encode("utf-8", "backslashreplace"))
        return temporary(b"Unable to read the list of filters. (#4.3.0)\n")
    except OSError as error:
        complain_apart(place, str(error).encode("utf-8", "backslashreplace"))
        return temporary(b"Unable to run the message filters. (#4.3.0)\n")


def filtered(
    place: Place, chain: "Sequence[Sequence[bytes]]", delivery: Delivery, environ: "Mapping[bytes, bytes]",
    clock: "Clock", limits: Limits,
) -> bytes:  # fmt: skip
    """Runs the chain over descriptor 0, which is the message as it has become afterwards; returns the sender.

    Raises Stopped, OSError.
    """
    is_file = stat.S_ISREG(os.fstat(0).st_mode)
    mail = Mail(raised(os.dup(0)) if is_file else copied(0), envelope_file(delivery.sender, delivery.recipients))
    told = {
        **environ, b"DOMAIN": delivery.domain, b"_EXT": delivery.extension, b"_SENDER": delivery.sender,
        b"_RECIPIENT": delivery.recipients[0], b"QMAILPPID": b"%d" % os.getppid(),
    }  # fmt: skip
    runner = Runner(mail, told, clock, limits)
    try:
        for command in chain:
            _run(runner, command, place)
            if list(delivery.recipients) != mail.recipients:
                raise Stopped(command[0], queue_exit.BAD_ENVELOPE, b"changed the recipients, which is too late here")
        mail.rewind()
        os.dup2(mail.message_fd, 0)
    finally:
        mail.close()
    return mail.sender


def _run(runner: Runner, command: "Sequence[bytes]", place: Place) -> None:
    """One filter, and its words: on 2 for the log, on 6 for the report."""
    said, words = open_file(), open_file()
    try:
        runner.run(command, {2: said, _WORDS_FD: words})
    except Stopped as stopped:
        if stopped.code in (queue_exit.CUSTOM, queue_exit.CUSTOM_OLD) and not stopped.why:
            stopped.custom = os.pread(words, _WORDS_MAX, 0)
        raise
    finally:
        for line in os.pread(said, LOG_MAX, 0).splitlines():
            complain_apart(place, command[0] + b": " + line)
        os.close(said)
        os.close(words)


def report_for(stopped: Stopped, place: Place) -> "Report":
    """What becomes of the delivery. Only what the filter itself has said can be final."""
    name = os.path.basename(stopped.name)
    if stopped.why:
        complain_apart(place, stopped.name + b": " + stopped.why)
        return temporary(b"Message filter %b: %b. (#4.3.0)\n" % (name, stopped.why))
    if stopped.code in DROP:
        return success(b"Dropped by the message filter %b.\n" % name)
    if stopped.code == BOUNCE:
        return permanent(b"Refused by the message filter %b. (#5.7.1)\n" % name)
    if len(stopped.custom) >= queue_exit.CUSTOM_TEXT_MIN:
        return queue_exit.report_for_exit(queue_exit.CUSTOM, stopped.custom)
    return temporary(b"Message filter %b: exit code %d. (#4.3.0)\n" % (name, stopped.code))


def complain_apart(place: Place, line: bytes) -> None:
    """A line for the log: descriptor 2, unless that is the report's pipe; then the system's log has it."""
    shown = bytes(byte if 32 <= byte < 127 else 63 for byte in line)
    if _has_log():
        complain(place.name.encode() + b": " + shown)
        return
    import syslog

    syslog.openlog(place.name, syslog.LOG_PID, syslog.LOG_MAIL)
    syslog.syslog(syslog.LOG_INFO, shown.decode("ascii"))


def _has_log() -> bool:
    try:
        report, log = os.fstat(1), os.fstat(2)
    except OSError:
        return False  # closed
    return (report.st_dev, report.st_ino) != (log.st_dev, log.st_ino)


def _become(program: bytes, name: bytes, words: "Sequence[bytes]", environ: "Mapping[bytes, bytes]") -> "Report":
    """Returns only for trouble, which is never more than temporary: a missing program must not bounce mail."""
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the interpreter ignores it, and so would its successor
    try:
        os.execve(program, [b"bin/" + name, *words], dict(environ))
    except OSError:
        return temporary(b"Unable to run %b. (#4.3.0)\n" % name)
