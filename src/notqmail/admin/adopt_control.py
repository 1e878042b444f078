"""Looking at control/ for `notqmail adopt`: each file, whose it is, and whether ours would read it otherwise than C.

Opens only the files that our own programs read as text (adopt_known.OURS), and at most LOOK_BYTES of each. What is in
them is never shown, for there may be passwords in them; only what is odd about it, and numbers.
"""

import os
import stat

from notqmail.admin.adopt_known import (
    CLOSED,
    LEFTOVERS,
    LINE,
    LIST,
    MAP,
    NUMBER,
    OTHERWISE,
    OURS,
    SCRIPTS_OWN,
    owner_of,
)
from notqmail.admin.adopt_report import DIFFERS, SAME, UNKNOWN, YOURS, shown
from notqmail.admin.command_line import counted
from notqmail.control.files import leading_digits
from notqmail.deliver.lspawn import WIDE_SLOTS
from notqmail.wire.spawn_link import SPAWN_SLOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from notqmail.admin.adopt_report import Report

LOOK_BYTES = 4_194_304
_INT_MAX = 2**31 - 1
_BOM = b"\xef\xbb\xbf"
_PATTERN_SIGNS = frozenset(b"^$*\\[(|?!")
AS_C = "read as C reads it"


def look_at_control(report: "Report", home: bytes, named_by: "dict[str, list[str]]") -> None:
    """Adds a finding for each file. `named_by`: which programs of this home name a control file. Raises OSError when
    the directory cannot be read.
    """
    directory = os.path.join(home, b"control")
    if os.path.islink(directory):
        report.add(DIFFERS, "control", ".", f"is a symbolic link to {shown(os.readlink(directory))}: followed")
    names = sorted(os.listdir(directory))
    for raw in names:
        name = os.fsdecode(raw)
        try:
            if name in OURS:
                _look_at_ours(report, directory, name)
            else:
                _look_at_foreign(report, directory, name, named_by.get(name, []))
        except OSError as error:
            report.unseen("control", raw, error)
    _look_at_the_whole(report, directory, {os.fsdecode(raw) for raw in names})


def _look_at_ours(report: "Report", directory: bytes, name: str) -> None:
    path = os.path.join(directory, os.fsencode(name))
    if os.path.islink(path):
        report.add(DIFFERS, "control", name, f"is a symbolic link to {shown(os.readlink(path))}: followed")
    if not stat.S_ISREG(os.stat(path).st_mode):
        report.add(YOURS, "control", name, "is no plain file: our programs will say that they cannot read it")
        return
    form = OURS[name]
    if form == CLOSED:
        report.add(SAME, "control", name, OTHERWISE.get(name, AS_C))
        return
    with open(path, "rb") as file:
        data = file.read(LOOK_BYTES)
    found = list(remarks(name, form, data))
    for group, text in found:
        report.add(group, "control", name, text)
    if not any(group != SAME for group, _ in found):
        report.add(DIFFERS if name in OTHERWISE else SAME, "control", name, OTHERWISE.get(name, AS_C))


def remarks(name: str, form: str, data: bytes) -> "Iterator[tuple[str, str]]":
    """What is odd about the text of a control file: the group, and a sentence without any of the text. Pure."""
    if b"\0" in data:
        yield DIFFERS, "has NUL bytes: to C an entry ends there, to ours it does not"
    if data.startswith(_BOM):
        yield YOURS, "begins with a byte order mark, which C and ours take for a part of the first entry: remove it"
    ends = data.count(b"\r\n") + data.endswith(b"\r")
    if ends and form != NUMBER:
        text = (
            f"{counted(ends, 'line ends', 'lines end')} in CR LF: the CR counts as a part of the entry, in C and here"
        )
        yield YOURS, f"{text}: remove it"
    if data and not data.endswith(b"\n") and len(data) < LOOK_BYTES:
        yield SAME, "the last line has no line feed: read alike"
    if form == NUMBER:
        yield from _number_remarks(name, data)
    elif form == LINE:
        yield from _line_remarks(name, data)
    elif form in (LIST, MAP):
        yield from _entry_remarks(name, form, data)


def _number_remarks(name: str, data: bytes) -> "Iterator[tuple[str, str]]":
    number = leading_digits(data.split(b"\n", 1)[0])
    if number is None:
        yield YOURS, "does not begin with a digit: the default holds, in C and here, whatever is meant"
    elif number > _INT_MAX:
        yield DIFFERS, f"ours reads {number}; C keeps 32 bits of it"
    elif name in ("concurrencylocal", "concurrencyremote") and number > SPAWN_SLOTS:
        yield (
            DIFFERS,
            f"{number}: C cuts it to conf-spawn, {SPAWN_SLOTS} unless it was compiled otherwise; ours to {WIDE_SLOTS}",
        )


def _line_remarks(name: str, data: bytes) -> "Iterator[tuple[str, str]]":
    first, _, rest = data.partition(b"\n")
    if rest.strip():
        yield SAME, "has more than one line: only the first is read, in C and here"
    if first[:1] in (b" ", b"\t"):
        yield YOURS, "begins with a blank, which is a part of the value, in C and here: remove it"
    if name == "doublebounceto" and not first.strip(b" \t\r"):
        yield (
            YOURS,
            "is empty: with doublebounce-trim that means no double bounces; ours sends them to @doublebouncehost",
        )


def _entry_remarks(name: str, form: str, data: bytes) -> "Iterator[tuple[str, str]]":
    lines = [line.rstrip(b" \t\r") for line in data.split(b"\n")]
    entries = [line for line in lines if line and not line.startswith(b"#")]
    if any(line[:1] in (b" ", b"\t") for line in entries):
        yield YOURS, "has lines that begin with a blank, which is a part of the entry, in C and here: remove it"
    if form == MAP:
        without = sum(b":" not in line for line in entries)
        if without:
            yield SAME, f"{counted(without, 'line has', 'lines have')} no colon: passed over, in C and here"
    if name == "smtproutes":
        secret = sum(b"|" in line for line in entries)
        if secret:
            what = f"{counted(secret, 'route has', 'routes have')} a name and a password (remote AUTH patch)"
            yield YOURS, f"{what}: ours does not log in there"
        if any(b";" in line for line in entries):
            yield YOURS, "has a semicolon (s/qmail writes the port behind one): ours wants host:port"
    if name == "badmailfrom" and any(_PATTERN_SIGNS & frozenset(line) for line in entries):
        yield YOURS, "has what looks like patterns (qregex, wildmat): ours takes entries for plain addresses and hosts"


def _look_at_foreign(report: "Report", directory: bytes, name: str, named_by: list[str]) -> None:
    """A file that no program of ours reads: it is not opened."""
    if name in SCRIPTS_OWN:
        report.add(SAME, "control", name, "read by start scripts; no mail program reads it")
        return
    if name.endswith(LEFTOVERS):
        report.add(SAME, "control", name, "a copy that somebody or a package left: nobody reads it")
        return
    known = owner_of(name)
    readers = f"; named by {', '.join(named_by)}" if named_by else ""
    if known is not None:
        whose, fate = known
        report.add(YOURS, "control", name, f"of {whose}: {fate}{readers}")
        return
    mode = os.lstat(os.path.join(directory, os.fsencode(name))).st_mode
    sort = "a directory: " if stat.S_ISDIR(mode) else ""
    report.add(UNKNOWN, "control", name, f"{sort}we have no idea what this is for; ours does not read it{readers}")


def _look_at_the_whole(report: "Report", directory: bytes, names: set[str]) -> None:
    """What is missing, and what does not fit together."""
    if "me" not in names:
        report.add(YOURS, "control", "me", "is missing: as under C, hardly a program works without it")
    if "rcpthosts" not in names:
        report.add(
            YOURS, "control", "rcpthosts", "is missing: as under C, everybody may send to everybody through here"
        )
    if "morercpthosts" in names:
        if "morercpthosts.cdb" not in names:
            report.add(YOURS, "control", "morercpthosts", "was never compiled: run qmail-newmrh, before or after")
        elif _changed_s(directory, b"morercpthosts") > _changed_s(directory, b"morercpthosts.cdb"):
            report.add(YOURS, "control", "morercpthosts", "is newer than its .cdb: run qmail-newmrh, before or after")


def _changed_s(directory: bytes, name: bytes) -> float:
    return os.stat(os.path.join(directory, name)).st_mtime
