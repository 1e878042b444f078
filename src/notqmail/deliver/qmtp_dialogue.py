"""Handing a job over by QMTP (control/qmtproutes; qmail-qmtpc(8)), and where qmail-qmtpc looks for its servers."""

from notqmail.control.remote_settings import QMTP_PORT
from notqmail.deliver.routes import Candidate, by_relay, candidates
from notqmail.wire.qmtp_client import Package, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from notqmail.control.remote_settings import RemoteSettings
    from notqmail.deliver.remote import Job, Message
    from notqmail.deliver.routes import Asking

OTHER_ANSWERS_S = 60.0
"""So long, and no longer, after the last answer of a package for the next one: the server has made them together."""


class QmtpDialogue:
    """See dialogues.Dialogue. Addresses travel unquoted, the message as it is, and nobody says goodbye."""

    __slots__ = ("session",)

    farewell = b""
    may_find_too_many = False

    def __init__(self, peer: bytes) -> None:
        self.session = Session(peer)

    @property
    def answers_once(self) -> bool:
        """See Dialogue."""
        return self.session.answers_once

    def patience_s(self, timeout_s: float) -> float:
        """See Dialogue."""
        return min(timeout_s, OTHER_ANSWERS_S) if self.session.is_answering else timeout_s

    def begin(self, job: "Job") -> bytes:
        """See Dialogue."""
        return self.session.begin(Package(job.sender, job.recipients, job.message.size))

    def body(self, message: "Message") -> "Iterator[bytes]":
        """See Dialogue."""
        yield from message.chunks()
        yield self.session.end_body()


def qmtp_candidates(
    host: bytes, settings: "RemoteSettings", *, own: "Collection[bytes]", draw: "Callable[[], float]"
) -> "Asking":
    """As `routes.candidates`, for a program that speaks nothing but QMTP: qmtproutes, else MX and port 209; smtproutes
    mean nothing to it. Raises NoRoute."""
    qmtp_only = settings.without_smtp_routes()
    relay = qmtp_only.relay_for(host)
    if relay is not None:
        return (yield from by_relay(relay))
    found = yield from candidates(host, qmtp_only, own=own, draw=draw)
    return [
        Candidate(one.address, port=QMTP_PORT, preference=one.preference, host=one.host, by_qmtp=True) for one in found
    ]
