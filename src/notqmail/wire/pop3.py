"""POP3 (RFC 1939) without a socket: lines -> commands, numbers, and stored messages -> the text that follows +OK.

Commands are read as qmail reads SMTP's: a line ends in LF with one CR before it taken off and is cut at its first NUL;
the verb is what stands before the first space, in any case (`wire.command_lines.CommandLines`, which also keeps the
limit of a line). A stored message goes out as it is: LF becomes CRLF, a dot that begins a line is doubled, a CR stays
where it was. After the text there is one more empty line, as qmail-pop3d always sent.
"""

from notqmail.wire.stuffing import PartialLine, Stuffer

CAPABILITIES = (b"TOP", b"USER", b"UIDL")  # RFC 2449; the login and the mailbox are two programs, both say the same
_END = b"\r\n.\r\n"


def ok(text: bytes = b"") -> bytes:
    """A good answer; without text there is a blank after the +OK all the same."""
    return b"+OK " + text + b"\r\n"


def refused(text: bytes) -> bytes:
    """A bad answer."""
    return b"-ERR " + text + b"\r\n"


def capabilities() -> bytes:
    """The answer to CAPA."""
    return ok(b"capabilities follow") + b"".join(name + b"\r\n" for name in CAPABILITIES) + b".\r\n"


def split_line(line: bytearray) -> tuple[bytes, bytearray]:
    """(verb in capitals, argument) of a line without its LF. The argument is a copy that can be overwritten."""
    end = line.find(b"\0")
    if end < 0:
        end = len(line) - line.endswith(b"\r")
    space = line.find(b" ", 0, end)
    if space < 0:
        return bytes(line[:end]).upper(), bytearray()
    start = space
    while start < end and line[start] == 0x20:
        start += 1
    return bytes(line[:space]).upper(), line[start:end]


def leading_number(text: bytes) -> tuple[int, bytes] | None:
    """(number, what follows its digits), or None when no digit comes first. The number may be of any length."""
    rest = text.lstrip(b"0123456789")
    digits = text[: len(text) - len(rest)]
    if not digits:
        return None
    # What nothing can be counted to needs no exact value, and int() has its own limit.
    return (int(digits) if len(digits) <= 18 else 10**18), rest


def message_and_lines(argument: bytes) -> tuple[int, int | None] | None:
    """(message number, body lines wanted or None for all) of TOP and RETR; None when it has no number."""
    found = leading_number(argument)
    if found is None:
        return None
    lines = leading_number(found[1].lstrip(b" "))
    return found[0], None if lines is None else lines[0]


def unique_id(name: bytes) -> bytes:
    """UIDL's word for a message in a Maildir: its file's name without the flags."""
    return name.partition(b":")[0]


class MessageText:
    """One message's encoder: `feed` its pieces until `complete`, then `finish`.

    `body_lines` is how many lines after the header's empty line are wanted, None for all. The empty line is one of
    nothing at all: a message stored with CRLF has none, and goes out whole.
    """

    __slots__ = ("_at_line_start", "_in_header", "_lines_left", "_stuffer", "complete")

    def __init__(self, body_lines: int | None = None) -> None:
        self._stuffer = Stuffer(keep_cr=True)
        self._lines_left = body_lines
        self._in_header = self._at_line_start = True
        self.complete = False

    def feed(self, data: bytes) -> bytes:
        """The encoding of the next piece."""
        return self._stuffer.feed(data if self._lines_left is None else self._wanted(data))

    def _wanted(self, data: bytes) -> bytes:
        start = 0
        if self._in_header:
            start = _end_of_header(data, at_line_start=self._at_line_start)
            if start < 0:
                self._at_line_start = data.endswith(b"\n") if data else self._at_line_start
                return data
            self._in_header = False
        assert self._lines_left is not None
        lines = data.count(b"\n", start)
        if lines < self._lines_left:
            self._lines_left -= lines
            return data
        for _ in range(self._lines_left):
            start = data.index(b"\n", start) + 1
        self._lines_left, self.complete = 0, True
        return data[:start]

    def finish(self) -> bytes:
        """What ends it; a last line without a line end gets one."""
        try:
            return self._stuffer.finish() + _END
        except PartialLine:
            return b"\r\n" + _END


def _end_of_header(data: bytes, *, at_line_start: bool) -> int:
    """Where the body begins in `data`, or -1."""
    if at_line_start and data.startswith(b"\n"):
        return 1
    place = data.find(b"\n\n")
    return place + 2 if place >= 0 else -1
