"""Bytes -> the commands of SMTP and POP3, without a socket: one line each, a verb and an argument.

Lines are read as qmail reads them: a line ends in LF with one CR before it taken off, is cut at its first NUL, the verb
is what stands before the first space, in any case. A line longer than LINE_MAX is thrown away as it comes.
"""

LINE_MAX = 4096  # bytes without the line end. RFC 5321 asks for 512 and more for extensions; qmail has no limit
OVERLONG = (b" ", b"")  # in a command's place: the line was too long. No verb has a space in it


class CommandLines:
    """Bytes in, commands out, one at a time: what follows DATA is not ours."""

    __slots__ = ("_at", "_buffer", "_skipping")

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0  # where the next line begins; a copy of the rest for every line would cost the square
        self._skipping = False  # inside a line that is too long

    def __len__(self) -> int:
        return len(self._buffer) - self._at

    def receive(self, data: bytes) -> None:
        """Takes more bytes."""
        self._buffer = self._buffer[self._at :] + data
        self._at = 0

    def take_rest(self) -> bytes:
        """What is left, which then belongs to the caller."""
        rest = self._buffer[self._at :]
        self._buffer, self._at = b"", 0
        return rest

    def next_command(self) -> "tuple[bytes, bytes] | None":
        """(verb in capitals, argument), or OVERLONG, or None: more bytes are needed."""
        start = self._at
        end = self._buffer.find(b"\n", start)
        if end < 0:
            if self._skipping or len(self) > LINE_MAX + 1:  # one more, for it may be the CR
                self._skipping, self._buffer, self._at = True, b"", 0
            return None
        self._at = end + 1
        if self._skipping:
            self._skipping = False
            return OVERLONG
        line = self._buffer[start:end].removesuffix(b"\r")
        if len(line) > LINE_MAX:
            return OVERLONG
        verb, _, argument = line.partition(b"\0")[0].partition(b" ")
        return verb.upper(), argument.lstrip(b" ")
