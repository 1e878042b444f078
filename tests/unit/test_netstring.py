"""Netstrings: what is one, and what breaks the framing for good."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notqmail.wire.netstring import LENGTH_MAX, BadNetstring, decode_all, decode_one, encode, header_at


@given(st.lists(st.binary(max_size=40)))
def test_what_is_encoded_is_decoded(parts: list[bytes]) -> None:
    assert decode_all(b"".join(map(encode, parts))) == parts


@pytest.mark.parametrize(
    ("data", "text", "after"),
    [(b"5:hello,", b"hello", 8), (b"0:,", b"", 3), (b"3:a,b,rest", b"a,b", 6), (b"003:abc,", b"abc", 8)],
)
def test_the_first_one_ends_where_its_comma_is(data: bytes, text: bytes, after: int) -> None:
    assert decode_one(data) == (text, after)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"5", b"5:", b"5:hell", b"5:hello",  # cut short
        b"5:hello;", b"5:hello\n",  # another byte where the comma belongs
        b":hello,",  # no length
        b"-5:hello,", b"+5:hello,", b" 5:hello,", b"5 :hello,", b"0x5:hello,", b"\xb2:ab,",  # no number
        b"200000001:x,",  # too long
        b"99999999999999999999:x,", b"11111111111",  # longer than any length
        b"hello",
    ],
)  # fmt: skip
def test_everything_else_breaks_the_framing(data: bytes) -> None:
    with pytest.raises(BadNetstring):
        decode_one(data)


def test_a_header_is_waited_for_but_not_for_ever() -> None:
    assert header_at(b"", 0) is None
    assert header_at(b"123", 0) is None
    assert header_at(b"xx12:", 2) == (5, 17)
    assert header_at(b"%d:" % LENGTH_MAX, 0) == (10, LENGTH_MAX + 10)
    for broken in (b"1x", b"x", b"12345678901", b":"):
        with pytest.raises(BadNetstring):
            header_at(broken, 0)


@given(st.binary(max_size=30))
def test_no_bytes_make_it_raise_anything_else(data: bytes) -> None:
    try:
        text, after = decode_one(data)
    except BadNetstring:
        return
    assert data[:after].endswith(text + b",")


@pytest.mark.parametrize("start", [0, 3])
def test_a_length_has_at_most_ten_digits_and_is_no_more_than_the_limit(start: int) -> None:
    before = b"???"[:start]
    assert header_at(before + b"1234567890", start) is None  # its colon may still come
    assert header_at(before + b"0000000007:", start) == (start + 11, start + 18)
    assert header_at(before + b"200000000:", start) == (start + 10, start + 200_000_010)
    for broken in (b"00000000007:", b"200000001:", b":", b":hello,", b"hello, world"):
        with pytest.raises(BadNetstring):
            header_at(before + broken, start)
