"""Where the mail system lives: one directory with `bin control queue users alias run`.

qmail compiles it in (conf-qmail). Here $QMAILHOME names it; the launchers in HOME/bin set that variable to
their own home when it is not set, so a cron job or a `.qmail` line needs no environment.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_HOME = b"/var/qmail"


def home_directory(environ: "Mapping[bytes, bytes]") -> bytes:
    """The home, an absolute path without a trailing slash."""
    return environ.get(b"QMAILHOME", DEFAULT_HOME).rstrip(b"/") or DEFAULT_HOME
