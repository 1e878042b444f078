"""The question and the answer of an ident look-up (RFC 1413): who has this connection, says the client's machine. Pure.

What comes back is whatever that machine likes to say. Lenient as tcp-env(1) has always been: the text behind the third
colon is the name, blanks and carriage returns anywhere are dropped, and an ERROR answer, which has only two colons,
is an empty name.
"""

NAME_MAX = 998  # bytes of the name; what follows is not read
ANSWER_MAX = 8_192  # bytes of an answer: blanks do not count for the name, and must not come for ever

_DROPPED = b" \t\r"


def question(remote_port: int, local_port: int) -> bytes:
    """What to send: the port there first, then ours."""
    return b"%d , %d\r\n" % (remote_port, local_port)


class IdentAnswer:
    """Give `receive` the answer in pieces until it returns a name; b"" is one."""

    __slots__ = ("_colons", "_length", "_name")

    def __init__(self) -> None:
        self._colons = self._length = 0
        self._name = b""

    def receive(self, data: bytes) -> bytes | None:
        """The name once it is complete, else None. Raises ValueError when the answer is too long to be one."""
        data = data[: ANSWER_MAX - self._length]
        self._length += len(data)
        line, line_end, _ = data.partition(b"\n")
        line = line.translate(None, _DROPPED)
        while self._colons < 3 and line:
            _, colon, line = line.partition(b":")
            self._colons += len(colon)
        self._name += line
        if line_end or len(self._name) >= NAME_MAX:
            return self._name[:NAME_MAX]
        if self._length == ANSWER_MAX:
            raise ValueError("too long for an ident answer")
        return None
