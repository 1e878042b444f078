"""qmail-smtpd for one client on two descriptors, as tcpserver, inetd and sslserver start it. Blocking, with time-outs.

The session is `smtpd.Session`, `one_client` carries the bytes; here are the settings and the start-up failures.
"""

import os

from notqmail.control.files import Missing
from notqmail.control.smtpd_settings import smtpd_settings
from notqmail.policy.limits import SESSION_MAX_S
from notqmail.policy.relay import check_more_hosts, more_hosts
from notqmail.receive import one_client
from notqmail.receive.smtpd import FAILED, Session, World
from notqmail.unix.controls import Unreadable, control_reader
from notqmail.unix.peer import Gone, Peer, Silent
from notqmail.wire.smtp_server import NO_CONTROLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from notqmail.control.smtpd_settings import SmtpdSettings
    from notqmail.unix.clock import Clock


def run(home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock", read_fd: int = 0, write_fd: int = 1) -> int:
    """One session from greeting to end; the exit code is 0 after QUIT and 1 otherwise (qmail-smtpd(8))."""
    try:
        os.chdir(home)  # what the queue's program is given as relative paths means from here
        settings = smtpd_settings(control_reader(home))
        check_more_hosts(home)
    except (OSError, Missing, Unreadable):
        return _refuse(write_fd)
    return converse(Session(settings, environ, _world(home, environ, clock)), settings, clock, read_fd, write_fd)


def converse(session: Session, settings: "SmtpdSettings", clock: "Clock", read_fd: int, write_fd: int) -> int:
    """Carries bytes between the client and the session until one of them ends it, or SESSION_MAX_S have passed."""
    return one_client.converse(
        session, clock, Peer(read_fd, write_fd, settings.timeout_s),
        session_max_s=SESSION_MAX_S, gone_code=FAILED, silent_code=FAILED,
    )  # fmt: skip


def _refuse(write_fd: int) -> int:
    try:
        Peer(0, write_fd, 60).write(NO_CONTROLS.plain)
    except (Gone, Silent):
        pass  # nobody to tell
    return FAILED


def _world(home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock") -> World:
    def addresses() -> frozenset[bytes]:
        from notqmail.unix.own_addresses import own_addresses

        return own_addresses()

    return World(clock, one_client.sink_opener(home, environ), more_hosts(home), addresses)
