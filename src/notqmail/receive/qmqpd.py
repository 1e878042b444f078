"""qmail-qmqpd's side of QMQP (qmail-qmqpd(8), cr.yp.to/proto/qmqp.html): one package, one answer, the end.

It relays to anywhere: who may connect is for the rules to say. Every answer is notqmail 1.09's byte for byte.
"""

from notqmail.policy.limits import ENVELOPE_BYTES_MAX, ENVELOPES_BYTES_MAX, RECIPIENT_BYTES_MORE
from notqmail.receive.package_session import DONE, PackageSession
from notqmail.wire import netstring
from notqmail.wire.qmqp_net import package

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from notqmail.receive.package_session import World
    from notqmail.wire.reports import Report

BAD_ADDRESS = b"Dsorry, I can't accept addresses like that (#5.1.3)"
TOO_MANY = b"Zsorry, those are too many recipients for one message (#4.5.3)"


class Session(PackageSession):
    """One client; see service.Session."""

    __slots__ = ("_recipients", "_refusal", "_sender")

    def __init__(self, environ: "Mapping[bytes, bytes]", world: "World") -> None:
        super().__init__(b"QMQP", package, environ, world)
        self._sender = b""
        self._recipients: list[bytes] = []
        self._refusal: bytes | None = None  # of the whole message

    def _take_sender(self, sender: bytes | None) -> None:
        if sender is None or b"\0" in sender:
            self._refuse(BAD_ADDRESS)
        else:
            self._sender = sender

    def _take_recipient(self, recipient: bytes | None) -> None:
        if recipient is None or b"\0" in recipient:
            self._refuse(BAD_ADDRESS)
        elif self._refusal is None:
            size = len(recipient) + RECIPIENT_BYTES_MORE
            if self._keep_bytes(size, each_max=ENVELOPE_BYTES_MAX, all_max=ENVELOPES_BYTES_MAX):
                self._recipients.append(recipient)
            else:
                self._refuse(TOO_MANY)

    def _refuse(self, why: bytes) -> None:
        """Nobody gets it; what still comes is read and not kept. A bad address outranks too many of them."""
        self._drop()
        self._refusal = why
        self._recipients.clear()
        self._forget_envelope()

    def _end_package(self) -> None:
        if self._refusal is not None:
            self._say(self._refusal)
        else:
            self._submit(self._sender, self._recipients)

    def _tell(self, report: "Report", qp: int) -> None:
        self._say(b"Kok %d qp %d" % (self._world.clock.now_s(), qp) if report.succeeded else report.encode())

    def _say(self, text: bytes) -> None:
        self._out.append(netstring.encode(text))
        self._end(DONE)
