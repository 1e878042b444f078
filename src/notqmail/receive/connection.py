"""One connection of a listening resident: between asyncio's callbacks and a session (`service.Session`).

At most one write for each piece of input. Reading pauses while the client does not take our answers, or while it
sends much ahead of an answer from the queue, so that a connection's memory stays bounded.
"""

import asyncio

from notqmail.control.files import Missing
from notqmail.queue.spool import SpooledMessage
from notqmail.unix.cdb import Damaged
from notqmail.unix.controls import Unreadable
from notqmail.wire import queue_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.receive.server import Server
    from notqmail.receive.service import Session
    from notqmail.wire.reports import Report

KEPT_BYTES_MAX = 65_536  # sent ahead of the queue's answer
REFUSED_TIMEOUT_S = 10.0  # for a client that was refused to take its refusal


class Client(asyncio.Protocol):
    """See server.Connected. After `timeout_s` of nothing, and after the service's `session_max_s` in any case,
    `was_silent`."""

    __slots__ = (
        "_address", "_admitted", "_at_end", "_environ", "_held_for_queue", "_held_for_writing", "_here", "_server",
        "_session", "_transport", "active_s", "began_s", "timeout_s",
    )  # fmt: skip

    _transport: asyncio.Transport

    def __init__(self, server: "Server", here: "tuple[str, int] | None" = None) -> None:
        """`here` is our own address and port where the listener is bound to one address; None: to be asked for."""
        self._server, self._here = server, here
        self._session: Session | None = None
        self._address = ""
        self._environ: dict[bytes, bytes] = {}
        self._admitted = False
        self._at_end = False  # the client sends no more, but waits for an answer
        self._held_for_writing = self._held_for_queue = False
        self.active_s, self.began_s, self.timeout_s = 0.0, 0.0, REFUSED_TIMEOUT_S

    # -- asyncio calls --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The session begins, or is refused."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass, but has all of it
        server = self._server
        self.active_s = self.began_s = server.loop.time()
        server.joined(self)
        peer, here = transport.get_extra_info("peername"), self._here or transport.get_extra_info("sockname")
        if not peer or not here:  # it has gone already
            self._transport.abort()
            return
        self._address = address = peer[0]
        if not server.limits.admit(address):
            whose = "" if server.limits.is_full else " from this address"
            self._refuse(server.service.busy, f"too many connections{whose}")
            return
        self._admitted = True
        self._environ = environ = {
            **server.environ,
            b"TCPREMOTEIP": address.encode(), b"TCPREMOTEPORT": b"%d" % peer[1],
            b"TCPLOCALIP": here[0].encode(), b"TCPLOCALPORT": b"%d" % here[1],
        }  # fmt: skip
        try:
            if server.rules is not None:
                verdict = server.rules.look_up(environ[b"TCPREMOTEIP"])
                if verdict.denied:
                    server.log(f"{address}: denied by the rules")
                    self._transport.abort()
                    return
                environ.update(verdict.environment)
            session, self.timeout_s = server.service.open_session(environ, self._open_sink, server.envelopes)
        except (OSError, Damaged, Missing, Unreadable) as error:
            self._refuse(server.service.no_controls, f"unable to read rules or controls: {error}")
            return
        self._session = session
        self._transport.write(session.greet())

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        session = self._session
        if session is None:
            return  # refused; it only has to take that
        self.active_s = self._server.loop.time()
        try:
            out = session.receive(data)
        except Exception as error:  # noqa: BLE001 - a bug costs this client its connection, not the others theirs
            self._server.log(f"{self._address}: bug: {type(error).__name__}: {error}")
            self._transport.abort()
            return
        self._give(session, out)
        if session.waiting and session.kept_bytes > KEPT_BYTES_MAX and not self._held_for_queue:
            self._held_for_queue = True
            self._hold()

    def eof_received(self) -> bool:
        """The client sends no more. If a message of its is with the queue it may still want the answer."""
        self._at_end = True
        return self._session is not None and self._session.waiting

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over, whoever ended it."""
        if self._session is not None:
            self._session.vanish()
            self._session = None
        if self._admitted:
            self._server.limits.leave(self._address)
        self._server.left(self)

    def pause_writing(self) -> None:
        """The client does not read: then we do not either."""
        self._held_for_writing = True
        self._hold()

    def resume_writing(self) -> None:
        """It reads again."""
        self._held_for_writing = False
        self._release()

    # -- the server calls --

    def was_silent(self, now_s: float) -> None:
        """`timeout_s` have passed without a byte. Who does not take our last words either is cut off."""
        session = self._session
        if session is not None and session.waiting:
            return  # we are the silent ones
        if self._transport.is_closing() or session is None:
            self._transport.abort()
            return
        self.active_s = now_s
        self._give(session, session.time_out())

    def go_down(self) -> None:
        """The server stops."""
        if self._session is None:
            self._transport.abort()
        else:
            self._give(self._session, self._session.go_down())

    # -- ours --

    def _give(self, session: "Session", out: bytes) -> None:
        """Writes, and closes where the session has ended."""
        if self._transport.is_closing():
            return
        if out:
            self._transport.write(out)
        if session.exit_code is not None or (self._at_end and not session.waiting):
            self._transport.close()

    def _refuse(self, said: bytes, why: str) -> None:
        self._server.log(f"{self._address}: refused: {why}")
        self._transport.write(said)
        self._transport.close()

    def _hold(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def _release(self) -> None:
        if not (self._held_for_writing or self._held_for_queue or self._transport.is_closing()):
            self._transport.resume_reading()

    def _open_sink(self) -> "QueueSink":
        return QueueSink(self)

    def hand_over(self, message: SpooledMessage, sender: bytes, recipients: list[bytes]) -> None:
        """A complete message goes to the queue."""
        future = self._server.door.submit(message, self._environ, sender, recipients)
        future.add_done_callback(self._answered)

    def _answered(self, future: "asyncio.Future[tuple[Report, int]]") -> None:
        session = self._session
        if session is None:
            return  # the client did not wait for it
        self.active_s = self._server.loop.time()
        failure = future.exception()
        if failure is None:
            report, number = future.result()
        else:  # a bug on the way to the queue: the client tries again, and may so bring its message twice
            self._server.log(f"{self._address}: bug: {type(failure).__name__}: {failure}")
            report, number = queue_exit.CRASHED, 0
        self._give(session, session.answer(report, number))
        if self._held_for_queue:
            self._held_for_queue = False
            self._release()


class QueueSink:
    """A message for the queue's door; the answer goes to the client that began it."""

    __slots__ = ("_client", "_message", "qp", "write")

    def __init__(self, client: Client) -> None:
        self._client = client
        self._message = SpooledMessage()
        self.write = self._message.write
        self.qp = 0  # not ours to know: the answer brings it

    def abandon(self) -> None:
        """See smtpd.Sink."""
        self._message.close()

    def close(self, sender: bytes, recipients: list[bytes]) -> None:
        """See smtpd.Sink: always None."""
        self._client.hand_over(self._message, sender, recipients)
