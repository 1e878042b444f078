"""Which header fields there are, what is one, and where the header ends (qmail-header(5)). Pure.

`HeaderSplitter` takes a message in pieces of any size and gives the same fields however it is cut. Only the
header is held in memory, up to a limit.
"""

SENDER_FIELDS = frozenset(
    b"sender from reply-to return-receipt-to errors-to resent-sender resent-from resent-reply-to".split()
)
RECIPIENT_FIELDS = frozenset((b"to", b"cc", b"bcc", b"apparently-to"))
RESENT_RECIPIENT_FIELDS = frozenset((b"resent-to", b"resent-cc", b"resent-bcc"))
RESENT_FIELDS = RESENT_RECIPIENT_FIELDS | frozenset(
    b"resent-sender resent-from resent-reply-to resent-date resent-message-id".split()
)
"""Any of these makes the message a resent one."""
REMOVED_FIELDS = frozenset((b"bcc", b"resent-bcc", b"return-path", b"content-length"))
"""These never leave: secrets, the envelope, and a length that rewriting makes wrong."""

HEADER_MAX = 4 * 1_024 * 1_024
"""Bytes of header taken (some 100,000 recipients); beyond, the message is refused rather than held in memory."""

_NAME_BYTES = bytes(range(33, 127))


class HeaderTooLong(Exception):
    """The header is longer than HEADER_MAX."""


def field_name(line: bytes) -> bytes | None:
    """The name in lower case, blanks before the colon ignored; None when no header field begins like this."""
    name, colon, _ = line.partition(b":")
    name = name.rstrip(b" \t")
    if not colon or not name or name.translate(None, _NAME_BYTES):
        return None
    return name.lower()


class HeaderSplitter:
    """Give `receive` the message piece by piece until `in_body`, then `finish` at its end.

    `fields` are complete fields, each with its line feeds; `body` is what has been seen behind them, with the
    blank line first. A line that cannot be a field ends the header as if a blank line stood before it, and a
    line `From ...`, as in an mbox, becomes the field `MBOX-Line`.
    """

    __slots__ = ("_buffer", "_field", "_header_max", "_length", "body", "fields", "in_body")

    def __init__(self, *, header_max: int = HEADER_MAX) -> None:
        self.fields: list[bytes] = []
        self.body = b""
        self.in_body = False
        self._header_max = header_max
        self._length = 0
        self._buffer = b""  # the beginning of a line
        self._field: list[bytes] = []  # the lines of the field that may still go on

    def receive(self, data: bytes) -> None:
        """Takes more. Raises HeaderTooLong."""
        if self.in_body:
            self.body += data
            return
        text = self._buffer + data
        start = 0
        while (end := text.find(b"\n", start) + 1) and not self.in_body:
            line = text[start:end]
            if line != b"\n" and self._length + len(line) > self._header_max:
                raise HeaderTooLong  # also for the first line behind it: so it does not matter how that was cut
            if self._is_header_line(line):
                self._length += len(line)
                start = end
            else:
                self._end_field()
                self.in_body = True
                self.body = text[start:] if line == b"\n" else b"\n" + text[start:]
        self._buffer = b"" if self.in_body else text[start:]
        if self._length + len(self._buffer) > self._header_max:
            raise HeaderTooLong

    def finish(self) -> None:
        """The message has ended: completes a last line without line feed, and the last field."""
        if self._buffer:
            self.receive(b"\n")
        self._end_field()

    def _is_header_line(self, line: bytes) -> bool:
        if self._field and line[:1] in (b" ", b"\t"):
            self._field.append(line)
            return True
        if line.startswith(b"From "):
            line = b"MBOX-Line: " + line
        elif field_name(line) is None:
            return False
        self._end_field()
        self._field.append(line)
        return True

    def _end_field(self) -> None:
        if self._field:
            self.fields.append(b"".join(self._field))
            self._field.clear()
