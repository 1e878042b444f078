"""What qmail-qmtpd and qmail-qmqpd share: a session in which a client sends whole packages (wire.package_stream).

It reads events, opens a sink when a message begins, and ends the session where the framing is broken. What an address
is worth and what is answered is the protocol's: `qmtpd.Session` and `qmqpd.Session` say so.

Exit codes as qmail has them: 0 when the client is gone, 100 when it broke the protocol, 111 when we cannot go on or an
hour is over.
"""

from notqmail.message.received import received_from_network
from notqmail.policy.limits import EnvelopeBytes
from notqmail.wire.netstring import BadNetstring
from notqmail.wire.package_stream import BEGIN, END, RECIPIENT, SENDER, TEXT, Stream, TooLong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from notqmail.receive.smtpd import Sink
    from notqmail.unix.clock import Clock
    from notqmail.wire.package_stream import Events
    from notqmail.wire.reports import Report

DONE = 0
BROKEN = 100  # the client broke the protocol
UNABLE = 111
SESSION_MAX_S = 3_600  # qmail's alarm: after that the session ends, whatever it is at


class World:
    """What a session may ask of the machine. `open_sink` raises OSError; `envelopes` is shared by all sessions."""

    __slots__ = ("clock", "envelopes", "open_sink")

    def __init__(self, clock: "Clock", open_sink: "Callable[[], Sink]", envelopes: EnvelopeBytes | None = None) -> None:
        self.clock, self.open_sink = clock, open_sink
        self.envelopes = envelopes or EnvelopeBytes()


class CannotGoOn(Exception):
    """The session has to end with UNABLE."""


class PackageSession:
    """See service.Session. A subclass takes sender and recipients, and decides at the end of a package."""

    __slots__ = (
        "_envelope_bytes", "_environ", "_events", "_going_down", "_inside", "_out", "_protocol", "_sink", "_stream",
        "_world", "exit_code", "waiting",
    )  # fmt: skip

    def __init__(
        self, protocol: bytes, grammar: "Callable[[Stream], Events]", environ: "Mapping[bytes, bytes]", world: World
    ) -> None:
        self._protocol, self._environ, self._world = protocol, environ, world
        self._stream = Stream()
        self._events = grammar(self._stream)
        self._out: list[bytes] = []
        self._sink: Sink | None = None
        self._envelope_bytes = 0
        self._inside = self._going_down = False  # _inside: between BEGIN and END
        self.waiting = False
        self.exit_code: int | None = None

    # -- what a subclass does --

    def _begin(self) -> None:
        """A message begins."""

    def _take_text(self, text: bytes) -> None:
        """Some of the message."""
        if self._sink is not None:
            self._sink.write(text)

    def _take_sender(self, sender: bytes | None) -> None:
        """None: longer than FIELD_MAX."""
        raise NotImplementedError

    def _take_recipient(self, recipient: bytes | None) -> None:
        """None: longer than FIELD_MAX. Raises CannotGoOn."""
        raise NotImplementedError

    def _end_package(self) -> None:
        """The package is whole: `_submit` or `_drop` the message."""
        raise NotImplementedError

    def _tell(self, report: "Report", qp: int) -> None:
        """The queue has answered."""
        raise NotImplementedError

    def _submit(self, sender: bytes, recipients: list[bytes]) -> None:
        """Hands the message to the queue; `_tell` follows, now or later."""
        sink, self._sink = self._sink, None
        assert sink is not None, "between BEGIN and END"
        report = sink.close(sender, recipients)
        if report is None:
            self.waiting = True
        else:
            self._tell(report, sink.qp)

    def _drop(self) -> None:
        """The message under way must not be queued."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.abandon()

    def _keep_bytes(self, count: int, *, each_max: int, all_max: int) -> bool:
        """Counts what an envelope takes of the memory; False, and nothing counted, where it is too much."""
        used = self._world.envelopes
        if self._envelope_bytes + count > each_max or used.used + count > all_max:
            return False
        self._envelope_bytes += count
        used.used += count
        return True

    def _forget_envelope(self) -> None:
        self._world.envelopes.used -= self._envelope_bytes
        self._envelope_bytes = 0

    # -- what a driver calls --

    def greet(self) -> bytes:
        """Nothing: the client begins."""
        return b""

    def receive(self, data: bytes) -> bytes:
        """What to write now that this was read."""
        self._stream.receive(data)
        return self._proceed()

    def answer(self, report: "Report", qp: int) -> bytes:
        """The sink's late answer. Returns what to write."""
        self.waiting = False
        self._tell(report, qp)
        return self._proceed()

    def time_out(self) -> bytes:
        """There is nothing that could be said."""
        self._end(UNABLE)
        return b""

    def vanish(self) -> None:
        """The client is gone. A message that was complete is still queued, no other."""
        self._end(DONE)

    def go_down(self) -> bytes:
        """The server stops. Between packages that is the end at once, else after its answer. Returns what to write."""
        self._going_down = True
        return self._proceed()

    @property
    def kept_bytes(self) -> int:
        """How much was received that has not been looked at."""
        return len(self._stream)

    # -- ours --

    def _proceed(self) -> bytes:
        try:
            while self.exit_code is None and not self.waiting:
                if self._going_down and not self._inside:
                    self._end(DONE)
                    break
                event = next(self._events)
                if event is None:
                    break
                self._obey(*event)
        except (TooLong, CannotGoOn):
            self._end(UNABLE)
        except BadNetstring:
            self._end(BROKEN)
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _obey(self, kind: int, value: bytes | None) -> None:
        if kind == TEXT:
            assert value is not None
            self._take_text(value)
        elif kind == RECIPIENT:
            self._take_recipient(value)
        elif kind == SENDER:
            self._take_sender(value)
        elif kind == BEGIN:
            self._open()
        elif kind == END:
            self._inside = False
            self._end_package()

    def _open(self) -> None:
        get = self._environ.get
        try:
            self._sink = self._world.open_sink()
        except OSError as error:
            raise CannotGoOn from error
        self._inside = True
        self._sink.write(
            received_from_network(
                self._protocol, get(b"TCPREMOTEHOST", b"unknown"), get(b"TCPREMOTEIP", b"unknown"),
                get(b"TCPREMOTEINFO"), get(b"TCPLOCALHOST", get(b"TCPLOCALIP", b"unknown")), None,
                self._world.clock.now_s(),
            )
        )  # fmt: skip
        self._begin()

    def _end(self, code: int) -> None:
        """Ends the session, once; a message under way is dropped."""
        if self.exit_code is None:
            self.exit_code = code
            self._drop()
            self._forget_envelope()
