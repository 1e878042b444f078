"""qmail-qmqpd's two faces: one client on descriptors 0 and 1, or --listen (qmail-qmqpd(8)). One session for both."""

import os

from notqmail.receive import one_client
from notqmail.receive.package_session import DONE, SESSION_MAX_S, UNABLE, World
from notqmail.receive.qmqpd import Session
from notqmail.unix.mains import PERMANENT, complain
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
    except OSError:
        return UNABLE

    session = Session(environ, World(clock, one_client.sink_opener(home, environ)))
    client = Peer(read_fd, write_fd, SESSION_MAX_S)
    return one_client.converse(
        session, clock, client, session_max_s=SESSION_MAX_S, gone_code=DONE, silent_code=UNABLE
    )  # fmt: skip


def listen(home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock", options: "ListenOptions") -> int:
    """Listens until SIGTERM. Exit code 0 then, 111 when it could not begin, 100 where anybody could relay."""
    from notqmail.receive import listen as listening

    if options.rules is None and not all(_is_loopback(address) for address, _ in options.addresses):
        complain("qmail-qmqpd: usage: --rules FILE.cdb is needed: QMQP takes mail to anywhere from whoever may connect")
        return PERMANENT
    return listening.run(home, environ, clock, options, qmqp_service(clock))


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")


def qmqp_service(clock: "Clock") -> "Service":
    """QMQP as `receive.listen` serves it."""
    from notqmail.receive.service import Service

    def open_session(
        environ: "Mapping[bytes, bytes]", open_sink: "OpenSink", envelopes: "EnvelopeBytes"
    ) -> tuple[Session, int]:
        return Session(environ, World(clock, open_sink, envelopes)), SESSION_MAX_S

    return Service("qmail-qmqpd", open_session, session_max_s=SESSION_MAX_S)
