"""qmail-qfilter: in qmail-queue's place, a message goes through filters first (qmail-qfilter(1)).

The contract is that of Bruce Guenter's program: message on descriptor 0, envelope on 1, then each filter in turn
(policy.filters), then this process becomes the real queue program. A filter's exit code other than 0 is ours, without
anything being queued; 99 drops the message, and our code is 0.
"""

import os

from notqmail.control.files import entries
from notqmail.control.filters import Unusable, chain_of_words, filter_timeout_s, words_of_lines
from notqmail.policy.filters import (
    ENVELOPE_MAX,
    Limits,
    Mail,
    Runner,
    Stopped,
    copied,
    envelope_trouble,
    open_file,
)
from notqmail.unix.controls import Unreadable, control_reader
from notqmail.unix.launchers import is_ours
from notqmail.unix.mains import complain
from notqmail.wire import queue_exit
from notqmail.wire.queue_envelope import BadEnvelope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from notqmail.unix.clock import Clock

DROPPED = 99  # a filter's exit code: nobody gets it, and nobody is told
PROGRAM_FD = 5  # where a filter may write which program is to queue the message
_DEFAULT_LIST = b"control/smtpfilters"
_PROGRAM_MAX = 4_096


def from_descriptors(words: "Sequence[bytes]", home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock") -> int:
    """Filters what is on 0 and 1 and becomes the queue program. Returns only when nothing is queued: the exit code."""
    try:
        chain = chain_of_words(words)
        limits = Limits(filter_timeout_s(control_reader(home)))
    except Unusable as unusable:
        complain(f"qmail-qfilter: {unusable}")
        return queue_exit.BUG
    except Unreadable as unreadable:
        complain(f"qmail-qfilter: {unreadable}")
        return queue_exit.NO_CONFIGURATION
    try:
        mail = Mail(copied(0), copied(1, ENVELOPE_MAX))
        program_fd = open_file()
        told = {**environ, b"QMAILPPID": b"%d" % os.getppid()}
        runner = Runner(mail, told, clock, limits)
        for command in chain:
            runner.run(command, {PROGRAM_FD: program_fd})
        program = chosen_program(os.pread(program_fd, _PROGRAM_MAX, 0), home, environ)
        mail.rewind()
        os.dup2(mail.message_fd, 0)
        os.dup2(mail.envelope_fd, 1)
    except BadEnvelope as bad:
        return envelope_trouble(bad)
    except Stopped as stopped:
        return _told(stopped)
    except OSError as error:
        complain(f"qmail-qfilter: {error.strerror}")
        return queue_exit.WRITE_FAILED
    return _become(program, [program], {**told, **mail.environment()})


def chosen_program(written: bytes, home: bytes, environ: "Mapping[bytes, bytes]") -> bytes:
    """Who queues the message: what a filter wrote (up to a NUL), else $QQF_QMAILQUEUE, else our qmail-queue.

    Never $QMAILQUEUE: that is most likely us.
    """
    name = written.split(b"\0", 1)[0] if written else environ.get(b"QQF_QMAILQUEUE")
    return os.path.join(home, b"bin/qmail-queue") if name is None else name


def _told(stopped: Stopped) -> int:
    """The exit code; trouble that the filter could not tell itself is said on descriptor 2."""
    if stopped.why:
        complain(b"qmail-qfilter: filter " + stopped.name + b": " + stopped.why)
    elif stopped.code == DROPPED:
        return queue_exit.ACCEPTED
    return stopped.code


def _become(program: bytes, argv: "Sequence[bytes]", environ: "Mapping[bytes, bytes]") -> int:
    """Returns only the exit code for "cannot"."""
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the interpreter ignores it, and so would its successor
    try:
        os.execve(program, list(argv), {name: value for name, value in environ.items() if name != b"QMAILNAME"})
    except (OSError, ValueError) as error:  # ValueError: no name at all
        complain(b"qmail-qfilter: cannot run " + program + b": " + str(error).encode("utf-8", "backslashreplace"))
    return queue_exit.BUG


def filter_queue(home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock") -> int:
    """qmail-qfilter-queue(8): the same with the filters of a control file, which $QMAILQUEUEFILTERS may name."""
    try:
        os.chdir(home)  # where the names of filters begin, as for all that qmail-smtpd starts
    except OSError:
        return queue_exit.NO_HOME
    try:
        words = _listed(home, environ.get(b"QMAILQUEUEFILTERS"))
    except (OSError, ValueError) as error:
        complain(f"qmail-qfilter-queue: unable to read the list of filters: {error}")
        return queue_exit.NO_CONFIGURATION
    own = os.path.join(home, b"bin/qmail-qfilter")
    if os.path.exists(own) and not is_ours(own, b"qmail-qfilter"):
        code = _become(own, [b"bin/qmail-qfilter", *words], environ)
        return queue_exit.SERVER_REJECTED_FOR_NOW if code == queue_exit.BUG else code
    return from_descriptors(words, home, environ, clock)


def _listed(home: bytes, path: bytes | None) -> list[bytes]:
    """The command line that a list of filters stands for. Raises OSError; one that was asked for must be there."""
    try:
        with open(os.path.join(home, _DEFAULT_LIST if path is None else path), "rb", buffering=0) as file:
            text = file.readall()
    except FileNotFoundError:
        if path is None:
            return []  # as every list that nobody has written
        raise
    return words_of_lines(entries(lambda _: text, "") or ())
