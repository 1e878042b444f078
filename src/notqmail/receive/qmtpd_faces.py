"""qmail-qmtpd's two faces: one client on descriptors 0 and 1, or --listen (qmail-qmtpd(8)). One session for both."""

import os

from notqmail.control.qmtpd_settings import FILES, qmtpd_settings
from notqmail.policy.relay import check_more_hosts, more_hosts
from notqmail.receive import one_client
from notqmail.receive.package_session import DONE, SESSION_MAX_S, UNABLE, World
from notqmail.receive.qmtpd import Session
from notqmail.unix.controls import Unreadable, control_reader
from notqmail.unix.peer import Peer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from notqmail.policy.limits import EnvelopeBytes
    from notqmail.receive.listen_options import ListenOptions
    from notqmail.receive.service import OpenSink, Service
    from notqmail.unix.clock import Clock


def once(home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock", read_fd: int = 0, write_fd: int = 1) -> int:
    """One session; returns the exit code."""
    try:
        os.chdir(home)  # what the queue's program is given as relative paths means from here
        settings = qmtpd_settings(control_reader(home))
        check_more_hosts(home)
    except (OSError, Unreadable):
        return UNABLE

    session = Session(settings, environ, World(clock, one_client.sink_opener(home, environ)), more_hosts(home))
    client = Peer(read_fd, write_fd, SESSION_MAX_S)
    return one_client.converse(
        session, clock, client, session_max_s=SESSION_MAX_S, gone_code=DONE, silent_code=UNABLE
    )  # fmt: skip


def listen(home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock", options: "ListenOptions") -> int:
    """Listens until SIGTERM. Exit code 0 then, 111 when it could not begin."""
    from notqmail.receive import listen as listening

    return listening.run(home, environ, clock, options, qmtp_service(home, clock))


def qmtp_service(home: bytes, clock: "Clock") -> "Service":
    """QMTP as `receive.listen` serves it."""
    from notqmail.receive.fresh import FreshSettings
    from notqmail.receive.service import Service

    settings, knows_host = FreshSettings(home, clock, FILES, qmtpd_settings), more_hosts(home)

    def open_session(
        environ: "Mapping[bytes, bytes]", open_sink: "OpenSink", envelopes: "EnvelopeBytes"
    ) -> tuple[Session, int]:
        return Session(settings.current(), environ, World(clock, open_sink, envelopes), knows_host), SESSION_MAX_S

    return Service("qmail-qmtpd", open_session, session_max_s=SESSION_MAX_S)
