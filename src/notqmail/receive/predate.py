"""predate(1) and datemail(1): a Date field in the local time zone on top of a message, for a program that sends it."""

from notqmail.message.dates import local_header_date
from notqmail.unix.feeding import feed
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import PERMANENT, TEMPORARY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from notqmail.unix.clock import Clock

USAGE = b"predate: usage: predate child"


def predate(
    words: "Sequence[bytes]", *, environ: "Mapping[bytes, bytes]", clock: "Clock", zone_s: "Callable[[int], int]"
) -> int:
    """The program's exit code. `zone_s` says how far east of Greenwich we are at a time. Raises Leaving."""
    if not words:
        raise Leaving(PERMANENT, USAGE)

    def date_field() -> bytes:
        now_s = clock.now_s()
        return b"Date: " + local_header_date(now_s, zone_s(now_s)) + b"\n"

    return feed(words, environ, date_field, fatal=b"predate: fatal: ", code_when_not_run=lambda _error: TEMPORARY)
