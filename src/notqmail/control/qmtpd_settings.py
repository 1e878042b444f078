"""qmail-qmtpd's control files as one value (qmail-qmtpd(8), CONTROL FILES). Pure: `read` is passed in.

The same as qmail-smtpd's, as far as QMTP has use for them; no name of this host is needed.
"""

from notqmail.control.files import entries, name_set, number
from notqmail.control.smtpd_settings import RECIPIENTS_MAX, SmtpdSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.control.files import ReadControl

FILES = ("rcpthosts", "databytes", "maxrcpt", "morercpthosts.cdb")


def qmtpd_settings(read: "ReadControl") -> SmtpdSettings:
    """Reads them. Raises what `read` raises."""
    rcpthosts = entries(read, "rcpthosts")
    return SmtpdSettings(
        b"",
        rcpthosts=None if rcpthosts is None else name_set(rcpthosts),
        databytes=number(read, "databytes", 0),
        recipients_max=max(1, number(read, "maxrcpt", RECIPIENTS_MAX)),
    )
