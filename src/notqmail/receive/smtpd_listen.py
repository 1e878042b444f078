"""qmail-smtpd as a resident: many clients in one process, each with a `smtpd.Session` (qmail-smtpd(8), --listen).

What is peculiar to SMTP: the control files, as they are at the moment of a connection, and the refusals. The rest is
`receive.listen`.
"""

from notqmail.control.smtpd_settings import FILES, smtpd_settings
from notqmail.policy.limits import SESSION_MAX_S
from notqmail.policy.relay import more_hosts
from notqmail.receive import listen
from notqmail.receive.fresh import FreshSettings
from notqmail.receive.service import Service
from notqmail.receive.smtpd import Session, World
from notqmail.unix.own_addresses import own_addresses
from notqmail.wire.smtp_server import BUSY, NO_CONTROLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from notqmail.policy.limits import EnvelopeBytes
    from notqmail.receive.listen_options import ListenOptions
    from notqmail.receive.service import OpenSink
    from notqmail.unix.clock import Clock


def run(home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock", options: "ListenOptions") -> int:
    """Listens until SIGTERM. Exit code 0 then, 111 when it could not begin."""
    return listen.run(home, environ, clock, options, smtp_service(home, clock))


def smtp_service(home: bytes, clock: "Clock") -> Service:
    """SMTP as `receive.listen` serves it."""
    settings, knows_host = FreshSettings(home, clock, FILES, smtpd_settings), more_hosts(home)

    def open_session(
        environ: "Mapping[bytes, bytes]", open_sink: "OpenSink", envelopes: "EnvelopeBytes"
    ) -> tuple[Session, int]:
        current = settings.current()
        world = World(clock, open_sink, knows_host, own_addresses, envelopes)
        return Session(current, environ, world), current.timeout_s

    return Service(
        "qmail-smtpd", open_session, session_max_s=SESSION_MAX_S, busy=BUSY.plain, no_controls=NO_CONTROLS.plain
    )
