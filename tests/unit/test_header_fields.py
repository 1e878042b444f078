"""Header fields and the end of the header."""

import pytest

from notqmail.message.header_fields import HeaderSplitter, HeaderTooLong, field_name


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"To: x\n", b"to"),
        (b"TO:x\n", b"to"),
        (b"To \t: x\n", b"to"),
        (b"X-A!: x\n", b"x-a!"),
        (b"To\n", None),
        (b": x\n", None),
        (b" : x\n", None),
        (b" To: x\n", None),
        (b"T o: x\n", None),
        (b"T\x7f: x\n", None),
        (b"T\xe9: x\n", None),
        (b"\n", None),
        (b"", None),
    ],
)
def test_what_begins_a_field(line: bytes, name: bytes | None) -> None:
    assert field_name(line) == name


def split(*pieces: bytes) -> tuple[list[bytes], bytes]:
    splitter = HeaderSplitter()
    for piece in pieces:
        splitter.receive(piece)
    splitter.finish()
    return splitter.fields, splitter.body


MESSAGES = [
    (b"", [], b""),
    (b"\n", [], b"\n"),
    (b"\nbody", [], b"\nbody"),
    (b"A: b\n", [b"A: b\n"], b""),  # no body: no blank line is made
    (b"A: b", [b"A: b\n"], b""),
    (b"A: b\n\n", [b"A: b\n"], b"\n"),
    (b"A: b\n c\n\td\nE: f\n\nx\n\ny: z\n", [b"A: b\n c\n\td\n", b"E: f\n"], b"\nx\n\ny: z\n"),
    (b"A: b\n \nC: d\n", [b"A: b\n \n", b"C: d\n"], b""),  # a blank line with a blank goes on
    (b"A: b\nnot a field\nC: d\n", [b"A: b\n"], b"\nnot a field\nC: d\n"),
    (b" first\nA: b\n", [], b"\n first\nA: b\n"),
    (b"body", [], b"\nbody\n"),
    (b"From joe Mon Jan 1\nA: b\n", [b"MBOX-Line: From joe Mon Jan 1\n", b"A: b\n"], b""),
    (b"A: b\nFrom : joe\n c\n", [b"A: b\n", b"MBOX-Line: From : joe\n c\n"], b""),  # as qmail does it
    (b"A: b\r\n\r\nx", [b"A: b\r\n"], b"\n\r\nx"),  # CR LF is no blank line
]


@pytest.mark.parametrize(("message", "fields", "body"), MESSAGES)
def test_a_message_is_split(message: bytes, fields: list[bytes], body: bytes) -> None:
    assert split(message) == (fields, body)


@pytest.mark.parametrize(("message", "fields", "body"), MESSAGES)
def test_the_split_does_not_depend_on_the_pieces(message: bytes, fields: list[bytes], body: bytes) -> None:
    for cut in range(len(message) + 1):
        assert split(message[:cut], message[cut:]) == (fields, body)
    assert split(*(message[i : i + 1] for i in range(len(message)))) == (fields, body)


@pytest.mark.parametrize("pieces", [[b"A: " + b"x" * 100], [b"A: b\n"] * 20, [b"A" * 10] * 9, [b"A: b\n" * 20]])
def test_a_header_beyond_the_limit_is_refused(pieces: list[bytes]) -> None:
    splitter = HeaderSplitter(header_max=80)
    with pytest.raises(HeaderTooLong):
        for piece in pieces:
            splitter.receive(piece)


def test_the_limit_is_the_headers_alone() -> None:
    splitter = HeaderSplitter(header_max=80)
    splitter.receive(b"A: " + b"x" * 76 + b"\n\n" + b"y" * 1_000)
    assert splitter.fields == [b"A: " + b"x" * 76 + b"\n"]
    assert splitter.body == b"\n" + b"y" * 1_000
