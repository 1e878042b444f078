"""In which protocol a job is handed over: what the two drivers (remote_once, remote_async) need of SMTP and of QMTP.

A dialogue has a `session` (wire.smtp_client.Session, wire.qmtp_client.Session: bytes in, bytes out, an outcome), says
how a job begins and what its body is on the wire, and with which words one leaves.
"""

from notqmail.deliver.remote import NO_CONNECTION, body
from notqmail.wire.reports import temporary
from notqmail.wire.smtp_client import QUIT, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Protocol

    from notqmail.control.remote_settings import RemoteSettings
    from notqmail.deliver.remote import Job, Message
    from notqmail.deliver.routes import Candidate
    from notqmail.wire.reports import Report
    from notqmail.wire.smtp_client import Outcome

    class ClientSession(Protocol):
        """What both sessions are to a driver; see wire.smtp_client."""

        outcome: Outcome | None
        wants_body: bool

        @property
        def may_begin(self) -> bool:
            """Whether another transaction can follow on this connection."""

        def receive(self, data: bytes) -> bytes:
            """Takes bytes of the peer; returns what to send."""

        def after_body(self) -> bytes:
            """Reads what the peer said while we were still sending the body."""

        def connection_died(self) -> None:
            """End of file, error or timeout."""

        def give_up(self, report: Report) -> None:
            """Ends the transaction with the driver's own reason."""

    class Dialogue(Protocol):
        """One connection's."""

        farewell: bytes
        may_find_too_many: bool  # whether a refusal may mean only that there were too many recipients

        @property
        def answers_once(self) -> bool:
            """Whether the peer has shown that it cannot take several recipients at once, though it says nothing."""

        def patience_s(self, timeout_s: float) -> float:
            """How long to wait now without any progress; `timeout_s` is what the settings say."""

        @property
        def session(self) -> ClientSession:
            """The protocol's own part."""

        def begin(self, job: Job) -> bytes:
            """Starts a transaction. Returns what to send now."""

        def body(self, message: Message) -> Iterator[bytes]:
            """The message as it is on the wire, and the end of it. Raises OSError for the file."""


NO_QMTP_CONNECTION = temporary(b"Sorry, I wasn't able to establish a QMTP connection. (#4.4.1)\n")


class SmtpDialogue:
    """See Dialogue."""

    __slots__ = ("session",)

    farewell = QUIT
    may_find_too_many = True
    answers_once = False

    def __init__(self, peer: bytes, helo_name: bytes) -> None:
        self.session = Session(peer, helo_name)

    def patience_s(self, timeout_s: float) -> float:
        """See Dialogue."""
        return timeout_s

    def begin(self, job: "Job") -> bytes:
        """See Dialogue."""
        return self.session.begin(job.envelope())

    def body(self, message: "Message") -> "Iterator[bytes]":
        """See Dialogue."""
        return body(message, self.session)


def dialogue_with(candidate: "Candidate", settings: "RemoteSettings") -> "Dialogue":
    """How to speak there."""
    if candidate.by_qmtp:
        from notqmail.deliver.qmtp_dialogue import QmtpDialogue  # few sites have a use for it

        return QmtpDialogue(candidate.address)
    return SmtpDialogue(candidate.address, settings.helo_name)


def unreachable(tried: "Iterable[Candidate]") -> "Report":
    """What to say when none of them took a connection."""
    return NO_QMTP_CONNECTION if any(one.by_qmtp for one in tried) else NO_CONNECTION
