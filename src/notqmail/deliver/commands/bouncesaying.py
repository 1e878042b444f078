"""bouncesaying(1): the message bounces with a given text, always or when a program says so."""

from notqmail.deliver.commands.condition import holds
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import PERMANENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

USAGE = b"bouncesaying: usage: bouncesaying error [ program [ arg ... ] ]"


def bouncesaying(words: "Sequence[bytes]", *, environ: "Mapping[bytes, bytes]") -> None:
    """Returns when the program says no. Raises Leaving: 100 and the text, or 111 when it does not know."""
    if not words:
        raise Leaving(PERMANENT, USAGE)
    text, *program = words
    if not program or holds(program, environ, fatal=b"bouncesaying: fatal: "):
        raise Leaving(PERMANENT, text)
