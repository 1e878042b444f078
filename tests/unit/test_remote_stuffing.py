"""wire.stuffing: a stored message becomes the body after DATA."""

import pytest

from notqmail.wire.stuffing import END, PartialLine, Stuffer, ends_mid_line

CASES = [
    (b"", b""),
    (b"a\nb\n", b"a\r\nb\r\n"),
    (b"a\r\nb\r\n", b"a\r\nb\r\n"),  # stored with CRLF: not doubled
    (b"a\rb\r", b"a\r\nb\r\n"),  # a bare CR is a line end, also the last one
    (b"\r\r\n\n", b"\r\n\r\n\r\n"),
    (b".\n", b"..\r\n"),
    (b"\n.\n", b"\r\n..\r\n"),
    (b"..\n", b"...\r\n"),
    (b"a\n.b\n.\n.\n", b"a\r\n..b\r\n..\r\n..\r\n"),
    (b"a\r.\nb\n", b"a\r\n..\r\nb\r\n"),  # C sends CRLF . CRLF here, and the rest as commands
    (b"a\r.\r\n", b"a\r\n..\r\n"),
    (b"\r.\r.\r", b"\r\n..\r\n..\r\n"),
    (b"a.\n.", None),  # partial last lines
    (b"a", None),
    (b"a\nb", None),
]


def encode(pieces):
    stuffer = Stuffer()
    return b"".join(map(stuffer.feed, pieces)) + stuffer.finish()


@pytest.mark.parametrize(("message", "wire"), CASES)
def test_the_encoding_does_not_depend_on_the_cuts(message, wire):
    cuts = [[message[:cut], message[cut:]] for cut in range(len(message) + 1)]
    for pieces in [[message], [message[i : i + 1] for i in range(len(message))], *cuts]:
        if wire is None:
            with pytest.raises(PartialLine):
                encode(pieces)
        else:
            assert encode(pieces) == wire


@pytest.mark.parametrize(("message", "wire"), CASES)
def test_the_last_byte_alone_tells_whether_the_last_line_is_partial(message, wire):
    assert ends_mid_line(message[-1:]) == (wire is None)


def test_the_end_is_a_dot_on_a_line():
    assert END == b".\r\n"
