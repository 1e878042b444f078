"""forward(1): the message goes on to other addresses, as `&address` lines of a `.qmail` would send it."""

from notqmail.deliver.commands.resend import required, resend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FATAL = b"forward: fatal: "


def forward(recipients: "Sequence[bytes]", *, home: bytes, environ: "Mapping[bytes, bytes]") -> int:
    """Sends it on from $NEWSENDER; returns the number to print as `qp`. Raises Leaving.

    No recipients is legal: the queue takes the message and has nothing to do.
    """
    sender = required(environ, b"NEWSENDER", fatal=FATAL)
    dtline = required(environ, b"DTLINE", fatal=FATAL)
    return resend(sender, recipients, dtline=dtline, home=home, environ=environ, fatal=FATAL)
