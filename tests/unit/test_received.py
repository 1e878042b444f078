"""The two Received lines, which no stranger's text can break."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notqmail.message.received import received_by_queue, received_from_network


def test_the_queue_s_line() -> None:
    assert (
        received_by_queue(42, b"by uid 7", 0) == b"Received: (qmail 42 invoked by uid 7); 1 Jan 1970 00:00:00 -0000\n"
    )


@pytest.mark.parametrize(
    ("host", "info", "helo", "first"),
    [
        (b"h.test", None, b"h.test", b"from h.test (1.2.3.4)"),
        (b"h.test", None, b"H.TEST", b"from h.test (1.2.3.4)"),  # the same name
        (b"h.test", None, None, b"from h.test (1.2.3.4)"),  # it never said
        (b"h.test", b"joe", b"other", b"from h.test (HELO other) (joe@1.2.3.4)"),
        (b"unknown", b"", b"", b"from unknown (HELO ) (@1.2.3.4)"),
        (b"h.test", None, b"a (b)\r\n<c>", b"from h.test (HELO a??b????c?) (1.2.3.4)"),
        (b"\xff", b"j\xf6", b"x", b"from ? (HELO x) (j?@1.2.3.4)"),
    ],
)
def test_the_network_s_line(host: bytes, info: bytes | None, helo: bytes | None, first: bytes) -> None:
    line = received_from_network(b"SMTP", host, b"1.2.3.4", info, b"me.test", helo, 0)
    assert line == b"Received: " + first + b"\n  by me.test with SMTP; 1 Jan 1970 00:00:00 -0000\n"


@given(
    st.binary(max_size=12),
    st.binary(max_size=12),
    st.binary(max_size=12),
    st.binary(max_size=12),
    st.binary(max_size=12),
)
def test_strangers_cannot_add_lines_or_comments(host: bytes, ip: bytes, info: bytes, local: bytes, helo: bytes) -> None:
    line = received_from_network(b"SMTP", host, ip, info, local, helo, 0)
    assert line.count(b"\n") == 2 and line.endswith(b"-0000\n") and b"\n  by " in line
    assert line.count(b"(") == line.count(b")") <= 2
    assert line.isascii() and b";" not in line.split(b"with SMTP; ")[0]
