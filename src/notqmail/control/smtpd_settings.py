"""qmail-smtpd's control files as one value (qmail-smtpd(8), CONTROL FILES). Pure: `read` is passed in."""

from notqmail.control.files import Missing, entries, leading_digits, line_or_me, name_set, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.control.files import ReadControl

FILES = (
    "me", "smtpgreeting", "localiphost", "timeoutsmtpd", "rcpthosts", "badmailfrom", "databytes", "maxrcpt",
    "morercpthosts.cdb",
)  # fmt: skip
TIMEOUT_S = 1200
RECIPIENTS_MAX = 50_000  # qmail has no limit; 100 is the least a server may have (RFC 5321 4.5.3.1.8)


class SmtpdSettings:
    """What the control files say.

    `local_ip_host` None: addresses at [our own IP] stay as they are. `rcpthosts` None: mail for every host is
    accepted. `databytes` 0: no limit.
    """

    __slots__ = (
        "badmailfrom", "databytes", "greeting", "local_ip_host", "rcpthosts", "recipients_max", "timeout_s",
    )  # fmt: skip

    def __init__(
        self, greeting: bytes, *, local_ip_host: bytes | None = None, timeout_s: int = TIMEOUT_S,
        rcpthosts: frozenset[bytes] | None = None, badmailfrom: frozenset[bytes] = frozenset(),
        databytes: int = 0, recipients_max: int = RECIPIENTS_MAX,
    ) -> None:  # fmt: skip
        self.greeting, self.local_ip_host, self.timeout_s = greeting, local_ip_host, timeout_s
        self.rcpthosts, self.badmailfrom = rcpthosts, badmailfrom
        self.databytes, self.recipients_max = databytes, recipients_max


def smtpd_settings(read: "ReadControl") -> SmtpdSettings:
    """Reads them all. Raises Missing (neither smtpgreeting nor me) and whatever `read` raises."""
    rcpthosts = entries(read, "rcpthosts")
    return SmtpdSettings(
        line_or_me(read, "smtpgreeting"),
        local_ip_host=_line_or_me_or_none(read, "localiphost"),
        timeout_s=max(1, number(read, "timeoutsmtpd", TIMEOUT_S)),
        rcpthosts=None if rcpthosts is None else name_set(rcpthosts),
        badmailfrom=name_set(entries(read, "badmailfrom") or []),
        databytes=number(read, "databytes", 0),
        recipients_max=max(1, number(read, "maxrcpt", RECIPIENTS_MAX)),
    )


def _line_or_me_or_none(read: "ReadControl", name: str) -> bytes | None:
    try:
        return line_or_me(read, name)
    except Missing:
        return None


def databytes_limit(settings: SmtpdSettings, environment_value: bytes | None) -> int:
    """The limit of a connection: $DATABYTES, where it is set, wins; one without a number means no limit."""
    if environment_value is None:
        return settings.databytes
    return leading_digits(environment_value) or 0
