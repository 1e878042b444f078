"""The body of a message as SMTP's DATA sends it (RFC 5321 4.5.2) -> the bytes that are stored. Pure.

Lines end in CRLF on the wire and in LF in the store; a dot that begins a line is taken off; CRLF dot CRLF, and
nothing else, ends the message. A bare LF anywhere makes the message refused, for every other reading of it lets
a stranger smuggle a second message past a relay (CVE-2023-51764 and its like; cr.yp.to/docs/smtplf.html). A bare
CR is data. One rule is qmail's own: in a line that begins with dot CR but goes on, the dot stays.

Strategy: only the bytes that might belong to the end of the message (at most `CRLF . CR`) are held back, so
everything else is decided in whole chunks by `find`, `split` and `replace`, and where the network cuts the bytes
cannot matter. The message begins as if a CRLF had come before it.
"""

END = b"\r\n.\r\n"
_LINE_WITH_DOT = END[:3]


class BareNewline(Exception):
    """A LF without CR before it: nothing of this message may be used and the dialogue must end."""


class DotDecoder:
    """One message's decoder. After `ended`, `rest` holds what followed the message."""

    __slots__ = ("_header", "_held", "_started", "ended", "rest")

    def __init__(self) -> None:
        self._held = b"\r\n"  # the CRLF that stands before the first line
        self._started = False  # whether that CRLF has been left out of the output
        self._header = HopCounter()
        self.ended = False
        self.rest = b""

    @property
    def hops(self) -> int:
        """Lines in the header so far that begin with `received` or `delivered`, the last one only once it is whole."""
        return self._header.hops

    def receive(self, data: bytes) -> bytes:
        """The stored form of what is decided now. Raises BareNewline, which may come a little late, never too late."""
        buffer = self._held + data
        dot = buffer.find(_LINE_WITH_DOT)  # in most messages only the end has one, so this is all the search there is
        end = buffer.find(END, dot) if dot >= 0 else -1
        if end >= 0:
            self.ended = True
            self.rest = buffer[end + len(END) :]
            text = buffer[: end + 2]
            self._held = b""
        else:
            held = _undecided(buffer)
            text = buffer[: len(buffer) - held]
            self._held = buffer[len(buffer) - held :]
        return self._stored(text, may_have_dots=0 <= dot != end) if text else b""

    def _stored(self, text: bytes, *, may_have_dots: bool) -> bytes:
        lines = text.split(b"\r\n")  # and join: for whole messages it is faster than count and replace
        if text.count(b"\n") != len(lines) - 1:
            raise BareNewline
        text = b"\n".join(lines)
        skip = 0
        if not self._started:
            self._started, skip = True, 1
        if not self._header.ended:
            self._header.receive(text[skip:])
        if may_have_dots:  # every LF here began a line of the wire, so this dot stands first in it
            text = text.replace(b"\n.\r", b"\n..\r").replace(b"\n.", b"\n")
        return text[skip:] if skip else text


def _undecided(buffer: bytes) -> int:
    """How many bytes at the end of `buffer` might be the beginning of END."""
    for length in (4, 3, 2, 1):
        if buffer.endswith(END[:length]):
            return length
    return 0


class HopCounter:
    """Counts header lines that begin with `received` or `delivered`, in any case, by prefix alone, as qmail does.

    Fed with lines that end in LF and still have their dots. Keeps no more of an unfinished line than it can need.
    """

    __slots__ = ("_line", "ended", "hops")

    _PREFIXES = (b"\nreceived", b"\ndelivered")
    _LONGEST = 9

    def __init__(self) -> None:
        self._line = b""  # how the unfinished line begins
        self.ended = False  # the empty line has been seen
        self.hops = 0

    def receive(self, text: bytes) -> None:
        """Some more of the header, or of the body where it has not been noticed yet."""
        header = b"\n" + self._line + text
        empty_line = header.find(b"\n\n")
        if empty_line >= 0:
            self.ended = True
            whole = empty_line
        else:
            whole = header.rfind(b"\n")
            self._line = header[whole + 1 : whole + 1 + self._LONGEST]
        if whole > 0:
            lines = header[:whole].lower()
            self.hops += sum(map(lines.count, self._PREFIXES))
