"""Dialogues as data: `C:` what the client says, `S:` what it must hear. Played on a pure session or a real process.

A transcript is lines of text (tests/transcripts/*.smtp):

    # a comment
    @control NAME text        a control file; `\\n` for more lines
    @env NAME=value           a variable of the connection
    @queue K                  how the queue answers (`D text`, `Z text`); `none`: it cannot be started
    @note text                which program the dialogue is for; a player may skip others
    C: EHLO client.test       one line, CRLF is added
    c: raw\\x00bytes\\r\\n       bytes as written, with backslash escapes, nothing added
    S: 250 ok <time> qp <qp>  one line of the answer, without its CRLF; <time> and <qp> stand for any number
    Q: a@b > c@d <>           the next message that was queued: sender and recipients, `<>` an empty one
    M: text                   one line of that message behind its Received lines, escapes as in `c:`
    closed 1                  the server ends the connection; the number is the one-shot program's exit code

Consecutive lines of one kind are one step. A parser error names the line.
"""

import re
from dataclasses import dataclass, field

_STAND_FOR_NUMBERS = re.compile(rb"<time>|<qp>")


class BadTranscript(Exception):
    """str() says which line and why."""


@dataclass
class Queued:
    """A message that must be in the queue: `text` is None where the transcript does not say."""

    sender: bytes
    recipients: list[bytes]
    text: bytes | None = None


@dataclass
class Step:
    """`kind` is one of `say` and `hear` (bytes), `queued` (a Queued), `closed` (an exit code)."""

    kind: str
    data: bytes = b""
    queued: Queued | None = None
    exit_code: int = 0


@dataclass
class Transcript:
    """One dialogue."""

    controls: dict[str, bytes] = field(default_factory=dict)
    environ: dict[bytes, bytes] = field(default_factory=dict)
    queue: str = "K"
    notes: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


def parse_transcript(text: str) -> Transcript:
    """Raises BadTranscript."""
    found = Transcript()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            _add_line(found, line)
        except (ValueError, IndexError) as error:
            raise BadTranscript(f"line {number}: {line!r}: {error}") from error
    return found


def _add_line(found: Transcript, line: str) -> None:
    mark, _, rest = line.partition(" ")
    if mark == "@control":
        name, _, value = rest.partition(" ")
        found.controls[name] = unescape(value) + b"\n"
    elif mark == "@env":
        name, _, value = rest.partition("=")
        found.environ[name.encode()] = unescape(value)
    elif mark == "@queue":
        found.queue = rest
    elif mark == "@note":
        found.notes.append(rest)
    elif mark in ("C:", "c:"):
        _extend(found, "say", unescape(rest) if mark == "c:" else rest.encode() + b"\r\n")
    elif mark == "S:":
        _extend(found, "hear", rest.encode() + b"\r\n")
    elif mark == "Q:":
        sender, arrow, recipients = rest.partition(">")
        if not arrow:
            raise ValueError("no >")
        queued = Queued(unescape(sender.strip()), [b"" if one == "<>" else unescape(one) for one in recipients.split()])
        found.steps.append(Step("queued", queued=queued))
    elif mark == "M:":
        last = found.steps[-1].queued
        if last is None:
            raise ValueError("M: without Q:")
        last.text = (last.text or b"") + unescape(rest) + b"\n"
    elif mark == "closed":
        found.steps.append(Step("closed", exit_code=int(rest)))
    else:
        raise ValueError("unknown kind of line")


def _extend(found: Transcript, kind: str, data: bytes) -> None:
    if not found.steps or found.steps[-1].kind != kind:
        found.steps.append(Step(kind))
    found.steps[-1].data += data


def unescape(text: str) -> bytes:
    """Backslash escapes as in a Python bytes literal."""
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")


def is_heard(expected: bytes, heard: bytes) -> bool:
    """Whether these are the words, numbers aside."""
    pattern = rb"[0-9]+".join(map(re.escape, _STAND_FOR_NUMBERS.split(expected)))
    return re.fullmatch(pattern, heard) is not None
