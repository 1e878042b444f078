"""A session for one client on two descriptors, as tcpserver, inetd and sslserver start it. Blocking, with time-outs.

The sessions are `smtpd.Session`, `qmtpd.Session` and `qmqpd.Session`; here is the patience.
"""

from notqmail.unix.peer import Gone, Peer, Silent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from notqmail.queue.client import ProgramSubmission, SocketSubmission
    from notqmail.receive.service import Session
    from notqmail.unix.clock import Clock


def converse(
    session: "Session", clock: "Clock", client: Peer, *, session_max_s: int, gone_code: int, silent_code: int
) -> int:
    """Carries bytes between the client and the session until one of them ends it; returns the exit code.

    `session_max_s` after its begin a session is over at the next byte of the client. `gone_code` is for a client that
    vanished, `silent_code` for one that does not read what it is told.
    """
    end_s = clock.steady_s() + session_max_s
    try:
        client.write(session.greet())
        while session.exit_code is None:
            try:
                data = client.read()
                if clock.steady_s() > end_s:
                    raise Silent
            except Silent:
                client.write(session.time_out())
                break
            client.write(session.receive(data))
    except Gone:
        session.vanish()
        return gone_code
    except Silent:
        session.vanish()
        return silent_code
    return silent_code if session.exit_code is None else session.exit_code


def sink_opener(home: bytes, environ: "Mapping[bytes, bytes]") -> "Callable[[], ProgramSubmission | SocketSubmission]":
    """How the session opens the way to the queue for a message; the call raises OSError."""

    def open_sink() -> "ProgramSubmission | SocketSubmission":
        from notqmail.queue.client import open_submission  # here, for many sessions bring no message

        return open_submission(home, environ)

    return open_sink
