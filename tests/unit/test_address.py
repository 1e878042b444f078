"""Addresses: where box and host part, and what must be quoted for the network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notqmail.message.address import needs_quotes, quote_address, quote_box


@pytest.mark.parametrize(
    ("box", "quoted"),
    [
        (b"joe", b"joe"), (b"joe.smith", b"joe.smith"), (b"a+b=c/d", b"a+b=c/d"),
        (b"!#$%&'*-?^_`{|}~", b"!#$%&'*-?^_`{|}~"),
        (b"", b'""'), (b".joe", b'".joe"'), (b"joe.", b'"joe."'), (b"a..b", b'"a..b"'), (b".", b'"."'),
        (b"joe smith", b'"joe smith"'), (b"a@b", b'"a@b"'), (b"a,b", b'"a,b"'), (b"a(b)", b'"a(b)"'),
        (b'a"b', b'"a\\"b"'), (b"a\\b", b'"a\\\\b"'), (b"a\nb\rc", b'"a\\\nb\\\rc"'), (b"a\tb", b'"a\tb"'),
        (b"\xc3\xa9", b'"\xc3\xa9"'), (b"a\0b", b'"a\0b"'), (b"\x7f", b'"\x7f"'),
    ],
)  # fmt: skip
def test_a_box_is_quoted_where_it_must_be(box: bytes, quoted: bytes) -> None:
    assert quote_box(box) == quoted
    assert needs_quotes(box) == (quoted != box)
    assert quote_address(box + b"@h") == quoted + b"@h"


@pytest.mark.parametrize(
    ("address", "quoted"),
    [(b"", b""), (b"joe", b"joe"), (b"joe smith", b'"joe smith"'), (b"@h", b'""@h'), (b"a@b@h", b'"a@b"@h'),
     (b"a@", b"a@")],
)  # fmt: skip
def test_only_the_box_of_an_address_is_quoted(address: bytes, quoted: bytes) -> None:
    assert quote_address(address) == quoted


@given(st.binary(max_size=20))
def test_what_was_quoted_can_be_read_back(box: bytes) -> None:
    quoted = quote_box(box)
    if quoted == box:
        return
    assert quoted[:1] == quoted[-1:] == b'"'
    back, escaped = bytearray(), False
    for byte in quoted[1:-1]:
        if byte == 0x5C and not escaped:
            escaped = True
            continue
        assert escaped or byte != 0x22, "a quote ends the string too early"
        back.append(byte)
        escaped = False
    assert (bytes(back), escaped) == (box, False)
