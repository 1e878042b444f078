"""The text of a `.qmail` file -> delivery instructions, and which file an address is looked up in (dot-qmail(5)).

Pure. Who reads the files, in which directory and with whose rights is `deliver/local_plan.py`'s matter.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MBOX, MAILDIR, PROGRAM, FORWARD = b"mbox", b"maildir", b"program", b"forward"  # the words of `qmail-local -n`
REFUSED = b"refused"  # not a delivery: the run ends here, temporarily, with this text

_BLANK_FIRST_LINE = b"Uh-oh: first line of .qmail file is blank. (#4.2.1)"
_FILE_WITH_X_BIT = b"Uh-oh: .qmail has file delivery but has x bit set. (#4.7.0)"
_PROGRAM_WITH_X_BIT = b"Uh-oh: .qmail has prog delivery but has x bit set. (#4.7.0)"
_DEFAULT = b"default"


def safe_extension(ext: bytes) -> bytes:
    """The extension as it appears in file names: lower case, dots as colons (so no `..` leaves the directory)."""
    return ext.lower().replace(b".", b":")


def candidates(dash: bytes, ext: bytes) -> "Iterator[tuple[bytes, int | None]]":
    """File names to try, in order, each with where in `ext` the part begins that `default` stands for, or None.

    dash `-`, ext `a-b`: `.qmail-a-b`, `.qmail-a-default`, `.qmail-default`. The bare user (both empty) has
    `.qmail` and then, also in C, `.qmaildefault`.
    """
    safe = safe_extension(ext)
    start = b".qmail" + dash
    yield start + safe, len(safe) - len(_DEFAULT) if safe.endswith(_DEFAULT) else None
    end = len(safe)
    while end >= 0:
        if end == 0 or safe[end - 1] == 0x2D:
            yield start + safe[:end] + _DEFAULT, end
        end = safe.rfind(b"-", 0, end - 1) + 1 if end > 0 else -1


def instructions(text: bytes, *, forward_only: bool = False) -> list[tuple[bytes, bytes]]:
    """The (kind, argument) steps in order; comments and later blank lines are gone.

    `forward_only` is the file's x bit; a line `+list` sets it from there on. What may then not be done is a
    REFUSED step at its place, for what stands before it is still carried out. A line is cut at a NUL.
    """
    if text[-1:] != b"\n":
        text += b"\n"
    steps: list[tuple[bytes, bytes]] = []
    for number, whole in enumerate(text.split(b"\n")[:-1]):
        line = whole.partition(b"\0")[0].rstrip(b" \t")
        first = line[:1]
        if not line:
            if number == 0:
                return [(REFUSED, _BLANK_FIRST_LINE)]
        elif first == b"#":
            continue
        elif first in (b".", b"/"):
            kind = MAILDIR if line[-1:] == b"/" else MBOX
            steps.append((REFUSED, _FILE_WITH_X_BIT) if forward_only else (kind, line))
        elif first == b"|":
            steps.append((REFUSED, _PROGRAM_WITH_X_BIT) if forward_only else (PROGRAM, line[1:]))
        elif first == b"+":
            forward_only = forward_only or line == b"+list"
        else:
            steps.append((FORWARD, line[1:] if first == b"&" else line))
    return steps
