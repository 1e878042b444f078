"""wire/dot.py: what a message on the wire becomes in the store."""

from itertools import pairwise

import pytest

from notqmail.wire.dot import BareNewline, DotDecoder

END = b"\r\n.\r\n"

DECODED = [
    (b".\r\n", b"", "an empty message"),
    (b"\r\n.\r\n", b"\n", "one empty line"),
    (b"a\r\n.\r\n", b"a\n", "one line"),
    (b"..\r\n.\r\n", b".\n", "a stuffed dot"),
    (b"...\r\n.\r\n", b"..\n", "only the first dot is taken off"),
    (b".a\r\n.\r\n", b"a\n", "a dot that should have been stuffed vanishes"),
    (b"a.b\r\n.\r\n", b"a.b\n", "a dot inside a line stays"),
    (b"a\r\n..\r\nb\r\n.\r\n", b"a\n.\nb\n", "a stuffed dot in the middle"),
    (b"a\rb\r\n.\r\n", b"a\rb\n", "a bare CR is data"),
    (b"a\r\r\n.\r\n", b"a\r\n", "CR CR LF is a CR and a line end"),
    (b"\r\r\n.\r\n", b"\r\n", "the same on a line of its own"),
    (b"a\r\r\n..b\r\n.\r\n", b"a\r\n.b\n", "CR CR LF begins a line like CR LF"),
    (b"a\r\r\n.b\r\n.\r\n", b"a\r\nb\n", "and its dot is taken off"),
    (b".\rb\r\n.\r\n", b".\rb\n", "dot CR that goes on keeps its dot"),
    (b".\r\r\n.\r\n", b".\r\n", "dot CR CR LF does not end a message"),
    (b".\r.\r\n.\r\n", b".\r.\n", "nor does dot CR dot"),
    (b"\r\n.\r\r\n\r\n.\r\n", b"\n.\r\n\n", "dot CR CR LF after an empty line"),
    (b"a\0\xff\r\n.\r\n", b"a\0\xff\n", "NUL and 8 bits are data"),
    (b"a\r.\r\n.\r\n", b"a\r.\n", "CR dot CR LF does not end a message (bare CR before it)"),
    (b"a\r.\r.\r\n.\r\n", b"a\r.\r.\n", "CR dot CR neither"),
]

REFUSED = [
    (b"\n", "at the very beginning"),
    (b"a\n", "after a byte"),
    (b"a\r\n\n", "after a line"),
    (b"a\r\n.\n", "LF after a dot: CRLF . LF"),
    (b"a\n.\r\n", "LF . CRLF"),
    (b"a\n.\n", "LF . LF"),
    (b"a\r\n.\r\r\n\n", "after dot CR CR LF"),
    (b"a\n\r\n.\r\n", "LF CRLF"),
    (b"a\r\n.x\n", "in a line with a dot"),
    (b"\n.\r\n.\r\n", "LF . CRLF . CRLF"),
]


def decode(wire: bytes, *cuts: int) -> tuple[bytes, bytes, bool]:
    """(stored, rest, ended) of the wire bytes cut at these places."""
    decoder, stored = DotDecoder(), b""
    for start, end in pairwise([0, *cuts, len(wire)]):
        if decoder.ended:
            decoder.rest += wire[start:end]
        else:
            stored += decoder.receive(wire[start:end])
    return stored, decoder.rest, decoder.ended


@pytest.mark.parametrize(("wire", "stored", "why"), DECODED, ids=[case[2] for case in DECODED])
def test_a_message_is_decoded_however_it_is_cut(wire: bytes, stored: bytes, why: str) -> None:
    for first in range(len(wire) + 1):
        for second in range(first, len(wire) + 1):
            assert decode(wire + b"QUIT\r\n", first, second) == (stored, b"QUIT\r\n", True)


@pytest.mark.parametrize(("wire", "where"), REFUSED, ids=[case[1] for case in REFUSED])
def test_a_bare_newline_is_refused_however_it_is_cut(wire: bytes, where: str) -> None:
    for cut in range(len(wire) + 1):
        with pytest.raises(BareNewline):
            decode(wire + b"more" + END, cut)


SMUGGLING = [
    b"\n.\n", b"\n.\r\n", b"\n.\r", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r.\n", b"\r\n.\r", b"\r\r\n.\r\r\n",
    b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\n.\n\r\n", b"\r\0\n.\r\n", b"\r\n.\r\r\n", b"\r\n .\r\n", b"\r\n. \r\n",
]  # fmt: skip


@pytest.mark.parametrize("sequence", SMUGGLING)
def test_no_look_alike_ends_a_message(sequence: bytes) -> None:
    """CVE-2023-51764, -51765, -51766: what follows a look-alike is never taken for commands."""
    wire = b"first" + sequence + b"MAIL FROM:<smuggled@x>\r\n"
    for cut in range(len(wire) + 1):
        decoder = DotDecoder()
        try:
            decoder.receive(wire[:cut])
            decoder.receive(wire[cut:])
        except BareNewline:
            continue
        assert not decoder.ended


def hops(wire: bytes, cut: int = 0) -> int:
    decoder = DotDecoder()
    decoder.receive(wire[:cut])
    decoder.receive(wire[cut:])
    return decoder.hops


HOPS = [
    (b"Received: a\r\n\r\n", 1),
    (b"rEcEiVeD\r\ndelivered-to: b\r\nSubject: x\r\n\r\n", 2),
    (b"Received-SPF: pass\r\n\r\n", 1),
    (b" Received: folded\r\nX-Received: a\r\n\r\n", 0),
    (b"Subject: a\r\n\r\nReceived: in the body\r\n", 0),
    (b"\r\nReceived: the header is empty\r\n", 0),
    (b".Received: the dot is still there\r\nReceive: d\r\nDelivere d\r\n", 0),
    (b"\r\r\nReceived: CR CR LF does not end the header\r\n\r\n", 1),
    (b"Received" * 3 + b"\r\n\r\n", 1),
]


@pytest.mark.parametrize(("wire", "count"), HOPS)
def test_hops_are_counted_by_prefix_in_the_header_only(wire: bytes, count: int) -> None:
    for cut in range(len(wire) + 1):
        assert hops(wire + b".\r\n", cut) == count


def test_a_decoder_that_got_nothing_has_nothing() -> None:
    decoder = DotDecoder()
    assert (decoder.rest, decoder.ended, decoder.hops, decoder.receive(b"")) == (b"", False, 0, b"")


def test_a_long_header_is_counted_without_being_kept() -> None:
    decoder = DotDecoder()
    for _ in range(1000):
        decoder.receive(b"Received: " + b"x" * 1000)
        decoder.receive(b"y" * 1000 + b"\r\n")
    decoder.receive(b"\r\n.\r\n")
    assert decoder.hops == 1000
