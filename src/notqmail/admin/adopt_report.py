"""What `notqmail adopt` has found out, and how it is shown: findings in four groups, counts, an exit code.

    same                 ours do with it what C does
    differs              ours do something else, and nobody has to do anything
    not known            we cannot say what it is for: somebody has to
    must be done by you  settled by a person, before or after

Contents of files are never in a finding, only names, numbers and the paths of programs.
"""

import json
import os

from notqmail.admin.command_line import counted

SAME, DIFFERS, UNKNOWN, YOURS = "same", "differs", "not known", "must be done by you"
GROUPS = (SAME, DIFFERS, UNKNOWN, YOURS)
NOTHING_IN_THE_WAY, TO_DECIDE, NO_HOME, TROUBLE = 0, 1, 2, 111
_WIDTH = 118


class Finding:
    """One thing: `place` is control, bin, queue and so on, `name` what in it. `blocks`: --apply refuses."""

    __slots__ = ("blocks", "group", "name", "place", "text")

    def __init__(self, group: str, place: str, name: str, text: str, blocks: bool = False) -> None:
        self.group, self.place, self.name, self.text, self.blocks = group, place, name, text, blocks


class Report:
    """All findings of one look at a home. `kind` says what it looks like; `is_whole` is False when something that
    should have been looked at could not be.
    """

    def __init__(self, home: bytes) -> None:
        self.home, self.kind = home, ""
        self.findings: list[Finding] = []
        self.plan: list[tuple[str, str]] = []  # what is done, and to which path
        self.is_whole = True

    def add(self, group: str, place: str, name: bytes | str, text: str, *, blocks: bool = False) -> None:
        """Notes a finding; `name` as it is on the disk."""
        self.findings.append(Finding(group, place, shown(name), text, blocks))

    def unseen(self, place: str, name: bytes | str, error: OSError) -> None:
        """Notes something that could not be looked at: the exit code will be TROUBLE."""
        self.is_whole = False
        self.add(UNKNOWN, place, name, f"could not be looked at: {error.strerror or error}")

    def of(self, group: str) -> list[Finding]:
        """The findings of a group, in the order they were made."""
        return [finding for finding in self.findings if finding.group == group]

    @property
    def blocking(self) -> list[Finding]:
        """What --apply refuses for."""
        return [finding for finding in self.findings if finding.blocks]

    @property
    def exit_code(self) -> int:
        """What the command ends with: see notqmail(8)."""
        if not self.is_whole:
            return TROUBLE
        return TO_DECIDE if self.of(UNKNOWN) or self.of(YOURS) else NOTHING_IN_THE_WAY


def shown(name: bytes | str) -> str:
    """A name for a terminal: whatever is not plain ASCII is escaped."""
    raw = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}" for byte in raw)


def as_text(report: Report) -> str:
    """For a person."""
    lines = [f"{shown(os.fsdecode(report.home))}: {report.kind}"]
    for group in GROUPS:
        findings = report.of(group)
        lines += ["", f"{group} ({len(findings)})"]
        for (place, text), names in _together(findings).items():
            lines += _wrapped(f"{place}: {', '.join(names)}: {text}")
    lines += ["", f"what --apply would do ({counted(len(report.plan), 'step')})"]
    for what in dict.fromkeys(what for what, _ in report.plan):
        lines += _wrapped(f"{what}: {', '.join(path for verb, path in report.plan if verb == what)}")
    if report.blocking:
        lines += ["", f"--apply refuses, for {len(report.blocking)} of these:"]
        for finding in report.blocking:
            lines += _wrapped(f"{finding.place}: {finding.name}: {finding.text}")
    return "\n".join([*lines, ""])


def _together(findings: list[Finding]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for finding in findings:
        found.setdefault((finding.place, finding.text), []).append(finding.name)
    return found


def _wrapped(text: str) -> list[str]:
    lines, line = [], " "
    for word in text.split(" "):
        if len(line) + len(word) >= _WIDTH and line.strip():
            lines.append(line)
            line = "   "
        line += " " + word
    return [*lines, line]


def as_json(report: Report) -> str:
    """For a program: the same, one object."""
    return json.dumps(
        {
            "home": shown(report.home),
            "kind": report.kind,
            "exit": report.exit_code,
            "counts": {group: len(report.of(group)) for group in GROUPS},
            "findings": [
                {
                    "group": finding.group, "place": finding.place, "name": finding.name, "text": finding.text,
                    "blocks": finding.blocks,
                }
                for finding in report.findings
            ],
            "plan": [{"do": what, "path": path} for what, path in report.plan],
        },
        indent=1,
    )  # fmt: skip
