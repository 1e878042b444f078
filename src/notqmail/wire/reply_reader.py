"""SMTP replies as a client reads them (RFC 5321 4.2): bytes in, (code, text) out, whatever way the network cuts them.

The peer is a stranger, so nothing here raises for nonsense: a reply whose first line does not begin with three
digits has the code MALFORMED, which every step of the dialogue takes as temporary. (C qmail-remote subtracts '0' from
whatever comes, and so bounces mail for some garbage.) As in C the first line's code counts, CR is dropped anywhere,
the text keeps its line feeds, and TEXT_MAX bytes of it are kept.
"""

TEXT_MAX = 5000  # HUGESMTPTEXT of qmail-remote
REPLY_MAX = 65_536  # an honest reply is far shorter; more is a peer that never stops talking
MALFORMED = 0


class EndlessReply(Exception):
    """More than REPLY_MAX bytes and still no end."""


class Reply:
    """One whole reply: `code` (MALFORMED or 0..999), `text` with its line feeds, NUL shown as `?`."""

    __slots__ = ("code", "text")

    def __init__(self, code: int, text: bytes) -> None:
        self.code, self.text = code, text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reply) and (self.code, self.text) == (other.code, other.text)

    def __hash__(self) -> int:
        return hash((self.code, self.text))

    def __repr__(self) -> str:
        return f"Reply({self.code}, {self.text!r})"


class ReplyReader:
    """One connection's ear. `receive` bytes, then ask `next_reply` until it says None."""

    __slots__ = ("_at", "_buffer", "_lines", "_size")

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0  # where the next line begins; a copy of the rest for every line would cost the square
        self._lines: list[bytes] = []  # of the reply that is not complete yet
        self._size = 0

    def receive(self, data: bytes) -> None:
        """Takes what came from the network."""
        self._buffer = self._buffer[self._at :] + data if self._buffer else data
        self._at = 0

    def __len__(self) -> int:
        """Bytes that nobody has looked at yet."""
        return len(self._buffer) - self._at

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left over: no unread reply, no part of one."""
        return not len(self) and not self._lines

    def next_reply(self) -> Reply | None:
        """The next complete reply, or None while its end has not come. Raises EndlessReply."""
        while (end := self._buffer.find(b"\n", self._at)) >= 0:
            line = self._buffer[self._at : end + 1].replace(b"\r", b"")
            self._at = end + 1
            self._size += len(line)
            if self._size <= REPLY_MAX:
                self._lines.append(line)
            if line[3:4] != b"-":
                return self._complete()
            if self._size > REPLY_MAX:
                raise EndlessReply
        if len(self) > REPLY_MAX:
            raise EndlessReply
        return None

    def _complete(self) -> Reply:
        first, text = self._lines[0] if self._lines else b"", b"".join(self._lines)[:TEXT_MAX]
        self._lines, self._size = [], 0
        digits = first[:3]
        code = int(digits) if len(digits) == 3 and digits.isdigit() else MALFORMED
        return Reply(code, text.replace(b"\0", b"?"))
