"""qmail-smtpd's dialogue with one client (qmail-smtpd(8), RFC 5321): bytes in, bytes out, messages into a sink.

No socket, no clock and no queue of its own: two drivers feed it, `smtpd_once` for a client on descriptors 0 and 1
and `smtpd_listen` for many at a time. After HELO every reply is notqmail 1.09's byte for byte; after EHLO the same
text stands behind an enhanced status code. Nothing depends on how the network cuts the bytes.

What it promises: a sink is closed (which queues the message) only after CRLF dot CRLF of a message without bare LFs
and within the limits; in every other end it is abandoned. While a sink's answer is awaited, further commands are
kept and not obeyed.
"""

from notqmail.control.smtpd_settings import databytes_limit
from notqmail.message.received import received_from_network
from notqmail.policy.limits import (
    BAD_COMMANDS_MAX,
    COMMANDS_WITHOUT_MAIL_MAX,
    ENVELOPE_BYTES_MAX,
    ENVELOPES_BYTES_MAX,
    HOPS_MAX,
    RECIPIENT_BYTES_MORE,
    EnvelopeBytes,
)
from notqmail.policy.relay import may_receive
from notqmail.policy.senders import is_bad_sender
from notqmail.receive.own_literal import without_own_literal
from notqmail.unix.cdb import Damaged
from notqmail.wire import smtp_server as wire
from notqmail.wire.command_lines import OVERLONG, CommandLines
from notqmail.wire.dot import BareNewline, DotDecoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from notqmail.control.smtpd_settings import SmtpdSettings
    from notqmail.policy.relay import KnowsHost
    from notqmail.unix.clock import Clock
    from notqmail.wire.reports import Report

    class Sink(Protocol):
        """Where a message goes. queue.client.Submission is one; its `close` waits and so never gives None."""

        qp: int

        def write(self, data: bytes) -> None:
            """Takes more of the message; never raises."""

        def abandon(self) -> object:
            """Forgets it: nothing is queued."""

        def close(self, sender: bytes, recipients: list[bytes]) -> "Report | None":
            """Takes the envelope. None: the driver will call `Session.answer` when it knows."""


DONE = 0  # the client said QUIT
FAILED = 1  # every other end of a session, as the one-shot program's exit code


class World:
    """What a session may ask of the machine.

    `open_sink` raises OSError when no message can be taken now; `knows_host` looks into morercpthosts.cdb and raises
    OSError or cdb.Damaged; `own_addresses` gives this machine's addresses as text and raises OSError. `envelopes` is
    shared by all sessions of the process.
    """

    __slots__ = ("clock", "envelopes", "knows_host", "open_sink", "own_addresses")

    def __init__(
        self, clock: "Clock", open_sink: "Callable[[], Sink]", knows_host: "KnowsHost",
        own_addresses: "Callable[[], frozenset[bytes]]", envelopes: EnvelopeBytes | None = None,
    ) -> None:  # fmt: skip
        self.envelopes = envelopes or EnvelopeBytes()
        self.clock, self.open_sink = clock, open_sink
        self.knows_host, self.own_addresses = knows_host, own_addresses


class Session:
    """One client. Feed it with `receive`, write what that returns, and close when `exit_code` is not None.

    `waiting`: a sink took a message and has not answered; the driver calls `answer`. `environ` is read at the
    beginning only (DATABYTES, RELAYCLIENT, TCPLOCALHOST, TCPLOCALIP, TCPREMOTEHOST, TCPREMOTEINFO, TCPREMOTEIP).
    """

    __slots__ = (
        "_bad_commands", "_bad_sender", "_commands", "_commands_without_mail", "_databytes", "_decoder", "_enhanced",
        "_envelope_bytes", "_going_down", "_helo", "_local_host", "_out", "_recipients", "_relay_suffix",
        "_remote_host", "_remote_info", "_remote_ip", "_sender", "_settings", "_sink", "_stored_bytes", "_world",
        "exit_code", "waiting",
    )  # fmt: skip

    def __init__(self, settings: "SmtpdSettings", environ: "Mapping[bytes, bytes]", world: World) -> None:
        self._settings, self._world = settings, world
        get = environ.get
        self._databytes = databytes_limit(settings, get(b"DATABYTES"))
        self._relay_suffix = get(b"RELAYCLIENT")  # set, even to nothing, means: may relay
        self._remote_ip = get(b"TCPREMOTEIP", b"unknown")
        self._remote_host = get(b"TCPREMOTEHOST", b"unknown")
        self._remote_info = get(b"TCPREMOTEINFO")
        self._local_host = get(b"TCPLOCALHOST", get(b"TCPLOCALIP", b"unknown"))
        self._commands = CommandLines()
        self._out: list[bytes] = []
        self._enhanced = False  # whether EHLO was said last
        self._helo: bytes | None = None
        self._sender: bytes | None = None  # None: no transaction
        self._bad_sender = False
        self._recipients: list[bytes] = []
        self._envelope_bytes = self._bad_commands = self._commands_without_mail = self._stored_bytes = 0
        self._sink: Sink | None = None
        self._decoder: DotDecoder | None = None  # not None: inside DATA
        self._going_down = False
        self.waiting = False
        self.exit_code: int | None = None

    # -- what a driver calls --

    def greet(self) -> bytes:
        """The first line, before anything is received."""
        return b"220 %b ESMTP\r\n" % self._settings.greeting

    def receive(self, data: bytes) -> bytes:
        """What to write now that this was read."""
        if self._decoder is not None:
            self._receive_message(data)
        else:
            self._commands.receive(data)
        return self._proceed()

    def answer(self, report: "Report", qp: int) -> bytes:
        """The sink's late answer; `qp` is the number that the client is told. Returns what to write."""
        self.waiting = False
        self._tell(report, qp)
        return self._proceed()

    def time_out(self) -> bytes:
        """The client was silent for too long. Returns what to write before closing."""
        self._end(wire.TIMED_OUT)
        return self._proceed()

    def vanish(self) -> None:
        """The client is gone. A message that was complete is still queued, no other."""
        self._end(None)

    def go_down(self) -> bytes:
        """The server stops. Outside a message that is the end at once, else after its answer. Returns what to write."""
        self._going_down = True
        return self._proceed()

    @property
    def kept_bytes(self) -> int:
        """How much was received that waits to be obeyed."""
        return len(self._commands)

    # -- the rest is ours --

    def _proceed(self) -> bytes:
        """Obeys what is there and returns the replies so far."""
        if self._going_down and self._decoder is None and not self.waiting:
            self._end(wire.GOING_DOWN)
        while self.exit_code is None and not self.waiting and self._decoder is None:
            command = self._commands.next_command()
            if command is None:
                break
            self._commands_without_mail += 1
            if self._commands_without_mail > COMMANDS_WITHOUT_MAIL_MAX:
                self._end(wire.TOO_MANY_COMMANDS)
                break
            verb, argument = command
            _VERBS.get(verb, Session._unknown)(self, argument) if command is not OVERLONG else self._overlong()
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _say(self, reply: wire.Reply) -> None:
        self._out.append(reply.enhanced if self._enhanced else reply.plain)

    def _end(self, reply: wire.Reply | None) -> None:
        """Ends the session, once; a message under way is dropped."""
        self._take_recipients()
        if self.exit_code is not None:
            return
        self.exit_code = FAILED
        if reply is not None:
            self._say(reply)
        if self._sink is not None and not self.waiting:
            self._sink.abandon()
        self._sink = self._decoder = None

    def _refuse_command(self, reply: wire.Reply) -> None:
        """For lines that no working client sends often."""
        self._say(reply)
        self._bad_commands += 1
        if self._bad_commands > BAD_COMMANDS_MAX:
            self._end(wire.TOO_MANY_ERRORS)

    def _unknown(self, _argument: bytes) -> None:
        self._refuse_command(wire.UNIMPLEMENTED)

    def _overlong(self) -> None:
        self._refuse_command(wire.LINE_TOO_LONG)

    def _helo_said(self, argument: bytes) -> None:
        self._enhanced, self._helo, self._sender = False, argument, None
        self._out.append(b"250 %b\r\n" % self._settings.greeting)

    def _ehlo_said(self, argument: bytes) -> None:
        self._enhanced, self._helo, self._sender = True, argument, None
        self._out.append(wire.ehlo_reply(self._settings.greeting, self._databytes))

    def _reset(self, _argument: bytes) -> None:
        self._sender = None
        self._say(wire.FLUSHED)

    def _noop(self, _argument: bytes) -> None:
        self._say(wire.NOOP_OK)

    def _verify(self, _argument: bytes) -> None:
        self._say(wire.TRY_IT)

    def _help(self, _argument: bytes) -> None:
        self._say(wire.HELP)

    def _quit(self, _argument: bytes) -> None:
        self._out.append((b"221 2.0.0 %b\r\n" if self._enhanced else b"221 %b\r\n") % self._settings.greeting)
        self.exit_code = DONE

    def _address(self, argument: bytes) -> tuple[bytes, bytes] | None:
        """The address and what follows it, or None when the client has been told why not."""
        address, parameters = wire.parse_path(argument)
        if b"[" in address and self._settings.local_ip_host is not None:
            try:
                address = without_own_literal(address, self._settings.local_ip_host, self._world.own_addresses)
            except OSError:
                self._end(wire.NO_OWN_ADDRESSES)
                return None
        if len(address) > wire.ADDRESS_MAX:
            self._say(wire.SYNTAX)
            return None
        return address, parameters

    def _mail(self, argument: bytes) -> None:
        parsed = self._address(argument)
        if parsed is None:
            return
        sender, parameters = parsed
        if self._enhanced and parameters and (refusal := self._size_refusal(parameters)) is not None:
            self._sender = None  # what the client pipelined after this must not join an older transaction
            self._say(refusal)
            return
        self._bad_sender = is_bad_sender(sender, self._settings.badmailfrom)
        self._sender = sender
        self._take_recipients()
        self._say(wire.MAIL_OK)

    def _size_refusal(self, parameters: bytes) -> wire.Reply | None:
        try:
            size = wire.size_parameter(parameters)
        except wire.BadSize:
            return wire.BAD_SIZE
        return wire.TOO_BIG if size and 0 < self._databytes < size else None

    def _recipient(self, argument: bytes) -> None:
        if self._sender is None:
            self._say(wire.WANT_MAIL)
            return
        parsed = self._address(argument)
        if parsed is None:
            return
        recipient = parsed[0]
        if self._bad_sender:
            self._say(wire.BAD_SENDER)
        elif self._relay_suffix is not None:
            self._add_recipient(recipient + self._relay_suffix)
        elif (allowed := self._may_receive(recipient)) is not None:
            if allowed:
                self._add_recipient(recipient)
            else:
                self._say(wire.NO_GATEWAY)

    def _may_receive(self, recipient: bytes) -> bool | None:
        """Whether a stranger may send there; None when that cannot be found out, which ends the session."""
        try:
            return may_receive(recipient, self._settings.rcpthosts, self._world.knows_host)
        except (OSError, Damaged):
            self._end(wire.NO_CONTROLS)
            return None

    def _add_recipient(self, recipient: bytes) -> None:
        all_envelopes = self._world.envelopes
        full = len(self._recipients) >= self._settings.recipients_max
        size = len(recipient) + RECIPIENT_BYTES_MORE
        full = full or all_envelopes.used + size > ENVELOPES_BYTES_MAX
        if full or self._envelope_bytes + size > ENVELOPE_BYTES_MAX:
            self._say(wire.TOO_MANY_RECIPIENTS)
            return
        self._recipients.append(recipient)
        self._envelope_bytes += size
        all_envelopes.used += size
        self._commands_without_mail -= 1
        self._say(wire.RCPT_OK)

    def _take_recipients(self) -> list[bytes]:
        """The recipients so far, which are the session's no longer."""
        self._world.envelopes.used -= self._envelope_bytes
        recipients, self._recipients, self._envelope_bytes = self._recipients, [], 0
        return recipients

    def _data(self, _argument: bytes) -> None:
        if self._sender is None:
            self._say(wire.WANT_MAIL)
            return
        if not self._recipients:
            self._say(wire.WANT_RCPT)
            return
        try:
            self._sink = sink = self._world.open_sink()
        except OSError:
            self._sender = None
            self._say(wire.QUEUE_DID_NOT_START)
            return
        sink.write(
            received_from_network(
                b"ESMTP" if self._enhanced else b"SMTP", self._remote_host, self._remote_ip, self._remote_info,
                self._local_host, self._helo, self._world.clock.now_s(),
            )
        )  # fmt: skip
        self._decoder, self._stored_bytes = DotDecoder(), 0
        self._out.append(wire.GO_AHEAD)
        rest = self._commands.take_rest()
        if rest:
            self._receive_message(rest)

    def _receive_message(self, data: bytes) -> None:
        decoder, sink = self._decoder, self._sink
        assert decoder is not None and sink is not None, "only inside DATA"
        try:
            stored = decoder.receive(data)
        except BareNewline:
            self._end(wire.BARE_NEWLINE)
            return
        if stored:
            self._stored_bytes += len(stored)
            if not self._databytes or self._stored_bytes <= self._databytes:
                sink.write(stored)
        if decoder.ended:
            self._commands.receive(decoder.rest)
            self._finish(sink, decoder.hops)

    def _finish(self, sink: "Sink", hops: int) -> None:
        """The message is complete: refuse it or hand it to the queue."""
        sender, recipients = self._sender, self._take_recipients()
        assert sender is not None, "DATA has a sender"
        self._decoder, self._sender, self._commands_without_mail = None, None, 0
        if hops >= HOPS_MAX or 0 < self._databytes < self._stored_bytes:
            self._sink = None
            sink.abandon()
            self._say(wire.LOOPING if hops >= HOPS_MAX else wire.TOO_BIG)
            return
        report = sink.close(sender, recipients)
        if report is None:
            self.waiting = True
        else:
            self._tell(report, sink.qp)

    def _tell(self, report: "Report", qp: int) -> None:
        self._sink = None
        if report.succeeded:
            self._say(wire.accepted(self._world.clock.now_s(), qp))
        else:
            self._say(wire.queue_refusal(report.text, permanent=report.kind == b"D"))


_VERBS = {
    b"HELO": Session._helo_said, b"EHLO": Session._ehlo_said, b"MAIL": Session._mail, b"RCPT": Session._recipient,
    b"DATA": Session._data, b"RSET": Session._reset, b"NOOP": Session._noop, b"VRFY": Session._verify,
    b"HELP": Session._help, b"QUIT": Session._quit,
}  # fmt: skip
