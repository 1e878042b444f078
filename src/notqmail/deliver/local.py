"""Doing what one local delivery is to do: the other half of qmail-local(8), for the program and the warm worker.

`perform` does the steps that local_plan.py decided on, in a process that may enter the home and start programs. They
run strictly in order and the first that fails ends the run; forwards come last, all in one message to the queue, so an
earlier failure prevents them, and a retry repeats what had succeeded.

Specified by qmail-local(8), dot-qmail(5), qmail-command(8).
"""

import os
import signal

from notqmail.control import dotqmail
from notqmail.deliver import envelope_lines
from notqmail.deliver.local_plan import CANNOT_REWIND, Plan, Stopped, cannot_enter, done, new_sender
from notqmail.deliver.mailboxes import (
    MAILDIR_WAIT_S,
    DeliveryFailed,
    MaildirJob,
    MessageUnreadable,
    TimedOut,
    UniqueNames,
    deliver_batch,
    deliver_mbox,
    within,
)
from notqmail.unix.errors import error_text
from notqmail.unix.mains import PERMANENT, TEMPORARY
from notqmail.unix.processes import spawn, wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from notqmail.unix.clock import Clock
    from notqmail.unix.durable import Disk

STOP_BUT_FORWARD = 99
HARD_PROGRAM_EXITS = frozenset((100, 64, 65, 70, 76, 77, 78, 112))

_CHILD_CRASHED = b"Aack, child crashed. (#4.3.0)"
_TIMED_OUT = b"Timeout on maildir delivery. (#4.3.0)"


class Tools:
    """What `perform` works with: the mail system's home, the inherited environment, disk and clock."""

    __slots__ = ("clock", "disk", "environ", "home")

    def __init__(self, home: bytes, environ: "Mapping[bytes, bytes]", disk: "Disk", clock: "Clock") -> None:
        self.home, self.environ, self.disk, self.clock = home, environ, disk, clock


def perform(plan: Plan, tools: Tools) -> bytes:
    """Does it all and returns what a success reports. Raises Stopped.

    Descriptors 0, 1 and 2 are what programs get: the message, and the report. This process's directory becomes
    the home.
    """
    try:
        os.chdir(plan.request.home)
    except OSError as error:
        raise Stopped(TEMPORARY, cannot_enter(plan.request.home, error)) from error
    return _Run(plan, tools).run()


class _Run:
    """One run through the steps, with the counts of what was done."""

    def __init__(self, plan: Plan, tools: Tools) -> None:
        assert plan.message is not None, "a dry run is described, not performed"
        self._plan, self._tools, self._message = plan, tools, plan.message
        self._ufline = envelope_lines.from_line(plan.request.sender, tools.clock.now_s())
        self._rpline = envelope_lines.return_path(plan.request.sender)
        self._dtline = envelope_lines.delivered_to(plan.request.local, plan.request.domain)
        self._environ: dict[bytes, bytes] | None = None
        self._files = self._programs = 0
        self._forwards: list[bytes] = []
        self._notes = b""  # for the log, before the counts

    def run(self) -> bytes:
        for kind, argument in self._plan.steps:
            if kind == dotqmail.REFUSED:
                raise Stopped(TEMPORARY, argument)
            if kind == dotqmail.FORWARD:
                self._forwards.append(argument)
            elif kind == dotqmail.PROGRAM:
                self._programs += 1
                if self._run_program(argument) == STOP_BUT_FORWARD:
                    break
            else:
                self._files += 1
                self._deliver_file(kind, argument)
        said = self._notes + done(self._files, len(self._forwards), self._programs)
        return said + b"qp %d\n" % self._forward() if self._forwards else said

    def _deliver_file(self, kind: bytes, argument: bytes) -> None:
        if kind == dotqmail.MAILDIR:
            job = self._plan.job_for(self._message, argument)
            failure = _deliver_one(job, self._tools)
            if failure is not None:
                raise Stopped(TEMPORARY, failure)
            return
        try:
            top = self._ufline + self._rpline + self._dtline
            if deliver_mbox(argument, top, self._message, self._tools.disk):
                self._notes += b"%b ended in half a line: a message before this one was cut short\n" % argument
        except DeliveryFailed as failed:
            raise Stopped(TEMPORARY, failed.text) from failed

    def _environment(self) -> dict[bytes, bytes]:
        """Made only for plans that need it: most mail goes into a Maildir."""
        if self._environ is None:
            request = self._plan.request
            self._environ = envelope_lines.program_environment(
                self._tools.environ, user=request.user, home=request.home, local=request.local, ext=request.ext,
                domain=request.domain, sender=request.sender, new_sender=new_sender(request),
                dtline=self._dtline, rpline=self._rpline, ufline=self._ufline, default=self._plan.default,
            )  # fmt: skip
        return self._environ

    def _run_program(self, command: bytes) -> int:
        """The program's exit code, 0 or 99. Raises Stopped for every other end."""
        try:
            os.lseek(0, 0, os.SEEK_SET)
        except OSError as error:
            raise Stopped(TEMPORARY, CANNOT_REWIND) from error
        environ = self._environment()
        try:
            child = spawn(
                [b"/bin/sh", b"-c", command], descriptors={}, environ=environ, default_sigpipe=True,
                before_exec=_default_signals, exit_on_failure=_no_shell,
            )  # fmt: skip
        except OSError as error:
            raise Stopped(TEMPORARY, b"Unable to fork: %b. (#4.3.0)" % error_text(error)) from error
        ended = wait(child)
        if ended.code is None:
            raise Stopped(TEMPORARY, _CHILD_CRASHED)
        if ended.code not in (0, STOP_BUT_FORWARD):
            raise Stopped(PERMANENT if ended.code in HARD_PROGRAM_EXITS else TEMPORARY, b"")
        return ended.code

    def _forward(self) -> int:
        """The number that the queue gave the message."""
        from notqmail.queue.client import open_submission  # most deliveries forward nothing

        sender = new_sender(self._plan.request)
        try:
            submission = open_submission(self._tools.home, self._environment())
        except OSError as error:
            raise Stopped(TEMPORARY, b"Unable to fork: %b. (#4.3.0)" % error_text(error)) from error
        submission.write(self._dtline)
        try:
            for chunk in self._message.chunks():
                submission.write(chunk)
        except MessageUnreadable as error:
            submission.abandon()
            raise Stopped(TEMPORARY, b"Unable to forward message: qq read error (#4.3.0).") from error
        report = submission.close(sender, self._forwards)
        if not report.succeeded:
            code = PERMANENT if report.kind == b"D" else TEMPORARY
            raise Stopped(code, b"Unable to forward message: %b." % report.text)
        return submission.qp


def _deliver_one(job: MaildirJob, tools: Tools) -> bytes | None:
    try:
        with within(MAILDIR_WAIT_S):
            return deliver_batch([job], tools.disk, UniqueNames(tools.clock))[0]
    except TimedOut:
        return _TIMED_OUT


def _default_signals() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the interpreter ignores it; a program of the user's must not


def _no_shell(error: OSError) -> int:
    os.write(2, b"Unable to run /bin/sh: %b. (#4.3.0)\n" % error_text(error))
    return TEMPORARY
