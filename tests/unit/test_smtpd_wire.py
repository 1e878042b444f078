"""wire/command_lines.py and wire/smtp_server.py: commands and addresses as qmail reads them."""

import pytest

from notqmail.wire import smtp_server
from notqmail.wire.command_lines import LINE_MAX, OVERLONG, CommandLines
from notqmail.wire.smtp_server import (
    BadSize,
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
    (b"VRFY ?x\r\n", (b"VRFY", b"?x")),
]


@pytest.mark.parametrize(("wire", "command"), COMMANDS)
def test_a_command_is_read_however_it_is_cut(wire: bytes, command: tuple[bytes, bytes]) -> None:
    for cut in range(len(wire) + 1):
        reader = CommandLines()
        reader.receive(wire[:cut])
        assert cut == len(wire) or reader.next_command() is None
        reader.receive(wire[cut:] + b"REST")
        assert reader.next_command() == command
        assert reader.next_command() is None
        assert reader.take_rest() == b"REST"
        assert len(reader) == 0


def test_many_commands_in_one_piece_take_no_quadratic_time() -> None:
    reader = CommandLines()
    reader.receive(b"NOOP\r\n" * 200_000)  # 1.2 MB: copying the rest for each line would move 120 GB
    count = 0
    while reader.next_command() is not None:
        count += 1
    assert count == 200_000


def test_an_overlong_line_is_one_event_and_the_next_command_is_whole() -> None:
    wire = b"NOOP " + b"x" * 5000 + b"\r\nQUIT\r\n"
    for cut in (1, 4090, 4096, 4097, 4098, 5005, len(wire) - 1):
        reader, events = CommandLines(), []
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
    (b"FROM: ?a@b", b"?a@b", b""),
    (b"a@b", b"", b""),
    (b"", b"", b""),
    (b"<a@b", b"a@b", b""),
    (b"<a b@c> x", b"a b@c", b" x"),
    (b'<"a"@c> x', b"a@c", b" x"),
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


def test_a_line_has_at_most_4096_bytes_however_it_comes() -> None:
    longest = b"NOOP " + b"x" * 4091
    for line, wanted in ((longest, (b"NOOP", longest[5:])), (longest + b"x", OVERLONG)):
        for end in (b"\n", b"\r\n"):
            for cut in (0, 4095, 4096, 4097, 4098):
                reader = CommandLines()
                reader.receive((line + end)[:cut])
                first = reader.next_command()
                reader.receive((line + end)[cut:])
                assert [first, reader.next_command()] in ([None, wanted], [wanted, None])
    reader = CommandLines()
    reader.receive(longest + b"xx")  # not even a CR: what is thrown away is not kept
    assert reader.next_command() is None and len(reader) == 0
    reader.receive(b"y" * 5_000)
    assert reader.next_command() is None and len(reader) == 0


def test_a_reader_that_got_nothing_has_nothing() -> None:
    assert len(CommandLines()) == 0 and CommandLines().next_command() is None


@pytest.mark.parametrize(
    ("text", "permanent", "enhanced"),
    [
        (b"no", True, b"554 5.3.0 no"),
        (b"later", False, b"451 4.3.0 later"),
        (b"no (#5.7.1)", True, b"554 5.7.1 no (#5.7.1)"),
        (b"no (#5.123.456)", True, b"554 5.123.456 no (#5.123.456)"),
        (b"no (#5.1234.1)", True, b"554 5.3.0 no (#5.1234.1)"),
        (b"no (#5.7)", True, b"554 5.3.0 no (#5.7)"),
        (b"no (#5.7.1.1)", True, b"554 5.3.0 no (#5.7.1.1)"),
        (b"no (#5.x.1)", True, b"554 5.3.0 no (#5.x.1)"),
        (b"no (#5..1)", True, b"554 5.3.0 no (#5..1)"),
        (b"no (#4.7.1)", True, b"554 5.3.0 no (#4.7.1)"),  # of the other kind: not believed
        (b"later (#4.7.1)", False, b"451 4.7.1 later (#4.7.1)"),
        (b"no (#5.7.1) really", True, b"554 5.3.0 no (#5.7.1) really"),
        (b"no 5.7.1)", True, b"554 5.3.0 no 5.7.1)"),
        (b"#5.7.1)", True, b"554 5.3.0 #5.7.1)"),
        (b"(#4.1.1) (#5.7.1)", True, b"554 5.7.1 (#4.1.1) (#5.7.1)"),
        (b"what?\r\n\r\n", True, b"554 5.3.0 what?"),
        (b"a\r\nb\0\x1f\x20\x7e\x7f\xff", True, b"554 5.3.0 a??b??\x20\x7e?\xff"),
        (b"x" * 901, True, b"554 5.3.0 " + b"x" * 900),
    ],
)
def test_a_queue_s_refusal_is_one_line_with_the_code_that_it_names(
    text: bytes, permanent: bool, enhanced: bytes
) -> None:
    reply = queue_refusal(text, permanent=permanent)
    assert reply.enhanced == enhanced + b"\r\n"
    code, _, said = enhanced.split(b" ", 2)
    assert reply.plain == code + b" " + said + b"\r\n"


REPLIES = {  # as they go out after EHLO; the texts are qmail-smtpd's where it has one
    "MAIL_OK": b"250 2.1.0 ok",
    "RCPT_OK": b"250 2.1.5 ok",
    "NOOP_OK": b"250 2.0.0 ok",
    "FLUSHED": b"250 2.0.0 flushed",
    "TRY_IT": b"252 2.0.0 send some mail, i'll try my best",
    "HELP": b"214 2.0.0 notqmail home page: https://notqmail.org",
    "QUEUE_DID_NOT_START": b"451 4.3.0 qqt failure (#4.3.0)",
    "BARE_NEWLINE": b"451 4.5.2 See https://cr.yp.to/docs/smtplf.html.",
    "TIMED_OUT": b"451 4.4.2 timeout (#4.4.2)",
    "NO_CONTROLS": b"421 4.3.0 unable to read controls (#4.3.0)",
    "NO_OWN_ADDRESSES": b"421 4.3.0 unable to figure out my IP addresses (#4.3.0)",
    "BUSY": b"421 4.3.2 too many connections, try again later (#4.3.2)",
    "GOING_DOWN": b"421 4.3.2 shutting down, try again later (#4.3.2)",
    "TOO_MANY_ERRORS": b"421 4.7.0 too many bad commands (#4.7.0)",
    "TOO_MANY_COMMANDS": b"421 4.7.0 too many commands without mail (#4.7.0)",
    "TOO_MANY_RECIPIENTS": b"452 4.5.3 too many recipients (#4.5.3)",
    "LINE_TOO_LONG": b"500 5.5.2 line too long (#5.5.2)",
    "BAD_SIZE": b"501 5.5.4 SIZE is not a number (#5.5.4)",
    "UNIMPLEMENTED": b"502 5.5.1 unimplemented (#5.5.1)",
    "WANT_MAIL": b"503 5.5.1 MAIL first (#5.5.1)",
    "WANT_RCPT": b"503 5.5.1 RCPT first (#5.5.1)",
    "TOO_BIG": b"552 5.3.4 sorry, that message size exceeds my databytes limit (#5.3.4)",
    "BAD_SENDER": b"553 5.7.1 sorry, your envelope sender is in my badmailfrom list (#5.7.1)",
    "NO_GATEWAY": b"553 5.7.1 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
    "LOOPING": b"554 5.4.6 too many hops, this message is looping (#5.4.6)",
    "SYNTAX": b"555 5.5.4 syntax error (#5.5.4)",
}


def test_every_reply_says_what_log_readers_and_peers_know() -> None:
    """A program at the other end decides by the code, and people search the web for the text."""
    found = {name: value for name, value in vars(smtp_server).items() if isinstance(value, smtp_server.Reply)}
    assert {name: reply.enhanced for name, reply in found.items()} == {
        name: wire + b"\r\n" for name, wire in REPLIES.items()
    }
    for name, wire in REPLIES.items():
        code, _, text = wire.split(b" ", 2)
        assert found[name].plain == code + b" " + text + b"\r\n"
    assert smtp_server.GO_AHEAD == b"354 go ahead\r\n"
    assert ehlo_reply(b"me", 0) == (
        b"250-me\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 0\r\n250 ENHANCEDSTATUSCODES\r\n"
    )


def test_the_limits_of_what_is_read() -> None:
    assert (LINE_MAX, smtp_server.ADDRESS_MAX, smtp_server.QUEUE_TEXT_MAX) == (4_096, 899, 900)
    assert size_parameter(b"SIZE=" + b"9" * 20) == int("9" * 20)
