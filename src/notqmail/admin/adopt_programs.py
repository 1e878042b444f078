"""Looking at bin/ for `notqmail adopt`: what each program is, and whether ours may take its place.

A compiled program names in its text the control files it reads. One that names files which ours does not know is
patched: it stays unless the person says otherwise, so that nothing that refuses mail or asks for a password is lost
unsaid. Somebody's own program, a script or a link, always stays; ours run it where qmail would.
"""

import os
import re
import stat

from notqmail.admin.adopt_known import MARKS, OURS
from notqmail.admin.adopt_report import DIFFERS, SAME, UNKNOWN, YOURS, shown
from notqmail.admin.launchers import KEPT_SUFFIX, program_names
from notqmail.unix.launchers import is_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from notqmail.admin.adopt_report import Report

MISSING, LAUNCHER, COMPILED, SCRIPT, LINK, STRANGE = "missing", "ours", "compiled", "a script", "a link", "no file"
ADD, REFRESH, TAKE, LEAVE = "add", "refresh", "take", "leave"
CORE = ("qmail-start", "qmail-send", "qmail-lspawn", "qmail-rspawn", "qmail-clean")
"""They speak to one another; patches change how (big-concurrency, ext-todo), so all are taken or none."""

BREAK = ("qmail-getpw", "qmail-pw2u")
"""They have in them which character parts user and extension; ours have `-`."""
DASH = b"-"

_CS_SCRIPTS = {"datemail", "mailsubj", "qmail-qstat"}  # sh scripts of C's own
_C_ONLY = {
    "qmail-upq", "qsmhook", "qail", "elq", "pinq", "maildirwatch", "config", "config-fast", "dnscname", "dnsfq",
    "dnsip", "dnsmxip", "dnsptr", "hostname", "ipmeprint", "idedit", "install-big", "install", "instcheck",
}  # fmt: skip
_PATCHES_OWN = {
    "qmail-todo": "ext-todo: our qmail-send does this itself and does not start it",
    "qmail-newbrt": "badrcptto as a cdb: of no use to ours", "qmail-newmvrt": "validrcptto as a cdb: of no use to ours",
    "qmail-newbadmail": "of no use to ours", "qmail-recipients": "recipients as a cdb: of no use to ours",
    "spfquery": "SPF, for people", "srsfilter": "runs from .qmail files as before",
    "simscan": "runs as QMAILQUEUE, as before", "simscanmk": "simscan's",
    "qmail-scanner-queue.pl": "runs as QMAILQUEUE, as before",
    "qmail-qfilter": "runs as QMAILQUEUE, as before", "qmail-dk": "runs as QMAILQUEUE, as before",
    "qmail-dkim": "runs as QMAILQUEUE, as before", "spawn-filter": "runs as QMAILREMOTE, as before",
    "dk-filter": "runs as before", "dkim": "runs as before", "surblfilter": "runs as before",
    "surblqueue": "runs as QMAILQUEUE", "fastforward": "runs from .qmail files as before",
    "dot-forward": "runs from .qmail files as before",
    "newaliases": "a name of sendmail's", "mailq": "a name of sendmail's",
    "qmailctl": "a start script: read it for program names and limits", "qmail-tap": "of no use to ours",
}  # fmt: skip
_NAMED_CONTROL = re.compile(rb"control/([A-Za-z0-9][A-Za-z0-9._-]*)")
_HOME_PAGES = (  # in the answer to HELP
    (b"notqmail home page", "looks like notqmail 1.07"), (b"netqmail home page", "looks like netqmail"),
    (b"qmail home page", "looks like a patched qmail 1.03"),
)  # fmt: skip
_LOOK_BYTES = 8_388_608
_SCRIPT_MAX = 2_000  # C's own scripts are a few lines


class Program:
    """A file in bin/. `extras`: control files it names that ours do not know, and abilities that ours do not have."""

    __slots__ = ("control", "extras", "fate", "kind", "mode", "name", "text", "uid")

    def __init__(self, name: str) -> None:
        self.name, self.kind, self.fate = name, MISSING, ADD
        self.mode = self.uid = 0
        self.text = b""
        self.control: list[str] = []
        self.extras: list[str] = []


def read_program(directory: bytes, name: str) -> Program:
    """What a file in bin/ is. Follows no symbolic link. Raises OSError."""
    found = Program(name)
    path = os.path.join(directory, os.fsencode(name))
    try:
        state = os.lstat(path)
    except FileNotFoundError:
        return found
    found.mode, found.uid, found.fate = stat.S_IMODE(state.st_mode), state.st_uid, LEAVE
    if stat.S_ISLNK(state.st_mode):
        found.kind = LINK
    elif not stat.S_ISREG(state.st_mode):
        found.kind = STRANGE
    elif is_ours(path):
        found.kind, found.fate = LAUNCHER, REFRESH
    else:
        with open(path, "rb") as file:
            found.text = file.read(_LOOK_BYTES)
        _judge_text(found)
    return found


def _judge_text(found: Program) -> None:
    if found.text.startswith(b"#!") or (found.name in _CS_SCRIPTS and found.text[:4] != b"\x7fELF"):
        found.kind = SCRIPT
        found.fate = TAKE if found.name in _CS_SCRIPTS and len(found.text) < _SCRIPT_MAX else LEAVE
        return
    found.kind, found.fate = COMPILED, TAKE
    names = {match[1].decode() for match in _NAMED_CONTROL.finditer(found.text)}
    found.control = sorted({name.rstrip(".").removesuffix(".tmp") for name in names})
    found.extras = [f"control/{name}" for name in found.control if name not in OURS]
    found.extras += [what for mark, what in MARKS if mark in found.text]


class Bin:
    """All of bin/ and the fate of each program that ours has: `programs` has them all, `others` the rest."""

    def __init__(self, home: bytes, *, take: "Collection[str]" = (), leave: "Collection[str]" = ()) -> None:
        """`take`: patched ones that are to be replaced nevertheless; `leave`: those that stay. Raises OSError."""
        self.directory = os.path.join(home, b"bin")
        present = sorted(os.fsdecode(name) for name in os.listdir(self.directory))
        ours = program_names()
        self.programs = {name: read_program(self.directory, name) for name in ours}
        self.others = {name: read_program(self.directory, name) for name in present if name not in ours}
        self.break_character = DASH
        self._take = take
        for program in self.programs.values():
            self._decide(program, take, leave)
        self.core_stays = [name for name in CORE if self.programs[name].fate == LEAVE]
        if self.core_stays:
            for name in CORE:
                if self.programs[name].fate == TAKE:
                    self.programs[name].fate = LEAVE

    def _decide(self, program: Program, take: "Collection[str]", leave: "Collection[str]") -> None:
        if program.kind == COMPILED and program.extras and program.name not in take:
            program.fate = LEAVE
        if program.name in leave and program.fate != REFRESH:
            program.fate = LEAVE
        kept = os.path.join(self.directory, os.fsencode(program.name)) + KEPT_SUFFIX
        if program.fate == TAKE and os.path.lexists(kept) and not _same_file(kept, self.path(program.name)):
            program.fate, program.kind = LEAVE, STRANGE

    def heed_break(self, character: bytes) -> None:
        """Where C's programs part user and extension otherwise than ours, those that know it stay: our qmail-lspawn
        runs a qmail-getpw that is not ours.
        """
        self.break_character = character
        for name in BREAK:
            program = self.programs[name]
            if character != DASH and program.kind == COMPILED and program.fate == TAKE and name not in self._take:
                program.fate = LEAVE

    def path(self, name: str) -> bytes:
        """Where a program is."""
        return os.path.join(self.directory, os.fsencode(name))

    def named_by(self) -> dict[str, list[str]]:
        """For each control file, the compiled programs that name it."""
        found: dict[str, list[str]] = {}
        for program in (*self.programs.values(), *self.others.values()):
            for name in program.control:
                found.setdefault(name, []).append(f"bin/{program.name}")
        return found

    @property
    def is_old(self) -> bool:
        """Whether C's programs here are so old that they do not know QMAILQUEUE."""
        compiled = [program for program in self.programs.values() if program.kind == COMPILED]
        return bool(compiled) and not any(b"QMAILQUEUE" in program.text for program in compiled)

    def kind(self) -> str:
        """Which qmail this looks like: qmail-smtpd's HELP says whose it is, and each of the later ones knows a variable
        that the earlier does not.
        """
        programs = self.programs.values()
        if any(b"QMAILREMOTE" in program.text for program in programs):
            return "looks like notqmail (1.08 or later)"
        if any(b"QMAILQUEUE" in program.text for program in programs):
            for sign, what in _HOME_PAGES:
                if sign in self.programs["qmail-smtpd"].text:
                    return what
            return "looks like netqmail, notqmail 1.07, or a patched qmail 1.03"
        if self.is_old:
            return "looks like qmail 1.03"
        if any(program.kind == LAUNCHER for program in programs):
            return "has our programs"
        return "has none of C's programs"


def _same_file(one: bytes, other: bytes) -> bool:
    return os.path.samestat(os.lstat(one), os.lstat(other))


def look_at_bin(report: "Report", found: Bin) -> None:
    """Adds a finding for each program."""
    if os.path.islink(found.directory):
        report.add(DIFFERS, "bin", ".", f"is a symbolic link to {shown(os.readlink(found.directory))}: followed")
    if os.stat(found.directory).st_mode & 0o022:
        report.add(YOURS, "bin", ".", "others than its owner can write there, and root runs what is in it: chmod go-w")
    for program in found.programs.values():
        _look_at_program(report, found, program)
    for program in found.others.values():
        _look_at_other(report, program)
    if found.programs["qmail-start"].fate == LEAVE and found.programs["qmail-queue"].fate in (TAKE, REFRESH):
        report.add(
            YOURS, "bin", "qmail-start",
            "stays, and C's does not start the queue's writer: run `qmail-queue --serve` as a service of the queue's"
            " owner, or keep C's qmail-queue too (--leave qmail-queue)",
        )  # fmt: skip


def _look_at_program(report: "Report", found: Bin, program: Program) -> None:
    special = f"{program.mode:04o}, " if program.mode & 0o6000 else ""
    if special and program.name != "qmail-queue":
        report.add(YOURS, "bin", program.name, f"{special}which no qmail has: find out who did this")
    if program.fate == ADD:
        report.add(DIFFERS, "bin", program.name, "not there; ours is added")
    elif program.fate == REFRESH:
        report.add(SAME, "bin", program.name, "ours already; its launcher is written anew")
    elif program.fate == TAKE and program.name in BREAK and found.break_character != DASH:
        report.add(
            YOURS, "bin", program.name,
            f"C's parts user and extension by {_break_in_words(found)}, and ours by -, which takes its place as asked:"
            " mail for extensions goes elsewhere",
        )  # fmt: skip
    elif program.fate == TAKE:
        text = "C's script" if program.kind == SCRIPT else f"C's, {special}ours takes its place"
        report.add(SAME, "bin", program.name, text if program.kind != SCRIPT else f"{text}: ours takes its place")
    else:
        _look_at_left(report, found, program)


def _look_at_left(report: "Report", found: Bin, program: Program) -> None:
    name = program.name
    if program.kind == LINK:
        target = shown(os.readlink(found.path(name)))
        report.add(DIFFERS, "bin", name, f"is somebody's link to {target}: stays, and ours run it where C would")
    elif program.kind == SCRIPT:
        report.add(DIFFERS, "bin", name, "is somebody's script: stays, and ours run it where C would")
    elif program.kind == STRANGE:
        kept = name + os.fsdecode(KEPT_SUFFIX)
        report.add(YOURS, "bin", name, f"and {kept} are two programs, or it is no file: stays; remove one of them")
    elif program.extras:
        report.add(
            YOURS, "bin", name,
            f"C's, patched ({', '.join(program.extras)}): stays, and works beside ours; --take {name} puts ours there",
        )  # fmt: skip
    elif name in BREAK and found.break_character != DASH:
        report.add(
            DIFFERS, "bin", name,
            f"C's: parts user and extension by {_break_in_words(found)}, ours by -: stays, and is run where C runs it",
        )  # fmt: skip
    elif name in CORE and found.core_stays != [name]:
        report.add(DIFFERS, "bin", name, f"C's: stays with {', '.join(found.core_stays)}, to which it speaks")
    else:
        report.add(SAME, "bin", name, "C's: stays, as asked")


def _break_in_words(found: Bin) -> str:
    return shown(found.break_character) or "none of the usual characters"


def _look_at_other(report: "Report", program: Program) -> None:
    name = program.name
    if name.endswith(os.fsdecode(KEPT_SUFFIX)):
        report.add(SAME, "bin", name, "kept from an earlier change to ours")
    elif name in _C_ONLY:
        report.add(SAME, "bin", name, "C's: ours has no such program, and it stays")
    elif name in _PATCHES_OWN:
        report.add(DIFFERS, "bin", name, f"{_PATCHES_OWN[name]}; stays")
    else:
        special = f" ({program.mode:04o})" if program.mode & 0o6000 else ""
        report.add(UNKNOWN, "bin", name, f"{program.kind}{special} that we do not know; stays")
