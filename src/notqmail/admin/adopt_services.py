"""Looking at what surrounds a home, for `notqmail adopt`: start scripts, tcp rules, users/.

Start scripts are read where people keep them (PLACES, below a root directory) and only those that name qmail. Of
rules and environment directories the names of variables are looked at, not their values, but for QMAILQUEUE's.
"""

import glob
import os
import re
import stat

from notqmail.admin.adopt_known import fate_of_variable
from notqmail.admin.adopt_report import DIFFERS, SAME, UNKNOWN, YOURS, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from notqmail.admin.adopt_report import Report

MEMORY_BYTES = 100_000_000  # docs/how-to/one-program-in-a-c-installation.md says the same
PLACES = (
    "service/*/run", "service/*/log/run", "etc/service/*/run", "var/service/*/run", "etc/sv/*/run", "etc/s6/*/run",
    "etc/init.d/*qmail*", "etc/rc.d/*qmail*", "etc/rc.d/init.d/*qmail*", "usr/local/etc/rc.d/*qmail*", "etc/rc.local",
    "etc/systemd/system/*qmail*", "lib/systemd/system/*qmail*", "usr/lib/systemd/system/*qmail*", "etc/inetd.conf",
    "etc/xinetd.d/*",
)  # fmt: skip
HOME_PLACES = ("rc", "supervise/*/run", "supervise/*/log/run", "bin/qmailctl", "boot/rc")
RULES = ("etc/tcp.smtp", "etc/tcprules.d/tcp.*", "etc/tcpcontrol/*.rules", "etc/qmail/tcp.smtp")
_LOOK_BYTES = 65_536
_NAMES_QMAIL = re.compile(rb"qmail")
_LIMIT = re.compile(rb"(?:softlimit|chpst|s6-softlimit)((?:\s+-[a-zA-Z]\s*\d+)+)")
_LIMIT_OPTION = re.compile(rb"-([amdMDA])\s*(\d+)")  # -s is the stack, -o descriptors: not memory as a whole
_ULIMIT = re.compile(rb"ulimit\s+(?:-[SH]\s+)?-[SH]?[vdm]\s+(\d+)")
_UNIT_LIMIT = re.compile(rb"(?m)^\s*(?:LimitAS|LimitDATA|MemoryMax|MemoryLimit)\s*=\s*(\d+)([KMG]?)")
_COMPILED_VARIABLE = re.compile(rb"\+([A-Z_][A-Z0-9_]*)=([^\0]{0,200})\0")
_SCRIPT_VARIABLE = re.compile(rb"(?m)(?:^|[\s;])(?:export\s+)?(QMAILQUEUE|QMAILREMOTE|RCPTCHECK|SPPCONFFILE|"
                              rb"REQUIRE_AUTH|SMTPAUTH|UCSPITLS|FORCETLS|SMTPS|NOSPP)=")  # fmt: skip
_IN_FRONT = {
    b"spamdyke": "stays in front, and goes on as it is", b"rblsmtpd": "stays in front, and goes on as it is",
    b"greetdelay": "stays in front, and goes on as it is", b"jgreylist": "stays in front, and goes on as it is",
    b"fixcrio": "stays in front, and goes on as it is", b"recordio": "stays in front, and goes on as it is",
    b"sslserver": "speaks TLS in front, and goes on as it is", b"authup": "stays in front, and goes on as it is",
    b"vchkpw": "is called by qmail-smtpd for AUTH, which ours does not know; for POP3 it goes on",
    b"mailfront": "takes mail in place of qmail-smtpd, and goes on",
}  # fmt: skip


def look_around(report: "Report", home: bytes, root: bytes, *, is_old: bool = False) -> None:
    """Adds the findings. What cannot be read is noted. `is_old`: C's programs here do not know QMAILQUEUE."""
    scripts = 0
    rules: dict[bytes, None] = {}
    for path in _scripts(home, root):
        text = _text_of(report, path)
        if text is not None and (_NAMES_QMAIL.search(text) or home in text):
            scripts += 1
            _look_at_script(report, path, text)
            _look_at_envdir(report, os.path.join(os.path.dirname(path), b"env"))
            rules.update((found, None) for found in _rules_named(text, home, root))
    if not scripts:
        report.add(UNKNOWN, "start", "scripts", "none found that names qmail: we do not know how this home is started")
    for pattern in RULES:
        rules.update((path, None) for path in sorted(glob.glob(os.path.join(root, pattern.encode()))))
    rules.update((path, None) for path in (os.path.join(home, b"control/tcp.smtp"),) if os.path.exists(path))
    sets = [path for path in rules if os.path.isfile(path) and "QMAILQUEUE" in _look_at_rules(report, path)]
    for path in sets if is_old else ():
        why = "sets QMAILQUEUE, which qmail 1.03 passes over and ours obeys: from now on that program runs"
        report.add(YOURS, "rules", path, why)


def _scripts(home: bytes, root: bytes) -> list[bytes]:
    """One path for each file, though several links lead to it."""
    found: dict[tuple[int, int], bytes] = {}
    places = [os.path.join(home, place.encode()) for place in HOME_PLACES]
    places += [os.path.join(root, place.encode()) for place in PLACES]
    for pattern in places:
        for path in sorted(glob.glob(pattern)):
            try:
                state = os.stat(path)
            except OSError:
                continue  # a link to nothing
            if stat.S_ISREG(state.st_mode):
                found.setdefault((state.st_dev, state.st_ino), path)
    return list(found.values())


def _text_of(report: "Report", path: bytes) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(_LOOK_BYTES)
    except OSError as error:
        report.unseen("start", path, error)
        return None


def _look_at_script(report: "Report", path: bytes, text: bytes) -> None:
    real = os.path.realpath(path)
    if real != path:
        report.add(DIFFERS, "start", path, f"symbolic links lead to {shown(real)}: followed")
    too_low = [limit for limit in memory_limits(text) if limit < MEMORY_BYTES]
    if too_low:
        report.add(
            YOURS, "start", path,
            f"allows {', '.join(map(str, too_low))} bytes of memory, too few for Python: make it {MEMORY_BYTES}",
        )  # fmt: skip
    else:
        report.add(SAME, "start", path, "works with our programs as it is")
    for program, what in _IN_FRONT.items():
        if re.search(rb"(?<![\w-])" + program + rb"(?![\w-])", _uncommented(text)):
            report.add(DIFFERS, "start", path, f"{program.decode()} {what}")
    for name in dict.fromkeys(_SCRIPT_VARIABLE.findall(_uncommented(text))):
        _say_variable(report, "start", path, name.decode())


def _uncommented(text: bytes) -> bytes:
    return b"\n".join(line for line in text.split(b"\n") if not line.lstrip().startswith(b"#"))


def memory_limits(text: bytes) -> list[int]:
    """The limits of memory, in bytes, that a script or unit sets. Pure."""
    text = _uncommented(text).replace(b"\\\n", b" ")
    found = [int(number[:20]) for options in _LIMIT.findall(text) for _, number in _LIMIT_OPTION.findall(options)]
    found += [int(number[:20]) * 1024 for number in _ULIMIT.findall(text)]
    scale = {b"": 1, b"K": 1024, b"M": 1024**2, b"G": 1024**3}
    return found + [int(number[:20]) * scale[unit] for number, unit in _UNIT_LIMIT.findall(text)]


def _look_at_envdir(report: "Report", directory: bytes) -> None:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        report.unseen("start", directory, error)
        return
    for name in names:
        _say_variable(report, "start", directory, shown(name))


def _rules_named(text: bytes, home: bytes, root: bytes) -> "Iterator[bytes]":
    """The rule files that tcpserver -x is given: the text beside the .cdb where there is one."""
    for path in re.findall(rb"-x\s*[\"']?(/[^\s\"']+)", text):
        place = path if path.startswith(home + b"/") else os.path.join(root, path.lstrip(b"/"))
        plain = place.removesuffix(b".cdb")
        for candidate in (plain, place):
            if os.path.isfile(candidate):
                yield candidate
                break


def _look_at_rules(report: "Report", path: bytes) -> dict[str, set[bytes]]:
    """Returns the variables as well."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LOOK_BYTES * 16)
    except OSError as error:
        report.unseen("rules", path, error)
        return {}
    variables = compiled_variables(data) if path.endswith(b".cdb") else rule_variables(data)
    for name, values in sorted(variables.items()):
        _say_variable(report, "rules", path, name, sorted(values) if name == "QMAILQUEUE" else ())
    if not variables:
        report.add(SAME, "rules", path, "sets no variable")
    return variables


def rule_variables(text: bytes) -> dict[str, set[bytes]]:
    """The variables that the text of tcprules(1) sets, with their values. What is no rule is passed over. Pure."""
    found: dict[str, set[bytes]] = {}
    for line in text.split(b"\n"):
        rest = line.rstrip(b" \t\r")
        if rest.startswith(b"#") or b":" not in rest:
            continue
        _, _, rest = rest.partition(b":")
        rest = rest.partition(b",")[1] + rest.partition(b",")[2] if rest.startswith(b"allow") else b""
        while rest.startswith(b","):
            name, equals, rest = rest[1:].partition(b"=")
            if not equals or not rest:
                break
            value, _, rest = rest[1:].partition(rest[:1])  # the first byte is the quote
            found.setdefault(shown(name), set()).add(value)
    return found


def compiled_variables(data: bytes) -> dict[str, set[bytes]]:
    """The same of a compiled one: a look for what looks like its records, not a reading of the whole format. Pure."""
    found: dict[str, set[bytes]] = {}
    for name, value in _COMPILED_VARIABLE.findall(data):
        found.setdefault(shown(name), set()).add(value)
    return found


def _say_variable(report: "Report", place: str, path: bytes, name: str, values: "list[bytes] | tuple[()]" = ()) -> None:
    known = fate_of_variable(name)
    where = f"{shown(path)} sets {name}" + (f" to {', '.join(shown(value) for value in values)}" if values else "")
    if known is None:
        report.add(UNKNOWN, place, where, "ours does not read it; it is handed on to every program")
    else:
        fate, decide = known
        report.add(YOURS if decide else SAME, place, where, fate)


_USERS = {
    "assign": "read by qmail-newu as by C", "cdb": "read as by C", "include": "read by qmail-pw2u as by C",
    "exclude": "read by qmail-pw2u as by C", "mailnames": "read by qmail-pw2u as by C",
    "subusers": "read by qmail-pw2u as by C", "append": "read by qmail-pw2u as by C", "poppasswd": "not opened here",
}  # fmt: skip


def look_at_users(report: "Report", home: bytes) -> None:
    """users/: each file of it. Raises OSError."""
    users = os.path.join(home, b"users")
    if os.path.islink(users):
        report.add(DIFFERS, "users", ".", f"is a symbolic link to {shown(os.readlink(users))}: followed")
    names = sorted(os.listdir(users)) if os.path.isdir(users) else []
    for raw in names:
        name = shown(raw)
        if name in _USERS:
            report.add(SAME, "users", name, _USERS[name])
        elif name.startswith("recipients"):
            report.add(YOURS, "users", name, "of the recipients extension: ours does not look addresses up in it")
        else:
            report.add(UNKNOWN, "users", name, "we have no idea what this is for; ours does not read it")
    if b"assign" in names and b"cdb" not in names:
        report.add(YOURS, "users", "assign", "was never compiled, so it is not in force: qmail-newu, if it should be")
    elif b"assign" in names and _is_newer(users, b"assign", b"cdb"):
        report.add(
            YOURS, "users", "assign", "is newer than cdb, so its changes are not in force: qmail-newu, if they should"
        )


def _is_newer(directory: bytes, one: bytes, other: bytes) -> bool:
    return os.stat(os.path.join(directory, one)).st_mtime > os.stat(os.path.join(directory, other)).st_mtime
