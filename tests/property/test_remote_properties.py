"""Properties of what qmail-remote puts on the wire and of what it makes of any reply."""

from hypothesis import given
from hypothesis import strategies as st

from notqmail.deliver.remote_report import combine_records
from notqmail.wire.reply_reader import EndlessReply, ReplyReader
from notqmail.wire.smtp_client import Envelope, Session
from notqmail.wire.stuffing import END, Stuffer

bodies = st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n", b"\r\n.\r\n", b"\0", b"\xff"]), max_size=30).map(
    b"".join
)


@st.composite
def cut(draw, data):
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def unstuff(wire):
    """A naive receiver: lines end in CRLF, a lone dot ends, a leading dot goes."""
    lines = wire.split(b"\r\n")
    end = lines.index(b".")
    return [line[1:] if line.startswith(b".") else line for line in lines[:end]], lines[end + 1 :]


@given(st.data(), bodies)
def test_a_receiver_gets_the_lines_back_and_nothing_follows_the_only_end(data, body):
    message = body + b"\n"
    stuffer = Stuffer()
    wire = b"".join(stuffer.feed(piece) for piece in data.draw(cut(message))) + stuffer.finish() + END
    lines, rest = unstuff(wire)
    assert rest == [b""]
    assert (b"\r\n" + wire).count(b"\r\n.\r\n") == 1
    assert b"\n" not in wire.replace(b"\r\n", b"") and b"\r" not in wire.replace(b"\r\n", b"")
    normal = message.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert lines == normal.split(b"\n")[:-1]


replies = st.lists(
    st.sampled_from(
        [b"220 x\r\n", b"250 x\r\n", b"250-P\r\n", b"250-PIPELINING\r\n", b"354 go\r\n", b"450 no\r\n", b"550-a\r\n",
         b"421 bye\n", b"\r\n", b"2", b"abc\r\n", b"-\0\r\n", b"5000\n", b"999 x\n", b"\xff\xff\xff-\n"]
    ),
    max_size=25,
).map(b"".join)  # fmt: skip


@given(st.data(), replies)
def test_replies_do_not_depend_on_the_cuts(data, wire):
    def read(pieces):
        reader, found = ReplyReader(), []
        for piece in pieces:
            reader.receive(piece)
            while (reply := reader.next_reply()) is not None:
                found.append(reply)
        return found

    assert read(data.draw(cut(wire))) == read([wire])


def talk(pieces, recipients, partial):
    session = Session(b"192.0.2.1", b"me")
    session.begin(Envelope(b"s@x", recipients, size=9, has_8bit=lambda: True, ends_mid_line=partial))
    sent = b""
    for piece in pieces:
        sent += session.receive(piece)
        if session.wants_body:
            sent += b"body\r\n" + session.end_body() + session.after_body()
    session.connection_died()
    return session.outcome, sent


@given(st.data(), replies, st.integers(1, 4), st.booleans())
def test_any_peer_gets_an_outcome_that_does_not_depend_on_the_cuts(data, wire, count, partial):
    recipients = [b"r%d@y" % number for number in range(count)]
    outcome, sent = talk(data.draw(cut(wire)), recipients, partial)
    assert (outcome, sent) == talk([wire], recipients, partial)
    assert len(outcome.records) <= count
    assert outcome.report.kind in (b"K", b"Z", b"D")
    if outcome.report.succeeded:
        assert b"body\r\n.\r\n" in sent and any(letter == b"r" for letter, _ in outcome.records)
    if partial or b"354" not in wire:
        assert b"body" not in sent


@given(st.binary(max_size=60))
def test_any_bytes_are_read_without_an_error_of_ours(wire):
    reader = ReplyReader()
    reader.receive(wire)
    try:
        while reader.next_reply() is not None:
            pass
    except EndlessReply:
        raise AssertionError("60 bytes are not endless") from None


@given(st.lists(st.sampled_from([b"r", b"s", b"h", b"K", b"Z", b"D", b"\0", b"x", b"\n"]), max_size=12).map(b"".join))
def test_any_output_of_a_foreign_qmail_remote_becomes_a_report_and_success_needs_a_k(output):
    report = combine_records(output)
    assert report.kind in (b"K", b"Z", b"D") and b"\0" not in report.text
    if report.succeeded:
        assert b"K" in output
