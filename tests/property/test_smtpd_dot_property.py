"""The fast decoder against a slow one that is plainly the state machine of the contract, one byte at a time."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from notqmail.wire.dot import BareNewline, DotDecoder

CR, LF, DOT = 13, 10, 46


class SlowDecoder:
    """A byte at a time: which bytes of the current line came is all the state there is."""

    def __init__(self) -> None:
        self.stored, self.hops, self.ended = bytearray(), 0, False
        self._line = bytearray()
        self._in_header = True

    def receive(self, byte: int) -> None:
        self._line.append(byte)
        if byte != LF:
            return
        if self._line[-2:-1] != b"\r":
            raise BareNewline
        line = bytes(self._line[:-2])
        self._line.clear()
        if line == b".":
            self.ended = True
            return
        if self._in_header:
            self._in_header = line != b""
            self.hops += line.lower().startswith((b"received", b"delivered"))
        if line.startswith(b".") and not (line + b"\r").startswith(b".\r"):
            line = line[1:]
        self.stored += line + b"\n"


PIECES = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b".", b"\r\n.", b"\r\n.\r", b"\r\n\r\n", b"a", b"Received", b"delivered: x", b"\0", b"\xff"]
)
MOSTLY_GOOD = st.sampled_from(
    [b"\r\n", b"\r\n", b"\r", b".", b"\r\n.", b"\r\n.\r", b"word", b"Received", b"..", b"\xe9"]
)


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(st.lists(PIECES, max_size=25), st.lists(MOSTLY_GOOD, max_size=40)).map(b"".join),
    st.lists(st.integers(0, 120), max_size=6),
)
def test_the_decoder_does_what_the_contract_says_whatever_the_cuts(text: bytes, cuts: list[int]) -> None:
    wire = text + b"\r\n.\r\n" + b"rest"
    slow, used, broken = SlowDecoder(), 0, False
    for byte in wire:
        try:
            slow.receive(byte)
        except BareNewline:
            broken = True
            break
        used += 1
        if slow.ended:
            break
    fast, stored, rest, failed = DotDecoder(), b"", b"", False
    bounds = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    for start, end in pairwise(bounds):
        if fast.ended:
            rest += wire[start:end]
            continue
        try:
            stored += fast.receive(wire[start:end])
        except BareNewline:
            failed = True
            break
    assert failed == broken
    if not broken:
        assert (stored, fast.hops, fast.rest + rest) == (bytes(slow.stored), slow.hops, wire[used:])
