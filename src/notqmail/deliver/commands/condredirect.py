"""condredirect(1): the message goes to another address, and nowhere else, when a program says so."""

import os

from notqmail.deliver.commands.condition import holds
from notqmail.deliver.commands.resend import required, resend
from notqmail.unix.errors import error_text
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import PERMANENT, TEMPORARY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

USAGE = b"condredirect: usage: condredirect newaddress program [ arg ... ]"
FATAL = b"condredirect: fatal: "
REDIRECTED = 99  # qmail-local(8): success, and the lines below are skipped


def condredirect(words: "Sequence[bytes]", *, home: bytes, environ: "Mapping[bytes, bytes]") -> int | None:
    """The number to print as `qp`, or None when the program said no. Raises Leaving.

    The sender stays $SENDER: it is a redirection, not a forward, and bounces go to the author.
    """
    if len(words) < 2:
        raise Leaving(PERMANENT, USAGE)
    new_address, *program = words
    if not holds(program, environ, fatal=FATAL):
        return None
    try:
        os.lseek(0, 0, os.SEEK_SET)  # the program may have read the message
    except OSError as error:
        raise Leaving(TEMPORARY, FATAL + b"unable to rewind: " + error_text(error)) from None
    sender = required(environ, b"SENDER", fatal=FATAL)
    dtline = required(environ, b"DTLINE", fatal=FATAL)
    return resend(sender, [new_address], dtline=dtline, home=home, environ=environ, fatal=FATAL)
