"""What a protocol has to be, so that the drivers can serve it: qmail-smtpd, qmail-qmtpd and qmail-qmqpd are three.

A session (smtpd.Session, qmtpd.Session, qmqpd.Session) is bytes in, bytes out, messages into a sink. `one_client`
drives one on two descriptors; `server` and `connection` many in one process, for which a `Service` makes them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from notqmail.policy.limits import EnvelopeBytes
    from notqmail.receive.smtpd import Sink
    from notqmail.wire.reports import Report

    class Session(Protocol):
        """One client's dialogue. Feed it, write what it returns, and close when `exit_code` is not None.

        `waiting`: a sink took a message and has not answered; the driver calls `answer`.
        """

        waiting: bool
        exit_code: int | None

        @property
        def kept_bytes(self) -> int:
            """How much was received that waits to be obeyed."""

        def greet(self) -> bytes:
            """What is said before anything is received."""

        def receive(self, data: bytes) -> bytes:
            """What to write now that this was read."""

        def answer(self, report: Report, qp: int) -> bytes:
            """The sink's late answer. Returns what to write."""

        def time_out(self) -> bytes:
            """The client was silent, or there, for too long. Returns what to write before closing."""

        def vanish(self) -> None:
            """The client is gone. A message that was complete is still queued, no other."""

        def go_down(self) -> bytes:
            """The server stops: the end, at once or after the message under way. Returns what to write."""

    OpenSink = Callable[[], Sink]
    OpenSession = Callable[[Mapping[bytes, bytes], OpenSink, EnvelopeBytes], tuple[Session, int]]


class Service:
    """A protocol to listen for.

    `name` is the program's, for the log. `open_session` takes a connection's environment, its way to the queue and what
    all recipients of the process take, and gives a session and the seconds of silence it may have; it raises OSError,
    cdb.Damaged, control.files.Missing or Unreadable where controls cannot be read. `busy` and `no_controls` are what a
    client hears that cannot be served. `session_max_s`: after that it has to go.
    """

    __slots__ = ("busy", "name", "no_controls", "open_session", "session_max_s")

    def __init__(
        self, name: str, open_session: "OpenSession", *, session_max_s: int, busy: bytes = b"", no_controls: bytes = b""
    ) -> None:
        self.name, self.open_session, self.session_max_s = name, open_session, session_max_s
        self.busy, self.no_controls = busy, no_controls
