"""except(1): a program's answer the other way round, for bouncesaying, condredirect and `.qmail` lines."""

from notqmail.deliver.commands.condition import holds
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import PERMANENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

USAGE = b"except: usage: except program [ arg ... ]"


def except_(words: "Sequence[bytes]", *, environ: "Mapping[bytes, bytes]") -> int:
    """100 when the program exits 0, else 0. Raises Leaving with 111 when it does not know."""
    if not words:
        raise Leaving(PERMANENT, USAGE)
    return PERMANENT if holds(words, environ, fatal=b"except: fatal: ") else 0
