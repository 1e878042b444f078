"""Looking at `.qmail` files for `notqmail adopt`: those in alias/, and those of all users, as far as there is time.

Counted are the lines by what they do; named are the files that ours carry out a little otherwise. What is in them is
not shown. C reads them as their owner, this as the caller: only plain files are opened, and only their beginning read.
"""

import os
import pwd
import re
import stat

from notqmail.admin.adopt_report import DIFFERS, SAME, UNKNOWN, YOURS, shown
from notqmail.admin.command_line import counted
from notqmail.control.assign import BadFormat, records
from notqmail.control.dotqmail import FORWARD, MAILDIR, MBOX, PROGRAM, instructions
from notqmail.unix.accounts import is_single_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from notqmail.admin.adopt_report import Report
    from notqmail.unix.clock import Clock

    Say = Callable[[str], object]

TIME_S = 60.0
"""After so long with users' homes the rest is only counted."""
_PROGRESS_S = 2.0
_LOOK_BYTES = 65_536
_NAMED_MAX = 20
_ALIASES = (b"postmaster", b"mailer-daemon", b"root")
_OTHERWISE = re.compile(rb"(?:^|[\s/;|&(!])(preline|qreceipt|qbiff)(?![\w.-])")
_NOUNS = {PROGRAM: "program", FORWARD: "forward", MBOX: "mbox", MAILDIR: "Maildir"}
_PLURALS = {MBOX: "mboxes"}
_HOME_FIELD = 3  # of an assignment: user, uid, gid, home


def oddities(text: bytes) -> "Iterator[str]":
    """What ours carry out otherwise than C, a sentence each, without any of the text. Pure."""
    steps = instructions(text)
    if any(b"\0" in line for line in text.split(b"\n") if line[:1] not in (b"#", b"")):
        yield "has NUL bytes: to ours every line ends there, to C only some do"
    programs = {match[1].decode() for kind, argument in steps if kind == PROGRAM
                for match in _OTHERWISE.finditer(argument)}  # fmt: skip
    for name in sorted(programs):
        yield f"runs {name}, where ours differs in a corner: DIFFERENCES of {name}(1)"


class Tally:
    """Files, homes and lines, counted; and what is odd, by file."""

    __slots__ = ("files", "homes", "lines", "odd", "unread")

    def __init__(self) -> None:
        self.files = self.homes = self.unread = 0
        self.lines = dict.fromkeys(_NOUNS, 0)
        self.odd: list[tuple[bytes, str]] = []

    def take(self, path: bytes) -> os.stat_result | None:
        """Counts one file; returns its state, None when it is no plain file. Raises OSError."""
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):
            return None
        # It may become a fifo meanwhile: then this must not wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            text = os.read(descriptor, _LOOK_BYTES)
        finally:
            os.close(descriptor)
        self.files += 1
        for kind, _ in instructions(text):
            if kind in self.lines:
                self.lines[kind] += 1
        self.odd += [(path, what) for what in oddities(text)]
        return state

    def in_words(self) -> str:
        """The lines, by what they do."""
        return ", ".join(counted(count, _NOUNS[kind], _PLURALS.get(kind, "")) for kind, count in self.lines.items())

    def report_oddities(self, report: "Report", place: str) -> None:
        """Names the files, up to a number."""
        for path, what in self.odd[:_NAMED_MAX]:
            report.add(DIFFERS, place, path, what)
        if len(self.odd) > _NAMED_MAX:
            report.add(DIFFERS, place, f"{len(self.odd) - _NAMED_MAX} more", "of this kind")


# ── alias/ ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def look_at_aliases(report: "Report", home: bytes) -> None:
    """alias/: the files by what they do, and those that should be there. Raises OSError."""
    directory = os.path.join(home, b"alias")
    if os.path.islink(directory):
        report.add(DIFFERS, "alias", ".", f"is a symbolic link to {shown(os.readlink(directory))}: followed")
    tally = Tally()
    names = [name for name in sorted(os.listdir(directory)) if name.startswith(b".qmail")]
    for name in names:
        try:
            _look_at_alias(report, directory, name, tally)
        except OSError as error:
            report.unseen("alias", name, error)
    what = f"read as by C; lines in them: {tally.in_words()}" if names else "there are none"
    report.add(SAME, "alias", counted(len(names), ".qmail file"), what)
    tally.report_oddities(report, "alias")
    whose = _own_name() if is_single_user(home) else ""
    for name in _ALIASES:
        if os.fsdecode(name) != whose and b".qmail-" + name not in names and b".qmail-default" not in names:
            report.add(YOURS, "alias", b".qmail-" + name, "is missing: mail for it bounces, as under C")


def _own_name() -> str:
    """The user whose single-user home this is, who needs no alias."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""  # then no mail can be for it either


def _look_at_alias(report: "Report", directory: bytes, name: bytes, tally: Tally) -> None:
    path = os.path.join(directory, name)
    if os.path.islink(path):
        report.add(DIFFERS, "alias", name, f"is a symbolic link to {shown(os.readlink(path))}: followed, as C does")
    state = tally.take(path)
    if state is not None and state.st_mode & 0o002:
        report.add(YOURS, "alias", name, "anybody can write it: ours puts such mail off, as C does")


# ── the users ───────────────────────────────────────────────────────────────────────────────────────────────────────


def look_at_homes(report: "Report", home: bytes, clock: "Clock", say: "Say", seconds: float = TIME_S) -> None:
    """The `.qmail` files of everybody who can get mail. `say` is told now and then how far it is."""
    homes = [home] if is_single_user(home) else users_homes(home)
    tally, begin_s = Tally(), clock.steady_s()
    told_s, done = begin_s, 0
    for place in homes:
        now_s = clock.steady_s()
        if now_s - begin_s >= seconds:
            break
        if now_s - told_s >= _PROGRESS_S:
            told_s = now_s
            say(f".qmail files: {done} of {counted(len(homes), 'home')} looked at")
        _look_at_home(tally, place)
        done += 1
    where = f"in {tally.homes} of {counted(done, 'home')}"
    what = f"read as by C; lines in them: {tally.in_words()}" if tally.files else "there are none"
    report.add(SAME, "homes", f"{counted(tally.files, '.qmail file')} {where}", what)
    tally.report_oddities(report, "homes")
    if tally.unread:
        report.add(UNKNOWN, "homes", counted(tally.unread, "file or home", "files or homes"), "could not be read")
    if done < len(homes):
        text = f"cannot be seen: after {seconds:.0f} seconds their .qmail files are not looked at any more"
        report.add(UNKNOWN, "homes", counted(len(homes) - done, "home"), text)


def users_homes(home: bytes) -> list[bytes]:
    """The homes of users/assign and of the password file but root's, each once; alias has been looked at."""
    places = [os.fsencode(account.pw_dir) for account in pwd.getpwall() if account.pw_uid]
    try:
        with open(os.path.join(home, b"users/assign"), "rb") as file:
            places += [value.split(b"\0")[_HOME_FIELD] for key, value in records(file.read()) if key]
    except (FileNotFoundError, BadFormat):
        pass  # not there; or not in force as it is, and qmail-newu will name the line
    own = os.path.realpath(os.path.join(home, b"alias"))
    return [place for place in dict.fromkeys(places) if place[:1] == b"/" and os.path.realpath(place) != own]


def _look_at_home(tally: Tally, place: bytes) -> None:
    before = tally.files
    try:
        with os.scandir(place) as entries:
            paths = [entry.path for entry in entries if entry.name.startswith(b".qmail")]
    except (FileNotFoundError, NotADirectoryError):
        return  # /nonexistent, /bin/false: nobody who gets mail
    except OSError:
        tally.unread += 1
        return
    for path in sorted(paths):
        try:
            tally.take(path)
        except FileNotFoundError:
            pass  # a link to nothing, or gone: there is no such file for C either
        except OSError:
            tally.unread += 1
    tally.homes += tally.files > before
