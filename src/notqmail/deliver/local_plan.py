"""What one local delivery is to do: the deciding half of qmail-local(8), without a side effect.

`resolve` looks at the home's and the `.qmail` file's modes, asks whether the message is looping, finds the file and
takes it to steps; local.py does them. Specified by qmail-local(8), dot-qmail(5), qmail-command(8).
"""

import errno
import os
import stat

from notqmail.control import dotqmail
from notqmail.deliver import envelope_lines
from notqmail.deliver.mailboxes import MaildirJob, Message, MessageUnreadable
from notqmail.unix.errors import error_text, is_temporary
from notqmail.unix.mains import PERMANENT, TEMPORARY

FORBIDDEN_MODE = 0o002  # conf-patrn: what may not be set on a home or a `.qmail` file
USAGE = "usage: qmail-local [ -nN ] user homedir local dash ext domain sender aliasempty\n"
MISUSE = b"qmail-local: " + USAGE.rstrip().encode()

_HOME_WRITABLE = b"Uh-oh: home directory is writable. (#4.7.0)"
_HOME_STICKY = b"Home directory is sticky: user is editing his .qmail file. (#4.2.1)"
_STICKY_WARNING = b"Warning: home directory is sticky."
_FILE_WRITABLE = b"Uh-oh: .qmail file is writable. (#4.7.0)"
_LOOPING = b"This message is looping: it already has my Delivered-To line. (#5.4.6)"
_NO_MAILBOX = b"Sorry, no mailbox here by that name. (#5.1.1)"
CANNOT_REWIND = b"Unable to rewind message. (#4.3.0)"
_BOUNCE_OF_A_BOUNCE = b"#@[]"
_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class Stopped(Exception):
    """The run is over without success: `code` is the exit code, `text` what the report says (may be empty)."""

    def __init__(self, code: int, text: bytes) -> None:
        super().__init__(code, text)
        self.code, self.text = code, text


class Request:
    """qmail-local's eight arguments."""

    __slots__ = ("dash", "default_delivery", "domain", "ext", "home", "local", "sender", "user")

    def __init__(
        self, user: bytes, home: bytes, local: bytes, dash: bytes, ext: bytes, domain: bytes, sender: bytes,
        default_delivery: bytes,
    ) -> None:  # fmt: skip
        self.user, self.home, self.local, self.dash, self.ext = user, home, local, dash, ext
        self.domain, self.sender, self.default_delivery = domain, sender, default_delivery


class Plan:
    """What is to be done for a request; nothing of it is done yet."""

    __slots__ = ("default", "message", "request", "steps", "warning")

    def __init__(
        self, request: Request, message: Message | None, steps: "list[tuple[bytes, bytes]]", default: bytes | None,
        warning: bytes = b"",
    ) -> None:  # fmt: skip
        self.request, self.message, self.steps, self.default, self.warning = (
            request, message, steps, default, warning,
        )  # fmt: skip

    def maildir_job(self) -> MaildirJob | None:
        """The job, when the plan is one Maildir delivery and nothing else: then many can be done together."""
        if self.message is None or len(self.steps) != 1 or self.steps[0][0] != dotqmail.MAILDIR:
            return None
        return self.job_for(self.message, self.steps[0][1])

    def job_for(self, message: Message, directory: bytes) -> MaildirJob:
        """The job of one Maildir line."""
        request = self.request
        top = envelope_lines.return_path(request.sender) + envelope_lines.delivered_to(request.local, request.domain)
        if directory[:1] != b"/":
            directory = request.home + b"/" + directory
        return MaildirJob(directory, top, message)


def resolve(request: Request, message_fd: int, *, dry_run: bool = False) -> Plan:
    """The plan for a request. A dry run (`-n`) reads no message and only warns of a sticky home. Raises Stopped."""
    if request.home[:1] != b"/":
        raise Stopped(PERMANENT, MISUSE)
    warning = _check_home(request.home, dry_run=dry_run)
    message = None if dry_run else _open_message(request, message_fd)
    try:
        text, default, forward_only = _find_instructions(request)
        if not text:
            text, forward_only = request.default_delivery, False
        return Plan(request, message, dotqmail.instructions(text, forward_only=forward_only), default, warning)
    except Stopped as stopped:
        if not warning:
            raise
        raise Stopped(stopped.code, b"\n".join(filter(None, (warning, stopped.text)))) from stopped


def _check_home(home: bytes, *, dry_run: bool) -> bytes:
    """A warning, or nothing. The `/.` asks for the right to enter, as chdir would."""
    try:
        mode = os.stat(home + b"/.").st_mode
    except OSError as error:
        raise Stopped(TEMPORARY, cannot_enter(home, error)) from error
    if mode & FORBIDDEN_MODE:
        raise Stopped(TEMPORARY, _HOME_WRITABLE)
    if mode & stat.S_ISVTX:
        if not dry_run:
            raise Stopped(TEMPORARY, _HOME_STICKY)
        return _STICKY_WARNING
    return b""


def cannot_enter(home: bytes, error: OSError) -> bytes:
    """The text for a home that cannot be entered."""
    return b"Unable to switch to %b: %b. (#4.3.0)" % (home, error_text(error))


def _open_message(request: Request, message_fd: int) -> Message:
    try:
        message = Message(message_fd)
        if _header_has(message, envelope_lines.delivered_to(request.local, request.domain)):
            raise Stopped(PERMANENT, _LOOPING)
    except MessageUnreadable as unreadable:
        if unreadable.error.errno == errno.ESPIPE:  # a pipe: it cannot be read a second time either
            raise Stopped(TEMPORARY, CANNOT_REWIND) from unreadable
        text = b"Unable to read message: %b. (#4.3.0)" % error_text(unreadable.error)
        raise Stopped(TEMPORARY, text) from unreadable
    return message


def _header_has(message: Message, line: bytes) -> bool:
    """Whether the header holds exactly this line. Stays linear: pieces overlap by less than one line."""
    before = b"\n"  # as if a line ended before the first
    wanted = b"\n" + line
    for chunk in message.chunks():
        data = before + chunk
        end = data.find(b"\n\n")
        if data.find(wanted, 0, len(data) if end < 0 else end + 1) >= 0:
            return True
        if end >= 0:
            return False
        before = data[-len(wanted) :]
    return False


def _find_instructions(request: Request) -> tuple[bytes, bytes | None, bool]:
    """(text of the `.qmail` file, DEFAULT, forward only); empty text where the bare user has no file."""
    directory = request.home + b"/"
    for name, start in dotqmail.candidates(request.dash, request.ext):
        try:
            descriptor = os.open(directory + name, _OPEN_FLAGS)
        except OSError as error:
            if isinstance(error, PermissionError) or is_temporary(error):
                raise Stopped(TEMPORARY, _cannot_open(name, error)) from error
            continue
        try:
            found = _read_instructions(descriptor, name)
        finally:
            os.close(descriptor)
        if found is not None:
            text, forward_only = found
            return text, None if start is None else request.ext[start:], forward_only
    if request.dash:
        raise Stopped(PERMANENT, _NO_MAILBOX)
    return b"", None, False


def _read_instructions(descriptor: int, name: bytes) -> tuple[bytes, bool] | None:
    """(text, forward only), or None when this is no regular file: it counts as missing."""
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            return None
        if mode & FORBIDDEN_MODE:
            raise Stopped(TEMPORARY, _FILE_WRITABLE)
        pieces = []
        while piece := os.read(descriptor, 65_536):
            pieces.append(piece)
    except OSError as error:
        raise Stopped(TEMPORARY, _cannot_open(name, error)) from error
    return b"".join(pieces), bool(mode & stat.S_IXUSR)


def _cannot_open(name: bytes, error: OSError) -> bytes:
    return b"Unable to open %b: %b. (#4.3.0)" % (name, error_text(error))


def new_sender(request: Request) -> bytes:
    """The sender of what is forwarded: the list's owner where `-owner` exists, else as it came. Raises Stopped.

    It is asked for the literal extension, not for the `default` file that matched; bounces keep their sender.
    """
    if request.sender in (b"", _BOUNCE_OF_A_BOUNCE):
        return request.sender
    name = b".qmail" + request.dash + dotqmail.safe_extension(request.ext) + b"-owner"
    if not _exists(request.home, name):
        return request.sender
    if _exists(request.home, name + b"-default"):
        return request.local + b"-owner-@" + request.domain + b"-@[]"
    return request.local + b"-owner@" + request.domain


def _exists(home: bytes, name: bytes) -> bool:
    try:
        os.stat(home + b"/" + name)
    except OSError as error:
        if is_temporary(error):
            raise Stopped(TEMPORARY, _cannot_open(name, error)) from error
        return False
    return True


def describe(plan: Plan) -> tuple[bytes, bytes]:
    """What `-n` prints, and the text of the failure that a real run would end with (empty: none)."""
    lines: list[bytes] = []
    for kind, argument in plan.steps:
        if kind == dotqmail.REFUSED:
            return b"".join(lines), argument
        lines.append(b"%b %b\n" % (kind, argument))
    kinds = [kind for kind, _ in plan.steps]
    files = kinds.count(dotqmail.MBOX) + kinds.count(dotqmail.MAILDIR)
    lines.append(done(files, kinds.count(dotqmail.FORWARD), kinds.count(dotqmail.PROGRAM)))
    return b"".join(lines), b""


def done(files: int, forwards: int, programs: int) -> bytes:
    """The line that says how much was done."""
    return b"did %d+%d+%d\n" % (files, forwards, programs)


DID_ONE_FILE = done(1, 0, 0)
DID_NOTHING = done(0, 0, 0)
