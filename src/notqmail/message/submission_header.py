"""The header a user's message gets, and the envelope read from it: what qmail-inject decides (qmail-header(5)). Pure.

Fields come in one at a time (`add`), the finished header comes out once (`finish`). Address fields are rewritten,
Bcc, Return-Path and Content-Length are dropped, what is missing is put on top: Date, Message-ID, From, Cc,
Mail-Followup-To, or their Resent- kin when the message is a resent one.

Never is a recipient lost silently: a recipient field that does not parse is passed on untouched only while its
addresses are not asked for (they came as arguments); otherwise `finish` raises. notqmail 1.09 went on with
the addresses right of the error.
"""

from notqmail.message.address import needs_quotes, quote_address
from notqmail.message.dates import compact_date, header_date
from notqmail.message.header_fields import (
    RECIPIENT_FIELDS,
    REMOVED_FIELDS,
    RESENT_FIELDS,
    RESENT_RECIPIENT_FIELDS,
    SENDER_FIELDS,
    field_name,
)
from notqmail.message.tokens822 import (
    AT_TOKEN,
    ATOM,
    COLON,
    COMMENT,
    LEFT,
    QUOTED,
    RIGHT,
    Unparsable,
    UnparsableLine,
    plain_address,
    rewrite_addresses,
    tokenize,
    unparse,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from notqmail.message.complete_address import AddressCompletion
    from notqmail.message.tokens822 import Token

NOBODY_SHOWN = b"Cc: recipient list not shown: ;\n"
_PER_RECIPIENT = b"-@[]"


class Identity:
    """Who submits, as the environment says (qmail-inject(8)). `host` is None when the default host is meant."""

    __slots__ = ("host", "name", "sender_host", "sender_user", "user")

    def __init__(self, environ: "Mapping[bytes, bytes]") -> None:
        def first(*names: bytes) -> bytes | None:
            return next((environ[name] for name in names if name in environ), None)

        user = first(b"QMAILUSER", b"MAILUSER", b"USER", b"LOGNAME")
        self.user = b"anonymous" if user is None else user
        self.host = first(b"QMAILHOST", b"MAILHOST")
        self.sender_user = environ.get(b"QMAILSUSER", self.user)
        self.sender_host = environ.get(b"QMAILSHOST", self.host)
        self.name = first(b"QMAILNAME", b"MAILNAME", b"NAME")


class Stamp:
    """What makes the message unique: seconds since 1970, process number, and the host that vouches for both."""

    __slots__ = ("id_host", "now_s", "pid")

    def __init__(self, *, now_s: int, pid: int, id_host: bytes) -> None:
        self.now_s, self.pid, self.id_host = now_s, pid, id_host

    def date(self) -> bytes:
        """The Date field."""
        return b"Date: " + header_date(self.now_s) + b"\n"

    def message_id(self) -> bytes:
        """The Message-ID field."""
        return b"Message-ID: <%b.%d.qmail@%b>\n" % (compact_date(self.now_s), self.pid, self.id_host)


class SubmissionHeader:
    """One message's header. `letters` are those of $QMAILINJECT; a `sender` given overrides all others.

    After `finish`: `sender` and `recipients` (in the order they are to be queued) are the header's share of the
    envelope. `lists` are the mailing lists, in lower case, that call for a Mail-Followup-To.
    """

    def __init__(
        self, *, identity: Identity, completion: "AddressCompletion", stamp: Stamp, letters: bytes = b"",
        sender: bytes | None = None, use_recipients: bool = True, lists: frozenset[bytes] = frozenset(),
    ) -> None:  # fmt: skip
        self._identity, self._stamp, self._completion = identity, stamp, completion
        self._letters, self._lists, self._use_recipients = letters, lists, use_recipients
        self._given_sender = sender
        self._seen: set[bytes] = set()
        self._kept: list[bytes] = []
        self._recipients: list[bytes] = []
        self._resent_recipients: list[bytes] = []
        self._shown: list[bytes] = []  # the addresses of To and Cc
        self._unparsed: list[tuple[bytes, bytes]] = []  # recipient fields that are no address lists

    @property
    def sender(self) -> bytes:
        """The envelope sender; known after `finish`."""
        assert self._given_sender is not None, "finish() comes first"
        return self._given_sender

    @property
    def recipients(self) -> list[bytes]:
        """The recipients named in the header; none when they are not asked for."""
        if not self._use_recipients:
            return []
        return self._resent_recipients if self._resent else self._recipients

    def add(self, line: bytes) -> None:
        """One field, its line feed included. Raises UnparsableLine for a sender's field."""
        name = field_name(line) or b""
        if (
            (name == b"from" and b"f" in self._letters)
            or (name == b"message-id" and b"i" in self._letters)
            or (name == b"return-path" and b"s" in self._letters)
        ):
            return
        self._seen.add(name)
        if name in RECIPIENT_FIELDS or name in RESENT_RECIPIENT_FIELDS:
            line = self._recipient_field(name, line)
        elif name in SENDER_FIELDS:
            line = self._rewritten(line, self._completion.complete)
        elif name == b"return-path":
            self._rewritten(line, self._return_path_address)
        if name not in REMOVED_FIELDS:
            self._kept.append(line)

    def finish(self) -> bytes:
        """The whole header, without the blank line behind it. Raises UnparsableLine."""
        for name, line in self._unparsed:
            if self._use_recipients and (name in RESENT_RECIPIENT_FIELDS) == self._resent:
                raise UnparsableLine(line)
        if self._given_sender is None:
            self._make_sender()
        new = self._new_fields(b"resent-", b"Resent-") if self._resent else self._new_fields(b"", b"")
        return b"".join(new + self._kept)

    @property
    def _resent(self) -> bool:
        return not self._seen.isdisjoint(RESENT_FIELDS)

    def _recipient_field(self, name: bytes, line: bytes) -> bytes:
        """The field rewritten, its addresses noted; untouched and noted as such when it does not parse."""
        addresses: list[bytes] = []

        def complete(tokens: "list[Token]") -> "list[Token]":
            whole = self._completion.complete(tokens)
            addresses.append(plain_address(whole))
            return whole

        try:
            line = self._rewritten(line, complete)
        except UnparsableLine:
            self._unparsed.append((name, line))
            return line
        (self._resent_recipients if name in RESENT_RECIPIENT_FIELDS else self._recipients).extend(addresses)
        if name in (b"to", b"cc"):
            self._shown += addresses
        return line

    def _return_path_address(self, tokens: "list[Token]") -> "list[Token]":
        """The first Return-Path address (the rightmost of its field) becomes the envelope sender."""
        whole = self._completion.complete(tokens)
        if self._given_sender is None:
            mark = _PER_RECIPIENT if b"r" in self._letters else b""
            self._given_sender = plain_address(whole) + mark
        return whole

    def _rewritten(self, line: bytes, rewrite: "Callable[[list[Token]], list[Token]]") -> bytes:
        try:
            tokens = tokenize(line.removesuffix(b"\n"))
            return unparse(rewrite_addresses(tokens, rewrite))
        except Unparsable:
            raise UnparsableLine(line) from None

    def _make_sender(self) -> None:
        """No -f, no Return-Path: the submitter, with the marks for one return address per message or recipient."""
        identity, stamp = self._identity, self._stamp
        user = identity.sender_user
        if b"m" in self._letters:
            user += b"-%d.%d" % (stamp.now_s, stamp.pid)
        if b"r" in self._letters:
            user += b"-"
        tokens = [(ATOM, b"Return-Path"), (COLON, COLON), (QUOTED, user), *_at_host(identity.sender_host)]
        self._rewritten(unparse(tokens), self._return_path_address)

    def _new_fields(self, prefix: bytes, shown_prefix: bytes) -> list[bytes]:
        """The fields that are missing. `prefix` is that of names seen, `shown_prefix` that of lines written."""
        fields: list[bytes] = []
        if prefix + b"date" not in self._seen:
            fields.append(shown_prefix + self._stamp.date())
        if prefix + b"message-id" not in self._seen:
            fields.append(shown_prefix + self._stamp.message_id())
        if prefix + b"from" not in self._seen:
            fields.append(shown_prefix + self._from_field())
        if prefix + b"to" not in self._seen and prefix + b"cc" not in self._seen:
            fields.append(shown_prefix + NOBODY_SHOWN)
        if not prefix and self._wants_followup():
            # The last address read comes first: this restores the order within a field.
            addresses = [quote_address(address) for address in reversed(self._shown)]
            fields.append(b"Mail-Followup-To: " + b",\n  ".join(addresses) + b"\n")
        return fields

    def _wants_followup(self) -> bool:
        if b"mail-followup-to" in self._seen:
            return False
        if any(name in (b"to", b"cc") for name, _ in self._unparsed):
            return False  # it would leave people out of the followups
        return any(address.lower() in self._lists for address in self._shown)

    def _from_field(self) -> bytes:
        """From: `"Name" <user@host>`, or `user@host (Name)` with the letter c."""
        identity = self._identity
        kind = QUOTED if needs_quotes(identity.user) else ATOM
        address = [(kind, identity.user), *_at_host(identity.host)]
        if identity.name is None:
            mailbox = address
        elif b"c" in self._letters:
            mailbox = [*address, (COMMENT, identity.name)]
        else:
            mailbox = [(QUOTED, identity.name), (LEFT, LEFT), *address, (RIGHT, RIGHT)]
        return self._rewritten(unparse([(ATOM, b"From"), (COLON, COLON), *mailbox]), self._completion.complete)


def _at_host(host: bytes | None) -> "list[Token]":
    return [] if host is None else [AT_TOKEN, (ATOM, host)]
