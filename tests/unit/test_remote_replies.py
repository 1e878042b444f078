"""wire.reply_reader: what a server says, in the form qmail-remote quotes it."""

import pytest

from notqmail.wire.reply_reader import MALFORMED, REPLY_MAX, TEXT_MAX, EndlessReply, Reply, ReplyReader

CASES = [
    (b"250 ok\r\n", [Reply(250, b"250 ok\n")]),
    (b"250 ok\n", [Reply(250, b"250 ok\n")]),
    (b"250\r\n", [Reply(250, b"250\n")]),
    (b"250-a\r\n250 b\r\n", [Reply(250, b"250-a\n250 b\n")]),
    (b"250-a\r\n550 b\r\n", [Reply(250, b"250-a\n550 b\n")]),  # the first line's code counts, as in C
    (b"250 a\r\n550 b\r\n", [Reply(250, b"250 a\n"), Reply(550, b"550 b\n")]),
    (b"2500 a\r\n", [Reply(250, b"2500 a\n")]),  # as in C: three digits, then anything
    (b"550 a\0b\rc\r\n", [Reply(550, b"550 a?bc\n")]),
    (b"\r\n", [Reply(MALFORMED, b"\n")]),
    (b"\n\n250 ok\n", [Reply(MALFORMED, b"\n"), Reply(MALFORMED, b"\n"), Reply(250, b"250 ok\n")]),
    (b"25\r\n", [Reply(MALFORMED, b"25\n")]),
    (b"abc def\r\n", [Reply(MALFORMED, b"abc def\n")]),
    (b"\xb2\xb2\xb2 x\r\n", [Reply(MALFORMED, b"\xb2\xb2\xb2 x\n")]),  # superscripts are no digits
    (b"abc-x\r\n250 y\r\n", [Reply(MALFORMED, b"abc-x\n250 y\n")]),
    (b"250-never ends\r\n", []),
    (b"250 no line end", []),
]


def read(pieces):
    reader, found = ReplyReader(), []
    for piece in pieces:
        reader.receive(piece)
        while (reply := reader.next_reply()) is not None:
            found.append(reply)
    return found


@pytest.mark.parametrize(("wire", "replies"), CASES)
def test_replies_do_not_depend_on_how_the_network_cuts_them(wire, replies):
    assert read([wire[i : i + 1] for i in range(len(wire))]) == replies
    for cut in range(len(wire) + 1):
        assert read([wire[:cut], wire[cut:]]) == replies


def test_of_a_long_reply_the_beginning_is_kept():
    [reply] = read([b"550-" + b"x" * 4000 + b"\r\n550 " + b"y" * 4000 + b"\r\n"])
    assert reply.code == 550 and len(reply.text) == TEXT_MAX


@pytest.mark.parametrize("piece", [b"250-x\r\n", b"x"])
def test_a_reply_without_end_is_an_error_and_not_a_growing_buffer(piece):
    with pytest.raises(EndlessReply):
        read([piece * 1000] * (REPLY_MAX // len(piece) // 1000 + 2))


def test_a_reader_that_heard_nothing_is_empty():
    reader = ReplyReader()
    assert reader.is_empty and len(reader) == 0
    reader.receive(b"250-a\r\n25")
    assert reader.next_reply() is None and not reader.is_empty and len(reader) == 2
    reader.receive(b"0 b\r\n")
    assert reader.next_reply().code == 250 and reader.is_empty


def test_how_much_of_a_reply_is_listened_to_and_kept():
    assert (TEXT_MAX, REPLY_MAX) == (5_000, 65_536)
    most = b"250-" + b"x" * (REPLY_MAX - 5) + b"\n"
    assert read([most[:-1]]) == [] and read([most]) == []
    assert read([b"220 hi\r\n", most, b"250 end\r\n"])[1].code == 250
    assert read([b"250 " + b"x" * (REPLY_MAX - 5) + b"\n"])[0].code == 250
    assert read([b"250 " + b"x" * (REPLY_MAX - 4) + b"\n"])[0].code == MALFORMED
    assert read([most[:-1] + b"x"]) == []
    for endless in (
        [b"220 hi\r\n", b"250-x" + most[4:]],
        [b"250-x" + most[4:]],
        [b"220 hi\r\n", b"250-\n" + most],
        [most[:-1] + b"xx"],
        [most, b"250-\n"],
    ):
        with pytest.raises(EndlessReply):
            read(endless)


def test_replies_are_equal_when_code_and_text_are():
    assert Reply(250, b"x") == Reply(250, b"x") and hash(Reply(250, b"x")) == hash(Reply(250, b"x"))
    for other in (Reply(251, b"x"), Reply(250, b"y"), (250, b"x")):
        assert Reply(250, b"x") != other
    assert repr(Reply(250, b"x")) == "Reply(250, b'x')"
