"""qmail-qmtpd's side of QMTP (qmail-qmtpd(8), cr.yp.to/proto/qmtp.txt): bytes in, bytes out, messages into a sink.

Every answer is notqmail 1.09's byte for byte. As there, a client that may not relay can send to the hosts of rcpthosts
only, hops are not counted, and a package has one answer for each recipient, in their order.
"""

from notqmail.control.smtpd_settings import databytes_limit
from notqmail.policy.limits import ENVELOPE_BYTES_MAX, ENVELOPES_BYTES_MAX
from notqmail.policy.relay import may_receive
from notqmail.receive.package_session import CannotGoOn, PackageSession
from notqmail.unix.cdb import Damaged
from notqmail.wire import netstring
from notqmail.wire.package_stream import FIELD_MAX
from notqmail.wire.qmtp import packages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from notqmail.control.smtpd_settings import SmtpdSettings
    from notqmail.policy.relay import KnowsHost
    from notqmail.receive.package_session import World
    from notqmail.wire.reports import Report

BAD_SENDER = netstring.encode(b"Dunacceptable sender (#5.1.7)")
TOO_BIG = netstring.encode(b"Dsorry, that message size exceeds my databytes limit (#5.3.4)")
NO_GATEWAY = netstring.encode(b"Dsorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)")
BAD_RECIPIENT = netstring.encode(b"Dsorry, I can't handle that recipient (#5.1.3)")
TOO_MANY = netstring.encode(b"Ztoo many recipients (#4.5.3)")
ANSWER_BYTES = 80  # what each recipient is counted for besides its address: its answer waits in memory, too


class Session(PackageSession):
    """One client; see service.Session. `environ` is read as the session goes: DATABYTES, RELAYCLIENT, TCP...."""

    __slots__ = (
        "_answers", "_databytes", "_knows_host", "_recipients", "_relay_suffix", "_sender", "_settings", "_stored_bytes"
    )  # fmt: skip

    def __init__(
        self, settings: "SmtpdSettings", environ: "Mapping[bytes, bytes]", world: "World", knows_host: "KnowsHost"
    ) -> None:
        """`knows_host` looks into morercpthosts.cdb and raises OSError or cdb.Damaged."""
        super().__init__(b"QMTP", packages, environ, world)
        self._settings, self._knows_host = settings, knows_host
        self._databytes = databytes_limit(settings, environ.get(b"DATABYTES"))
        self._relay_suffix = environ.get(b"RELAYCLIENT")  # set, even to nothing, means: may relay
        self._begin()

    def _begin(self) -> None:
        self._stored_bytes = 0
        self._sender: bytes | None = None  # None: not acceptable
        self._recipients: list[bytes] = []
        self._answers: list[bytes | None] = []  # one for each recipient; None: what the queue says

    def _take_text(self, text: bytes) -> None:
        self._stored_bytes += len(text)
        if not self._is_too_big():
            super()._take_text(text)

    def _is_too_big(self) -> bool:
        return 0 < self._databytes < self._stored_bytes

    def _take_sender(self, sender: bytes | None) -> None:
        self._sender = None if sender is None or b"\0" in sender else sender

    def _take_recipient(self, recipient: bytes | None) -> None:
        answer = self._refusal(recipient)
        size = ANSWER_BYTES + (len(recipient) if answer is None and recipient is not None else 0)
        if not self._keep_bytes(size, each_max=ENVELOPE_BYTES_MAX, all_max=ENVELOPES_BYTES_MAX):
            raise CannotGoOn
        self._answers.append(answer)
        if answer is None and recipient is not None:
            self._recipients.append(recipient + (self._relay_suffix or b""))

    def _refusal(self, recipient: bytes | None) -> bytes | None:
        """Why this recipient gets nothing, or None. Raises CannotGoOn."""
        suffix = self._relay_suffix
        if recipient is None or len(recipient) + len(suffix or b"") > FIELD_MAX:
            return BAD_RECIPIENT
        if suffix is None and not self._may_receive(recipient):
            return NO_GATEWAY
        if b"\0" in recipient:
            return BAD_RECIPIENT
        return TOO_MANY if len(self._recipients) >= self._settings.recipients_max else None

    def _may_receive(self, recipient: bytes) -> bool:
        try:
            return may_receive(recipient, self._settings.rcpthosts, self._knows_host)
        except (OSError, Damaged) as error:
            raise CannotGoOn from error

    def _end_package(self) -> None:
        if self._is_too_big():
            self._refuse(TOO_BIG)
        elif self._sender is None:
            self._refuse(BAD_SENDER)
        elif not self._recipients:
            self._refuse(b"")
        else:
            self._submit(self._sender, self._recipients)

    def _refuse(self, why: bytes) -> None:
        self._drop()
        self._answer(why)

    def _tell(self, report: "Report", qp: int) -> None:
        text = b"Kok %d qp %d" % (self._world.clock.now_s(), qp) if report.succeeded else report.encode()
        self._answer(netstring.encode(text))

    def _answer(self, common: bytes) -> None:
        """One answer for each recipient: its own refusal, or what became of the message."""
        self._out += [common if answer is None else answer for answer in self._answers]
        self._answers, self._recipients = [], []
        self._forget_envelope()
