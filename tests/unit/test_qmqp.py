"""The queue's own protocol: packages, descriptors, the resident's hello; whatever way the socket cuts them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notqmail.wire.netstring import BadNetstring, encode
from notqmail.wire.qmqp import (
    INLINE_MAX,
    RESIDENT_HELLO,
    PackageReader,
    decode_package,
    encode_descriptor_package,
    encode_package,
)


def test_a_package_is_the_classic_one() -> None:
    assert encode_package(b"hello", b"s@x", [b"a@b", b"c@d"]) == b"26:5:hello,3:s@x,3:a@b,3:c@d,,"


def test_a_descriptor_s_package_has_only_the_length() -> None:
    assert encode_descriptor_package(70_000, b"s@x", [b"a@b"]) == b"19:@70000,3:s@x,3:a@b,,"


@given(st.binary(max_size=60), st.binary(max_size=20), st.lists(st.binary(max_size=20), max_size=4))
def test_what_is_packed_is_unpacked(message: bytes, sender: bytes, recipients: list[bytes]) -> None:
    for data, inline in (
        (encode_package(message, sender, recipients), True),
        (encode_descriptor_package(len(message), sender, recipients), False),
    ):
        (body,) = PackageReader().receive(data)
        package = decode_package(body)
        assert (package.sender, package.recipients, package.length) == (sender, recipients, len(message))
        assert package.message == (message if inline else None)


WIRE = RESIDENT_HELLO + encode_package(b"hello,", b"", [b"a@b"]) + encode_descriptor_package(9, b"s", []) + encode(b"")


def test_the_bodies_do_not_depend_on_how_the_socket_cuts_them() -> None:
    whole = PackageReader().receive(WIRE)
    assert whole == [b"!", b"6:hello,,0:,3:a@b,", b"@9,1:s,", b""]
    for cut in range(len(WIRE) + 1):
        reader = PackageReader()
        assert reader.receive(WIRE[:cut]) + reader.receive(WIRE[cut:]) == whole
    reader = PackageReader()
    assert [body for byte in WIRE for body in reader.receive(bytes([byte]))] == whole


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"5:hell",  # no message
        b"5:hello,",  # no sender
        b"5:hello,1:s",  # a sender without comma
        b"5:hello,1:s,3:ab,",  # a recipient cut short
        b"5:hello,1:s,3:abc,junk",
        b"@", b"@,1:s,", b"@x,1:s,", b"@-1,1:s,", b"@12", b"@12,",  # no length, or no sender
        b"@123456789012345678901234567890,1:s,",  # a length nothing has
        b"@1:a,1:s,",
    ],
)  # fmt: skip
def test_malformed_bodies(body: bytes) -> None:
    with pytest.raises(BadNetstring):
        decode_package(body)


def test_a_frame_longer_than_the_limit_is_refused_before_it_is_here() -> None:
    reader = PackageReader(limit=100)
    assert reader.receive(encode(b"x" * 100)) == [b"x" * 100]
    with pytest.raises(BadNetstring):
        reader.receive(b"101:")


@pytest.mark.parametrize("wire", [b"GET / HTTP/1.0\r\n", b"\0", b"5:hello!", b"12345678901234567890"])
def test_what_is_no_frame(wire: bytes) -> None:
    for cut in range(len(wire)):
        reader = PackageReader()
        with pytest.raises(BadNetstring):
            reader.receive(wire[:cut])
            reader.receive(wire[cut:])


@given(st.binary(max_size=60))
def test_no_bytes_make_it_raise_anything_else(data: bytes) -> None:
    try:
        for body in PackageReader(limit=1_000).receive(data):
            decode_package(body)
        decode_package(data)
    except BadNetstring:
        pass  # the one thing it may raise


def test_a_file_s_length_has_at_most_twenty_digits() -> None:
    assert decode_package(b"@" + b"9" * 20 + b",1:s,").length == int("9" * 20)
    with pytest.raises(BadNetstring):
        decode_package(b"@" + b"9" * 21 + b",1:s,")


def test_the_reader_tells_how_much_of_a_package_waits() -> None:
    reader = PackageReader()
    assert reader.waiting == 0
    assert reader.receive(b"5:hello,3:a") == [b"hello"]
    assert reader.waiting == 3


def test_what_was_whole_before_broken_framing_comes_first_and_then_it_breaks() -> None:
    reader = PackageReader()
    assert reader.receive(b"5:hello,0:,x") == [b"hello", b""]
    with pytest.raises(BadNetstring):
        reader.receive(b"")


def test_messages_of_64_kilobytes_travel_in_the_package() -> None:
    assert INLINE_MAX == 65_536
