"""What qmail-showctl says: how this mail system is set up, file by file of control/ (qmail-showctl(8)).

The text is C's to the byte, for people who compare two machines with diff, with one exception: a number too large
for C's int is shown as our programs understand it. Control bytes of one-line files and lists are shown as `?`.
"""

import os

from notqmail.control.files import entries, leading_digits, one_line
from notqmail.queue.layout import SPLIT
from notqmail.unix.accounts import GROUPS, USERS
from notqmail.unix.controls import Unreadable
from notqmail.wire.spawn_link import SPAWN_SLOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from notqmail.unix.accounts import Accounts

    ReadControl = Callable[[str], bytes | None]

BREAK = b"-"  # conf-break: between user and extension
FORBIDDEN_MODE = 0o002  # conf-patrn: a home or .qmail with one of these bits is not believed
_UNREADABLE = b"Oops! Trouble reading this file.\n"
_DEFAULT = b"(Default.) "
_VISIBLE = bytes(byte if 32 <= byte <= 126 else 0x3F for byte in range(256))


class CannotShow(Exception):
    """Nothing more can be said; `text` belongs at the end of the output, and the exit code is 111."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


class _Line:
    """A file of one line. `of_me`: its default is control/me."""

    __slots__ = ("before", "default", "name", "of_me")

    def __init__(self, name: str, of_me: bool, default: bytes, before: bytes) -> None:
        self.name, self.of_me, self.default, self.before = name, of_me, default, before

    def shown(self, read: "ReadControl", me: bytes | None) -> bytes:
        """The rest of the line behind the file's name."""
        line = one_line(read, self.name)
        if line is not None:
            return b"%b%b.\n" % (self.before, line.translate(_VISIBLE))
        default = me if self.of_me and me is not None else self.default
        return b"%b%b%b.\n" % (_DEFAULT, self.before, default.translate(_VISIBLE))


class _Number:
    """A file with a number."""

    __slots__ = ("after", "before", "default", "name")

    def __init__(self, name: str, default: bytes, before: bytes, after: bytes) -> None:
        self.name, self.default, self.before, self.after = name, default, before, after

    def shown(self, read: "ReadControl", _me: bytes | None) -> bytes:
        """As _Line.shown."""
        found = leading_digits(one_line(read, self.name) or b"")
        if found is None:
            return b"%b%b%b%b.\n" % (_DEFAULT, self.before, self.default, self.after)
        return b"%b%d%b.\n" % (self.before, found, self.after)


class _List:
    """A file of entries, one sentence each."""

    __slots__ = ("after", "before", "default", "name")

    def __init__(self, name: str, default: bytes, before: bytes, after: bytes) -> None:
        self.name, self.default, self.before, self.after = name, default, before, after

    def shown(self, read: "ReadControl", _me: bytes | None) -> bytes:
        """As _Line.shown."""
        found = entries(read, self.name)
        if found is None:
            return b"%b%b\n" % (_DEFAULT, self.default)
        # To C a NUL ends an entry: one at its beginning leaves nothing, one further on makes two of it.
        pieces = [piece for entry in found if entry[:1] != b"\0" for piece in entry.split(b"\0")]
        return b"\n" + b"".join([b"%b%b%b\n" % (self.before, one.translate(_VISIBLE), self.after) for one in pieces])


_FIRST = (
    _List("badmailfrom", b"Any MAIL FROM is allowed.", b"", b" not accepted in MAIL FROM."),
    _Line("bouncefrom", False, b"MAILER-DAEMON", b"Bounce user name is "),
    _Line("bouncehost", True, b"bouncehost", b"Bounce host name is "),
    _Number("concurrencylocal", b"10", b"Local concurrency is ", b""),
    _Number("concurrencyremote", b"20", b"Remote concurrency is ", b""),
    _Number("databytes", b"0", b"SMTP DATA limit is ", b" bytes"),
    _Line("defaultdomain", True, b"defaultdomain", b"Default domain name is "),
    _Line("defaulthost", True, b"defaulthost", b"Default host name is "),
    _Line("doublebouncehost", True, b"doublebouncehost", b"2B recipient host: "),
    _Line("doublebounceto", False, b"postmaster", b"2B recipient user: "),
    _Line("envnoathost", True, b"envnoathost", b"Presumed domain name is "),
    _Line("helohost", True, b"helohost", b"SMTP client HELO host name is "),
    _Line("idhost", True, b"idhost", b"Message-ID host name is "),
    _Line("localiphost", True, b"localiphost", b"Local IP address becomes "),
    _List("locals", b"Messages for me are delivered locally.", b"Messages for ", b" are delivered locally."),
    _Line("me", False, b"undefined! Uh-oh", b"My name is "),
    _List("percenthack", b"The percent hack is not allowed.", b"The percent hack is allowed for user%host@", b"."),
    _Line("plusdomain", True, b"plusdomain", b"Plus domain name is "),
    _List("qmqpservers", b"No QMQP servers.", b"QMQP server: ", b"."),
    _Number("queuelifetime", b"604800", b"Message lifetime in the queue is ", b" seconds"),
)
_RCPTHOSTS = _List(
    "rcpthosts", b"SMTP clients may send messages to any recipient.",
    b"SMTP clients may send messages to recipients at ", b".",
)  # fmt: skip
_MORE_HOSTS = _List("morercpthosts", b"No effect.", b"SMTP clients may send messages to recipients at ", b".")
_MORE_HOSTS_ALONE = _List(
    "morercpthosts", b"No rcpthosts; morercpthosts is irrelevant.",
    b"No rcpthosts; doesn't matter that morercpthosts has ", b".",
)  # fmt: skip
_LAST = (
    _Line("smtpgreeting", True, b"smtpgreeting", b"SMTP greeting: 220 "),
    _List("smtproutes", b"No artificial SMTP routes.", b"SMTP route: ", b""),
    _Number("timeoutconnect", b"60", b"SMTP client connection timeout is ", b" seconds"),
    _Number("timeoutremote", b"1200", b"SMTP client data timeout is ", b" seconds"),
    _Number("timeoutsmtpd", b"1200", b"SMTP server data timeout is ", b" seconds"),
    _List("virtualdomains", b"No virtual domains.", b"Virtual domain: ", b""),
)
_KNOWN = {b"rcpthosts", b"morercpthosts", b"morercpthosts.cdb"} | {one.name.encode() for one in (*_FIRST, *_LAST)}


def report(home: bytes, accounts: "Accounts", read: "ReadControl") -> "Iterator[bytes]":
    """The whole output in pieces; `read` reads this home's control files.

    Raises CannotShow when control/ cannot be looked at.
    """
    yield from _constants(home, accounts)
    names = _control_names(home)
    try:
        me = one_line(read, "me")
    except Unreadable:
        raise CannotShow(b"Oops! Trouble reading control/me.") from None
    for one in _FIRST:
        yield _paragraph(one, read, me)
    yield _paragraph(_RCPTHOSTS, read, me)
    yield _paragraph(_MORE_HOSTS if _is_there(read, "rcpthosts") else _MORE_HOSTS_ALONE, read, me)
    yield b"\nmorercpthosts.cdb: " + _how_old(os.path.join(home, b"control/morercpthosts"))
    for one in _LAST:
        yield _paragraph(one, read, me)
    for name in names:
        if name not in _KNOWN:
            yield b"\n%b: I have no idea what this file does.\n" % name


def _constants(home: bytes, accounts: "Accounts") -> "Iterator[bytes]":
    """What C compiles in."""
    yield b"qmail home directory: %b.\n" % home
    yield b"user-ext delimiter: %b.\n" % BREAK
    yield b"paternalism (in decimal): %d.\n" % FORBIDDEN_MODE
    yield b"silent concurrency limit: %d.\n" % SPAWN_SLOTS
    yield b"subdirectory split: %d.\n" % SPLIT
    yield b"user ids: %b.\n" % b", ".join([b"%d" % accounts.uids[role] for role in USERS])
    yield b"group ids: %b.\n" % b", ".join([b"%d" % accounts.gids[role] for role in reversed(GROUPS)])


def _control_names(home: bytes) -> list[bytes]:
    """What is in control/, in the directory's own order."""
    try:
        if not os.path.isdir(home) or not os.access(home, os.X_OK):
            raise CannotShow(b"Oops! Unable to chdir to %b.\n" % home)
        control = os.path.join(home, b"control")
        if not os.path.isdir(control) or not os.access(control, os.X_OK):
            raise CannotShow(b"Oops! Unable to chdir to control.\n")
        return os.listdir(control)
    except OSError:
        raise CannotShow(b"Oops! Unable to open current directory.\n") from None


def _paragraph(one: "_Line | _Number | _List", read: "ReadControl", me: bytes | None) -> bytes:
    try:
        shown = one.shown(read, me)
    except Unreadable:
        shown = _UNREADABLE
    return b"\n%b: %b" % (one.name.encode(), shown)


def _is_there(read: "ReadControl", name: str) -> bool:
    """Whether there is such a file, be it one that cannot be read."""
    try:
        return read(name) is not None
    except Unreadable:
        return True


def _how_old(text: bytes) -> bytes:
    """Whether the compiled morercpthosts belongs to the text."""
    text_s, compiled_s = _modified_s(text), _modified_s(text + b".cdb")
    if text_s is None:
        if compiled_s is None:
            return b"(Default.) No effect.\n"
        return b"Oops! morercpthosts.cdb exists but morercpthosts doesn't.\n"
    if compiled_s is None:
        return b"Oops! morercpthosts exists but morercpthosts.cdb doesn't.\n"
    if text_s > compiled_s:
        return b"Oops! morercpthosts.cdb is older than morercpthosts.\n"
    return b"Modified recently enough; hopefully up to date.\n"


def _modified_s(path: bytes) -> int | None:
    try:
        return int(os.stat(path).st_mtime)
    except OSError:
        return None
