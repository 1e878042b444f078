"""preline(1): a program gets the message with the lines on top that mailbox programs look for."""

from notqmail.unix.errors import is_temporary
from notqmail.unix.feeding import feed
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import PERMANENT, TEMPORARY
from notqmail.unix.options import BadOption, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

USAGE = b"preline: usage: preline cmd [ arg ... ]"
_LINES = {b"f": b"UFLINE", b"r": b"RPLINE", b"d": b"DTLINE"}  # in their order; the letter leaves one out


def preline(words: "Sequence[bytes]", *, environ: "Mapping[bytes, bytes]") -> int:
    """The program's exit code. Raises Leaving."""
    lines = {letter: environ.get(name) for letter, name in _LINES.items()}
    if None in lines.values():
        raise Leaving(PERMANENT, USAGE)
    options = Options(words, flags=b"frdFRD")
    try:
        wanted = dict.fromkeys(lines, True)
        for letter, _ in options:
            wanted[letter.lower()] = letter.isupper()
    except BadOption as bad:
        raise Leaving(PERMANENT, b"preline: " + str(bad).encode("latin-1") + b"\n" + USAGE) from None
    if not options.rest:
        raise Leaving(PERMANENT, USAGE)
    head = b"".join([line or b"" for letter, line in lines.items() if wanted[letter]])
    return feed(
        options.rest, environ, lambda: head, fatal=b"preline: fatal: ",
        code_when_not_run=lambda error: TEMPORARY if is_temporary(error) else PERMANENT,
    )  # fmt: skip
