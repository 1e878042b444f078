"""What qmail-send reads from HOME/control at its start (qmail-send(8)). Pure: `read` is passed in."""

from notqmail.control.files import line_or, line_or_me, number
from notqmail.control.rewrite import Routing, routing_from_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    ReadControl = Callable[[str], bytes | None]


class SendSettings:
    """The values; all but `routing` stay until a restart."""

    __slots__ = (
        "bounce_from", "bounce_host", "concurrency_host", "concurrency_local", "concurrency_remote",
        "concurrency_slow", "double_bounce_recipient", "lifetime_s", "routing",
    )  # fmt: skip

    def __init__(self, read: "ReadControl") -> None:
        """Raises Missing (no `locals` and no `me`), and what `read` raises."""
        self.routing: Routing = routing_from_controls(read)
        self.lifetime_s = number(read, "queuelifetime", 604_800)
        self.concurrency_local = number(read, "concurrencylocal", 10)
        self.concurrency_remote = number(read, "concurrencyremote", 20)
        self.concurrency_slow = number(read, "concurrencyslow", 0)
        self.concurrency_host = number(read, "concurrencyhost", 20)
        self.bounce_from = line_or(read, "bouncefrom", b"MAILER-DAEMON")
        self.bounce_host = line_or_me(read, "bouncehost", b"bouncehost")
        self.double_bounce_recipient = b"%b@%b" % (
            line_or(read, "doublebounceto", b"postmaster"),
            line_or_me(read, "doublebouncehost", b"doublebouncehost"),
        )
