"""wire/smtp_server.py: commands and addresses as qmail reads them."""

import pytest

from notqmail.wire.smtp_server import (
    OVERLONG,
    BadSize,
    CommandReader,
    accepted,
    ehlo_reply,
    parse_path,
    queue_refusal,
    size_parameter,
)

COMMANDS = [
    (b"NOOP\r\n", (b"NOOP", b"")),
    (b"noop\n", (b"NOOP", b"")),
    (b"MAIL  FROM:<a@b> \r\n", (b"MAIL", b"FROM:<a@b> ")),
    (b"\r\n", (b"", b"")),
    (b" NOOP\r\n", (b"", b"NOOP")),
    (b"NOOP\r\r\n", (b"NOOP\r", b"")),
    (b"NO\0OP x\r\n", (b"NO", b"")),
    (b"MAIL FROM:<a\0b>\r\n", (b"MAIL", b"FROM:<a")),
    (b"\xe9\t \r\n", (b"\xe9\t", b"")),
]


@pytest.mark.parametrize(("wire", "command"), COMMANDS)
def test_a_command_is_read_however_it_is_cut(wire: bytes, command: tuple[bytes, bytes]) -> None:
    for cut in range(len(wire) + 1):
        reader = CommandReader()
        reader.receive(wire[:cut])
        assert cut == len(wire) or reader.next_command() is None
        reader.receive(wire[cut:] + b"REST")
        assert reader.next_command() == command
        assert reader.next_command() is None
        assert reader.take_rest() == b"REST"
        assert len(reader) == 0


def test_many_commands_in_one_piece_take_no_quadratic_time() -> None:
    reader = CommandReader()
    reader.receive(b"NOOP\r\n" * 200_000)  # 1.2 MB: copying the rest for each line would move 120 GB
    count = 0
    while reader.next_command() is not None:
        count += 1
    assert count == 200_000


def test_an_overlong_line_is_one_event_and_the_next_command_is_whole() -> None:
    wire = b"NOOP " + b"x" * 5000 + b"\r\nQUIT\r\n"
    for cut in (1, 4090, 4096, 4097, 4098, 5005, len(wire) - 1):
        reader, events = CommandReader(), []
        for part in (wire[:cut], wire[cut:]):
            reader.receive(part)
            events += iter(reader.next_command, None)
        assert events == [OVERLONG, (b"QUIT", b"")]


PATHS = [
    (b"FROM:<a@b>", b"a@b", b""),
    (b"FROM:<a@b> SIZE=1 BODY=8BITMIME", b"a@b", b" SIZE=1 BODY=8BITMIME"),
    (b"FROM:<>", b"", b""),
    (b"FROM: a@b SIZE=1", b"a@b", b"SIZE=1"),
    (b"FROM:a@b", b"a@b", b""),
    (b"a@b", b"", b""),
    (b"", b"", b""),
    (b"<a@b", b"a@b", b""),
    (b"FROM:<@x,@y:a@b>", b"a@b", b""),
    (b"FROM:<@x>", b"", b""),
    (b'FROM:<"a b"@c>', b"a b@c", b""),
    (b'FROM:<"a>b"@c>x', b"a>b@c", b"x"),
    (b"FROM:<a\\>b@c>x", b"a>b@c", b"x"),
    (b'FROM:<"a\\"b"@c>', b'a"b@c', b""),
    (b'FROM:<"open@c>', b"open@c>", b""),
    (b"FROM:<a\\", b"a", b""),
    (b'FROM:"a b"@c d', b"a b@c", b"d"),
    (b"FROM:<<a@b>>", b"<a@b", b">"),
    (b"FROM:<a@b>c>", b"a@b", b"c>"),
    (b"FROM:<\xff@b>", b"\xff@b", b""),
]


@pytest.mark.parametrize(("argument", "address", "rest"), PATHS)
def test_addresses_are_read_as_qmail_reads_them(argument: bytes, address: bytes, rest: bytes) -> None:
    assert parse_path(argument) == (address, rest)


def test_size_is_found_among_the_parameters() -> None:
    assert size_parameter(b" BODY=8BITMIME size=12 X") == 12
    assert size_parameter(b" BODY=8BITMIME") is None
    assert size_parameter(b"") is None
    for bad in (b"SIZE", b"SIZE=", b"SIZE=-1", b"SIZE=1x", b"SIZE=" + b"9" * 21, b"SIZE=\xb2"):
        with pytest.raises(BadSize):
            size_parameter(bad)


def test_replies_are_one_line_in_two_forms() -> None:
    assert accepted(5, 7).plain == b"250 ok 5 qp 7\r\n"
    assert accepted(5, 7).enhanced == b"250 2.0.0 ok 5 qp 7\r\n"
    assert queue_refusal(b"x\r\n", permanent=True).plain == b"554 x\r\n"
    assert queue_refusal(b"x (#5.1.3)", permanent=True).enhanced == b"554 5.1.3 x (#5.1.3)\r\n"
    assert ehlo_reply(b"m", 9).splitlines()[3] == b"250-SIZE 9"
