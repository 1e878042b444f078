"""The client's half of an SMTP session, without a socket: bytes from the peer in, bytes for the peer out.

Promises
- One `Outcome` for each envelope: a record for each recipient the peer answered about, in order, then one message
  report, with the texts of qmail-remote(8). A recipient without a record is covered by the message report.
- Whatever the peer says, nothing is raised, the body is sent after a 3yz reply to DATA only, and nothing but a 2yz
  reply to the final dot is success. (C takes any code below 400 in both places, so a peer that answers once too often
  makes it believe in a message that nobody has.) For MAIL and RCPT any code below 400 is a yes, as in C.
- RFC 5321 with EHLO first, HELO when the peer does not know EHLO; SIZE (RFC 1870) and 8BITMIME (RFC 6152) are stated
  when offered; PIPELINING (RFC 2920) sends MAIL, RCPT and DATA in one go and matches replies in order.

How a driver uses it: `begin(envelope)` and send what it returns; for all bytes from the peer `receive(data)` and
send what it returns; when `wants_body` is set, send the stuffed message and then what `end_body()` returns; when
`outcome` is there, send QUIT or, if `may_begin`, begin again. `connection_died()` at end of file, error or timeout.
"""

from notqmail.wire.reply_reader import MALFORMED, REPLY_MAX, EndlessReply, Reply, ReplyReader
from notqmail.wire.reports import Report, permanent, success, temporary
from notqmail.wire.stuffing import END

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ACCEPTED, DEFERRED, REFUSED = b"r", b"s", b"h"  # letters of a recipient record
UNANSWERED_MAX = 100  # commands in flight: both sides' socket buffers hold that much, so neither can block the other
QUIT = b"QUIT\r\n"

_GREETING, _EHLO, _HELO, _READY, _ENVELOPE, _BODY, _FINAL, _OVER = range(8)
_MAIL, _DATA = -1, -2  # what an expected reply answers; 0 and up: that recipient

_PARTIAL = permanent(b"SMTP cannot transfer messages with partial final lines. (#5.6.2)\n")
_LINE_BREAK = b"An address with a line break in it cannot be sent by SMTP. (#5.1.3)\n"


class Envelope:
    """What travels beside the message. Addresses are quoted already (message.address.quote_address)."""

    __slots__ = ("ends_mid_line", "has_8bit", "recipients", "sender", "size")

    def __init__(
        self, sender: bytes, recipients: "Sequence[bytes]", *, size: int | None = None,
        has_8bit: "Callable[[], bool]" = lambda: False, ends_mid_line: bool = False,
    ) -> None:  # fmt: skip
        self.sender, self.recipients, self.size = sender, recipients, size
        self.has_8bit, self.ends_mid_line = has_8bit, ends_mid_line


class Outcome:
    """What became of one message: `records` (letter, text) for the first recipients, `report` for the message.

    `last_words` is the message's report for a recipient who comes alone and is refused; the last `unanswered` records
    are no refusals, for the peer did not get to them.
    """

    __slots__ = ("last_words", "records", "report", "unanswered")

    def __init__(
        self, records: "Sequence[tuple[bytes, bytes]]", report: Report, last_words: bytes = b"", unanswered: int = 0
    ) -> None:
        self.records, self.report, self.last_words, self.unanswered = records, report, last_words, unanswered

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outcome) and self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash(self.encode())

    def __repr__(self) -> str:
        return f"Outcome({list(self.records)!r}, {self.report!r})"

    def encode(self) -> bytes:
        """The bytes that qmail-remote prints."""
        records = b"".join(letter + text + b"\0" for letter, text in self.records)
        return records + self.report.encode() + b"\0"


class Session:
    """One connection: greeting and hello once, then one transaction for each `begin`."""

    __slots__ = (
        "_accepted", "_commands", "_envelope", "_expected", "_extensions", "_helo_name", "_next", "_peer", "_records",
        "_replies", "_state", "outcome", "wants_body",
    )  # fmt: skip

    def __init__(self, peer: bytes, helo_name: bytes) -> None:
        """`peer` is the address as the reports show it; `helo_name` is what we call ourselves."""
        self._peer, self._helo_name = peer, helo_name
        self._replies = ReplyReader()
        self._extensions: dict[bytes, bytes] = {}
        self._state = _GREETING
        self._envelope: Envelope | None = None
        self._forget_transaction()

    def _forget_transaction(self) -> None:
        self.outcome: Outcome | None = None
        self.wants_body = False
        self._records: list[tuple[bytes, bytes] | None] = []
        self._accepted = 0
        self._commands: list[tuple[int, bytes]] = []
        self._next = 0  # first command not sent yet
        self._expected: list[int] = []  # what the replies to come answer

    @property
    def may_begin(self) -> bool:
        """Whether another transaction can follow on this connection."""
        return self._state == _READY and self._replies.is_empty

    def begin(self, envelope: Envelope) -> bytes:
        """Starts a transaction; only on a fresh session or when `may_begin`. Returns what to send now."""
        assert self._envelope is None or self.may_begin, "one transaction at a time"
        self._envelope = envelope
        if self._state != _READY:
            return b""  # greeting and hello first; or that failed already, which is the outcome
        self._forget_transaction()
        return self._start_envelope()

    def receive(self, data: bytes) -> bytes:
        """Takes bytes of the peer; returns what to send. What comes during the body waits for its end.

        A peer that talks on and on without waiting for an answer is dropped: nothing of it is kept beyond REPLY_MAX.
        """
        if self.outcome is not None and self.kept_bytes > REPLY_MAX:
            return b""
        self._replies.receive(data)
        out = self._read_on()
        if self.wants_body and self.kept_bytes > REPLY_MAX:
            self.connection_died()
        return out

    @property
    def kept_bytes(self) -> int:
        """How much was received that has not been looked at."""
        return len(self._replies)

    def end_body(self) -> bytes:
        """The final dot. From here on a lost connection may mean a duplicate."""
        self.wants_body = False
        self._state = _FINAL
        return END

    def after_body(self) -> bytes:
        """Reads what the peer said while we were still sending the body; call it once after `end_body`."""
        return self._read_on()

    def connection_died(self) -> None:
        """End of file, error or timeout: the message must be tried again."""
        if self.outcome is None:
            doubt = b"Possible duplicate! " if self._state == _FINAL else b""
            text = b"Connected to %b but connection died. %b(#4.4.2)\n" % (self._peer, doubt)
            self._finish(temporary(text))

    def give_up(self, report: Report) -> None:
        """Ends the transaction with the driver's own reason, such as an unreadable message."""
        if self.outcome is None:
            self._finish(report)

    def _read_on(self) -> bytes:
        out = b""
        try:
            while self.outcome is None and not self.wants_body:
                reply = self._replies.next_reply()
                if reply is None:
                    break
                out += self._step(reply)
        except EndlessReply:
            self.connection_died()
        return out

    def _step(self, reply: Reply) -> bytes:
        if self._state == _ENVELOPE:
            return self._on_envelope_reply(reply)
        if self._state == _FINAL:
            return self._on_final_reply(reply)
        if self._state == _READY:  # said without being asked, 421 as a rule: this connection is no use
            self.connection_died()
            return b""
        return self._on_hello_reply(reply)

    # Greeting and hello.

    def _on_hello_reply(self, reply: Reply) -> bytes:
        if self._state == _GREETING:
            if reply.code != 220:
                return self._fail(temporary, b"Connected to ", b" but greeting failed", reply)
            self._state = _EHLO
            return b"EHLO %b\r\n" % self._helo_name
        if self._state == _EHLO and reply.code >= 500:
            self._state = _HELO
            return b"HELO %b\r\n" % self._helo_name
        if reply.code != 250:
            return self._fail(temporary, b"Connected to ", b" but my name was rejected", reply)
        if self._state == _EHLO:
            self._extensions = offered_extensions(reply.text)
        self._state = _READY
        return b"" if self._envelope is None else self._start_envelope()

    # The envelope: at most `window` commands are unanswered; without PIPELINING that is one.

    def _start_envelope(self) -> bytes:
        envelope = self._envelope
        assert envelope is not None
        self._state = _ENVELOPE
        if has_line_break(envelope.sender):
            self._finish(permanent(_LINE_BREAK))
            return b""
        self._records = [None] * len(envelope.recipients)
        self._commands = [(_MAIL, self._mail_command(envelope))]
        for number, recipient in enumerate(envelope.recipients):
            if has_line_break(recipient):
                self._records[number] = (REFUSED, _LINE_BREAK)
            else:
                self._commands.append((number, b"RCPT TO:<%b>\r\n" % recipient))
        return self._send_commands()

    def _mail_command(self, envelope: Envelope) -> bytes:
        command = b"MAIL FROM:<%b>" % envelope.sender
        if envelope.size is not None and b"SIZE" in self._extensions:
            command += b" SIZE=%d" % envelope.size
        if b"8BITMIME" in self._extensions and envelope.has_8bit():
            command += b" BODY=8BITMIME"
        return command + b"\r\n"

    def _send_commands(self) -> bytes:
        pipelining = b"PIPELINING" in self._extensions
        window = UNANSWERED_MAX if pipelining else 1
        out = []
        while self._next < len(self._commands) and len(self._expected) < window:
            meaning, command = self._commands[self._next]
            self._next += 1
            self._expected.append(meaning)
            out.append(command)
        if self._next == len(self._commands) and len(self._expected) < window:
            out.append(self._send_data())
        return b"".join(out)

    def _send_data(self) -> bytes:
        """DATA as soon as a recipient is accepted or may still be; never for a message with a partial last line."""
        envelope = self._envelope
        assert envelope is not None
        if not self._accepted and all(meaning == _MAIL for meaning in self._expected):
            if not self._expected:
                self._finish(permanent(giving_up(self._peer)))
        elif envelope.ends_mid_line:
            if not self._expected:
                self._finish(_PARTIAL)
        else:
            self._expected.append(_DATA)
            return b"DATA\r\n"
        return b""

    def _on_envelope_reply(self, reply: Reply) -> bytes:
        meaning = self._expected.pop(0)
        if meaning == _DATA:
            return self._on_data_reply(reply)
        if meaning == _MAIL:
            if is_failure(reply):
                return self._fail(kind_of(reply), b"Connected to ", b" but sender was rejected", reply)
        elif is_failure(reply):
            letter = REFUSED if reply.code >= 500 else DEFERRED
            text = b"%b does not like recipient.\n%b" % (self._peer, remote_said(reply))
            self._records[meaning] = (letter, text)
        else:
            self._records[meaning] = (ACCEPTED, b"")
            self._accepted += 1
        return b"" if _DATA in self._expected else self._send_commands()

    def _on_data_reply(self, reply: Reply) -> bytes:
        if not self._accepted:
            self._finish(permanent(giving_up(self._peer)))
            return b"" if is_failure(reply) else END  # 354 to nobody: an empty message ends it (RFC 2920 3.1)
        if not 300 <= reply.code < 400:
            return self._fail(kind_of(reply), b"", b" failed on DATA command", reply)
        self._state = _BODY
        self.wants_body = True
        return b""

    def _on_final_reply(self, reply: Reply) -> bytes:
        if 200 <= reply.code < 300:
            self._fail(success, b"", b" accepted message", reply)
        else:
            self._fail(kind_of(reply), b"", b" failed after I sent the message", reply)
        if reply.code not in (MALFORMED, 421):
            self._state = _READY
        return b""

    # Ends.

    def _fail(self, kind: "Callable[[bytes], Report]", before: bytes, after: bytes, reply: Reply) -> bytes:
        self._finish(kind(b"%b%b%b.\n%b" % (before, self._peer, after, remote_said(reply))))
        return b""

    def _finish(self, report: Report) -> None:
        known: list[tuple[bytes, bytes]] = []
        for record in self._records:
            if record is None:
                break  # records go by position: after the first unknown one the message report must speak
            known.append(record)
        self.outcome = Outcome(known, report, giving_up(self._peer))
        self.wants_body = False
        self._state = _OVER


def is_failure(reply: Reply) -> bool:
    """Whether a reply refuses; a malformed one does, for now."""
    return reply.code >= 400 or reply.code == MALFORMED


def kind_of(reply: Reply) -> "Callable[[bytes], Report]":
    """What a refusing reply makes of the message: 5yz and above permanent, else temporary."""
    return permanent if reply.code >= 500 else temporary


def giving_up(peer: bytes) -> bytes:
    """What is said of a message that the peer takes for nobody."""
    return b"Giving up on %b.\n" % peer


def remote_said(reply: Reply) -> bytes:
    """The peer's own words, as every report quotes them."""
    return b"Remote host said: " + reply.text if reply.text else b""


def has_line_break(address: bytes) -> bool:
    """Whether an address would be more than one line on the wire, that is: other commands than we mean."""
    return b"\n" in address or b"\r" in address


def offered_extensions(text: bytes) -> dict[bytes, bytes]:
    """Keyword -> parameters of an EHLO reply; the first line is the peer's name, keywords are in upper case."""
    found = {}
    for line in text.split(b"\n")[1:]:
        keyword, _, parameters = line[4:].strip().partition(b" ")
        if keyword:
            found[keyword.upper()] = parameters
    return found
