"""A stored message -> the body that follows SMTP's DATA (RFC 5321 4.5.2), in pieces cut anywhere.

Every line end becomes CRLF: the stored LF, a CRLF that somebody stored, and a bare CR, which some receivers take
for a line end and others do not. A dot is doubled after EVERY CRLF that goes out, also one made from a bare CR:
C qmail-remote forgets those, so that CR . LF in a message ends the mail early and the rest is read as commands.
"""

END = b".\r\n"


class PartialLine(Exception):
    """The message does not end with a line end; SMTP cannot say that."""


class Stuffer:
    """One message's encoder: `feed` its pieces, then `finish`, which gives the last bytes without the final dot.

    With `keep_cr` a CR is data like any other, as POP3 sends it.
    """

    __slots__ = ("_at_line_start", "_held_cr", "_keep_cr")

    def __init__(self, *, keep_cr: bool = False) -> None:
        self._keep_cr = keep_cr
        self._at_line_start = True
        self._held_cr = False  # the last piece ended in CR: only the next byte says what it is

    def feed(self, data: bytes) -> bytes:
        """The encoding of the next piece (perhaps not all of it yet)."""
        if self._held_cr:
            data = b"\r" + data
            self._held_cr = False
        if data.endswith(b"\r") and not self._keep_cr:
            data = data[:-1]
            self._held_cr = True
        if not data:
            return b""
        if b"\r" in data and not self._keep_cr:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        dot_first = self._at_line_start and data.startswith(b".")
        self._at_line_start = data.endswith(b"\n")
        if b"\n." in data:
            data = data.replace(b"\n.", b"\n..")
        data = data.replace(b"\n", b"\r\n")
        return b"." + data if dot_first else data

    def finish(self) -> bytes:
        """What is still held back. Raises PartialLine when the message ends inside a line."""
        if self._held_cr:
            self._held_cr = False
            self._at_line_start = True
            return b"\r\n"
        if not self._at_line_start:
            raise PartialLine
        return b""


def ends_mid_line(last_byte: bytes) -> bool:
    """Whether a message whose last byte this is (b"" for an empty one) has a partial last line."""
    return last_byte not in (b"", b"\n", b"\r")
