"""A QMTP client's side of one connection (cr.yp.to/proto/qmtp.txt; qmail-qmtpc(8)). Pure: bytes in, bytes out.

The same shape as `wire.smtp_client.Session`, so that the same drivers can hold the socket: `begin` a package, send the
body, which here travels as it is, `end_body`, and feed `receive` until there is an `outcome`. Addresses are not quoted
in QMTP, nothing is negotiated, and a message may end in the middle of a line.

The answer for a recipient is final when it is there. What was not answered when the connection broke may have arrived:
it is tried again. A server that sends one answer for a package with several recipients (mailfront does, against
section 2 of the protocol) leaves the others in doubt, and a refusal may be meant for any of them: that is no refusal
yet. `answers_once` tells it; with one recipient in each package such a server is understood.
"""

from notqmail.wire.netstring import BadNetstring
from notqmail.wire.qmtp import AnswerReader, package_head, package_tail
from notqmail.wire.reports import PERMANENT, SUCCESS, Report, permanent, success, temporary
from notqmail.wire.smtp_client import ACCEPTED, DEFERRED, REFUSED, Outcome, giving_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_NEW, _BODY, _ANSWERS, _READY, _OVER = range(5)


class Package:
    """A message with its envelope: `size` bytes, and addresses as the queue has them."""

    __slots__ = ("recipients", "sender", "size")

    def __init__(self, sender: bytes, recipients: "Sequence[bytes]", size: int) -> None:
        self.sender, self.recipients, self.size = sender, recipients, size


class Session:
    """One connection, one package for each `begin`."""

    __slots__ = (
        "_answers", "_package", "_peer", "_records", "_said", "_state", "answers_once", "outcome", "wants_body"
    )  # fmt: skip

    def __init__(self, peer: bytes) -> None:
        """`peer` is the address as the reports show it."""
        self._peer = peer
        self._answers = AnswerReader()
        self._state = _NEW
        self._package = Package(b"", (), 0)
        self._records: list[tuple[bytes, bytes]] = []
        self._said = b""  # with the first success
        self.outcome: Outcome | None = None
        self.wants_body = False
        self.answers_once = False
        """Whether the peer left it at one answer for several recipients."""

    @property
    def is_answering(self) -> bool:
        """Whether some answers are there and others are not: they are made together, so they come together."""
        return self._state == _ANSWERS and bool(self._records)

    @property
    def may_begin(self) -> bool:
        """Whether another package can follow on this connection."""
        return self._state == _READY and not len(self._answers)

    def begin(self, package: Package) -> bytes:
        """Starts a package; only on a fresh session or when `may_begin`. Returns what goes before the body."""
        assert self._state == _NEW or self.may_begin, "one package at a time"
        self._package, self._records, self._said, self.outcome = package, [], b"", None
        self._state, self.wants_body = _BODY, True
        return package_head(package.size)

    def end_body(self) -> bytes:
        """What goes after the body. From here on a lost connection may mean a duplicate."""
        self.wants_body = False
        self._state = _ANSWERS
        return package_tail(self._package.sender, self._package.recipients)

    def receive(self, data: bytes) -> bytes:
        """Takes bytes of the peer; there is never anything to say to them. An answer before the question is broken
        framing: the connection is of no more use."""
        self._answers.receive(data)
        if self._state == _ANSWERS:
            self._read_on()
        elif self.outcome is None:
            self._finish(temporary(b"%b answered before it was asked. (#4.3.0)\n" % self._peer))
        else:
            self._state = _OVER
        return b""

    def after_body(self) -> bytes:
        """For drivers that read while they send: nothing was kept back."""
        return b""

    def connection_died(self) -> None:
        """End of file, error or timeout: what was not answered must be tried again."""
        if self.outcome is None:
            wanted, got = len(self._package.recipients), len(self._records)
            self.answers_once = got == 1
            said = b"Remote host answered for %d of %d recipients; QMTP wants an answer for each.\n" % (got, wanted)
            if self.answers_once:
                self._records = [(DEFERRED if letter == REFUSED else letter, text) for letter, text in self._records]
            self._break_off(said if self.is_answering else b"")
        self._state = _OVER

    def give_up(self, report: Report) -> None:
        """Ends the package with the driver's own reason, such as an unreadable message."""
        if self.outcome is None:
            self._finish(report)

    def _read_on(self) -> None:
        try:
            while len(self._records) < len(self._package.recipients):
                answer = self._answers.next_answer()
                if answer is None:
                    return
                self._records.append(self._record(answer))
        except BadNetstring:
            self._break_off(b"Remote host does not speak QMTP properly.\n")
            return
        self._finish(self._accepted() or permanent(giving_up(self._peer)))
        self._state = _READY

    def _accepted(self) -> Report | None:
        """The message's report where somebody got it; recipients with a record of their own are not meant."""
        if not self._said:
            return None
        return success(b"%b accepted message.\nRemote host said: %b\n" % (self._peer, self._said))

    def _break_off(self, more: bytes = b"") -> None:
        """No more answers will come: who has one keeps it. The first line is the one that says "in doubt"."""
        doubt = b"Possible duplicate! " if self._state == _ANSWERS else b""
        why = b"Connected to %b but connection died. %b(#4.4.2)\n%b" % (self._peer, doubt, more)
        accepted = self._accepted()
        if accepted is None:
            self._finish(temporary(why))
            return
        unanswered = len(self._package.recipients) - len(self._records)
        self._records += [(DEFERRED, why)] * unanswered
        self._finish(accepted, unanswered)

    def _record(self, answer: Report) -> tuple[bytes, bytes]:
        said = bytes(byte if byte >= 32 and byte != 127 else 63 for byte in answer.text)
        if answer.kind == SUCCESS:
            self._said = self._said or said or b"ok"
            return ACCEPTED, b""
        letter = REFUSED if answer.kind == PERMANENT else DEFERRED
        return letter, b"%b did not take it for this recipient.\nRemote host said: %b\n" % (self._peer, said)

    def _finish(self, report: Report, unanswered: int = 0) -> None:
        self.outcome = Outcome(self._records, report, giving_up(self._peer), unanswered)
        self.wants_body = False
        self._state = _OVER
