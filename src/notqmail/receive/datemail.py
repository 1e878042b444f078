"""datemail(1): predate in front of sendmail, both of this home; the arguments are sendmail's."""

import os

from notqmail.receive.predate import predate
from notqmail.unix.errors import error_text
from notqmail.unix.launchers import is_ours
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import TEMPORARY
from notqmail.unix.named_programs import become_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from notqmail.unix.clock import Clock


def datemail(
    words: "Sequence[bytes]", *, home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock",
    zone_s: "Callable[[int], int]",
) -> int:  # fmt: skip
    """Sendmail's exit code. Somebody else's HOME/bin/predate is run; ours needs no second start. Raises Leaving."""
    program = os.path.join(home, b"bin/predate")
    command = [os.path.join(home, b"bin/sendmail"), *words]
    if os.path.exists(program) and not is_ours(program):
        try:
            become_program([program, *command], environ)
        except OSError as error:
            raise Leaving(TEMPORARY, b"datemail: fatal: unable to run predate: " + error_text(error)) from None
    return predate(command, environ=environ, clock=clock, zone_s=zone_s)
