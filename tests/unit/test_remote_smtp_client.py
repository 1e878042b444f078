"""wire.smtp_client: dialogues as transcripts; C: we say, S: the server says. The outcome: as qmail-remote prints it."""

import pytest

from notqmail.wire.reply_reader import REPLY_MAX, Reply
from notqmail.wire.reports import permanent, temporary
from notqmail.wire.smtp_client import QUIT, UNANSWERED_MAX, Envelope, Outcome, Session, offered_extensions, remote_said

BODY = b"Subject: x\r\n\r\nhi\r\n"
HELLO = ["S:220 hi", "C:EHLO me", "S:502 what?", "C:HELO me", "S:250 ok"]
PIPE = ["S:220 hi", "C:EHLO me", "S:250-it\r\n250-PIPELINING\r\n250 SIZE 1000"]
SENT = ["C:DATA", "S:354 go", "BODY"]

DIALOGUES = {
    "one recipient, an old server": (
        [*HELLO, "C:MAIL FROM:<s@x>", "S:250 ok", "C:RCPT TO:<a@y>", "S:250 ok", *SENT, "S:250 queued"],
        b"r\0KIP accepted message.\nRemote host said: 250 queued\n\0",
    ),
    "extensions that are offered are used": (
        ["S:220 hi", "C:EHLO me", "S:250-it\r\n250-size\r\n250 8bitmime", "C:MAIL FROM:<s@x> SIZE=18 BODY=8BITMIME",
         "S:250 ok", "C:RCPT TO:<a@y>", "S:250 ok", *SENT, "S:250 queued"],
        b"r\0KIP accepted message.\nRemote host said: 250 queued\n\0",
    ),
    "pipelining: all in one go": (
        [*PIPE, "C:MAIL FROM:<s@x> SIZE=18\r\nRCPT TO:<a@y>\r\nDATA", "S:250 ok\r\n250 ok\r\n354 go",
         "BODY", "S:250 q"],
        b"r\0KIP accepted message.\nRemote host said: 250 q\n\0",
    ),
    "pipelining: sender refused": (
        [*PIPE, "C:MAIL FROM:<s@x> SIZE=18\r\nRCPT TO:<a@y>\r\nDATA", "S:550 no\r\n503 eh\r\n503 eh"],
        b"DConnected to IP but sender was rejected.\nRemote host said: 550 no\n\0",
    ),
    "pipelining: nobody accepted, yet DATA is: an empty message ends it": (
        [*PIPE, "C:MAIL FROM:<s@x> SIZE=18\r\nRCPT TO:<a@y>\r\nDATA", "S:250 ok\r\n550 no\r\n354 go", "C:."],
        b"hIP does not like recipient.\nRemote host said: 550 no\n\0DGiving up on IP.\n\0",
    ),
    "pipelining: nobody accepted, DATA neither": (
        [*PIPE, "C:MAIL FROM:<s@x> SIZE=18\r\nRCPT TO:<a@y>\r\nDATA", "S:250 ok\r\n450 no\r\n554 no"],
        b"sIP does not like recipient.\nRemote host said: 450 no\n\0DGiving up on IP.\n\0",
    ),
    "mixed recipients": (
        [*HELLO, "C:MAIL FROM:<s@x>", "S:250 ok", "C:RCPT TO:<a@y>", "S:550 no such", "C:RCPT TO:<b@y>",
         "S:450-a\r\n450 later", "C:RCPT TO:<c@y>", "S:250 ok", *SENT, "S:250 done"],
        b"hIP does not like recipient.\nRemote host said: 550 no such\n\0"
        b"sIP does not like recipient.\nRemote host said: 450-a\n450 later\n\0"
        b"r\0KIP accepted message.\nRemote host said: 250 done\n\0",
    ),
    "mixed recipients, pipelined": (
        [*PIPE, "C:MAIL FROM:<s@x> SIZE=18\r\nRCPT TO:<a@y>\r\nRCPT TO:<b@y>\r\nRCPT TO:<c@y>\r\nDATA",
         "S:250 ok\r\n550 no\r\n250 ok\r\n450 no\r\n354 go", "BODY", "S:250 done"],
        b"hIP does not like recipient.\nRemote host said: 550 no\n\0r\0"
        b"sIP does not like recipient.\nRemote host said: 450 no\n\0"
        b"KIP accepted message.\nRemote host said: 250 done\n\0",
    ),
    "greeting refused for good is temporary": (
        ["S:554 go away"], b"ZConnected to IP but greeting failed.\nRemote host said: 554 go away\n\0",
    ),
    "hello deferred": (
        ["S:220 hi", "C:EHLO me", "S:421 busy"],
        b"ZConnected to IP but my name was rejected.\nRemote host said: 421 busy\n\0",
    ),
    "hello refused": (
        ["S:220 hi", "C:EHLO me", "S:550 no", "C:HELO me", "S:550 no"],
        b"ZConnected to IP but my name was rejected.\nRemote host said: 550 no\n\0",
    ),
    "sender deferred": (
        [*HELLO, "C:MAIL FROM:<s@x>", "S:451 later"],
        b"ZConnected to IP but sender was rejected.\nRemote host said: 451 later\n\0",
    ),
    "data deferred": (
        [*HELLO, "C:MAIL FROM:<s@x>", "S:250 ok", "C:RCPT TO:<a@y>", "S:250 ok", "C:DATA", "S:451 later"],
        b"r\0ZIP failed on DATA command.\nRemote host said: 451 later\n\0",
    ),
    "data refused": (
        [*HELLO, "C:MAIL FROM:<s@x>", "S:250 ok", "C:RCPT TO:<a@y>", "S:250 ok", "C:DATA", "S:554 no"],
        b"r\0DIP failed on DATA command.\nRemote host said: 554 no\n\0",
    ),
    "a server one reply ahead is never sent the body": (
        [*HELLO, "C:MAIL FROM:<s@x>", "S:250 ok\r\n250 ok", "C:RCPT TO:<a@y>\r\nDATA", "S:250 ok"],
        b"r\0ZIP failed on DATA command.\nRemote host said: 250 ok\n\0",
    ),
    "message refused": (
        [*HELLO, "C:MAIL FROM:<s@x>", "S:250 ok", "C:RCPT TO:<a@y>", "S:250 ok", *SENT, "S:552 too big"],
        b"r\0DIP failed after I sent the message.\nRemote host said: 552 too big\n\0",
    ),
    "message deferred": (
        [*HELLO, "C:MAIL FROM:<s@x>", "S:250 ok", "C:RCPT TO:<a@y>", "S:250 ok", *SENT, "S:451 no"],
        b"r\0ZIP failed after I sent the message.\nRemote host said: 451 no\n\0",
    ),
    "354 after the dot is no acceptance": (
        [*HELLO, "C:MAIL FROM:<s@x>", "S:250 ok", "C:RCPT TO:<a@y>", "S:250 ok", *SENT, "S:354 what?"],
        b"r\0ZIP failed after I sent the message.\nRemote host said: 354 what?\n\0",
    ),
    "nonsense after the dot": (
        [*HELLO, "C:MAIL FROM:<s@x>", "S:250 ok", "C:RCPT TO:<a@y>", "S:250 ok", *SENT, "S:ok"],
        b"r\0ZIP failed after I sent the message.\nRemote host said: ok\n\0",
    ),
    "nonsense for a recipient": (
        [*HELLO, "C:MAIL FROM:<s@x>", "S:250 ok", "C:RCPT TO:<a@y>", "S:???"],
        b"sIP does not like recipient.\nRemote host said: ???\n\0DGiving up on IP.\n\0",
    ),
    "the line goes dead before the end": (
        [*HELLO, "C:MAIL FROM:<s@x>", "S:250 ok", "C:RCPT TO:<a@y>", "S:250 ok", "C:DATA"],
        b"r\0ZConnected to IP but connection died. (#4.4.2)\n\0",
    ),
    "the line goes dead after the end": (
        [*HELLO, "C:MAIL FROM:<s@x>", "S:250 ok", "C:RCPT TO:<a@y>", "S:250 ok", *SENT],
        b"r\0ZConnected to IP but connection died. Possible duplicate! (#4.4.2)\n\0",
    ),
}  # fmt: skip


def play(steps, *, byte_by_byte):
    """The outcome; fails where we say something else than the transcript."""
    recipients = sorted({word for step in steps for word in (b"a@y", b"b@y", b"c@y") if word.decode() in step})
    session = Session(b"IP", b"me")
    sent = session.begin(Envelope(b"s@x", recipients or [b"a@y"], size=len(BODY), has_8bit=lambda: True))
    for step in steps:
        kind, _, text = step.partition(":")
        if kind == "S":
            assert sent == b"", f"said too much before {step}: {sent!r}"
            wire = text.encode() + b"\r\n"
            for piece in [wire[i : i + 1] for i in range(len(wire))] if byte_by_byte else [wire]:
                sent += session.receive(piece)
        elif kind == "C":
            assert sent == text.encode() + b"\r\n"
            sent = b""
        else:
            assert session.wants_body and sent == b""
            session.end_body()
            assert not session.wants_body
    assert sent == b""
    session.connection_died()
    return session.outcome


@pytest.mark.parametrize("name", DIALOGUES)
@pytest.mark.parametrize("byte_by_byte", [False, True])
def test_dialogue(name, byte_by_byte):
    steps, output = DIALOGUES[name]
    assert play(steps, byte_by_byte=byte_by_byte).encode() == output


def test_a_partial_last_line_is_refused_before_data_and_the_recipients_are_reported():
    for hello in (b"250-x\r\n250 PIPELINING\r\n", b"250 x\r\n"):
        session = Session(b"IP", b"me")
        session.begin(Envelope(b"s@x", [b"a@y", b"b@y"], ends_mid_line=True))
        sent = b"".join(map(session.receive, [b"220 hi\r\n", hello, b"250 ok\r\n", b"250 ok\r\n", b"550 no\r\n"]))
        assert b"DATA" not in sent
        assert session.outcome.encode() == (
            b"r\0hIP does not like recipient.\nRemote host said: 550 no\n\0"
            b"DSMTP cannot transfer messages with partial final lines. (#5.6.2)\n\0"
        )


def test_an_address_with_a_line_break_is_never_put_on_the_wire():
    session = Session(b"IP", b"me")
    session.begin(Envelope(b"s@x", [b"a\r\nRSET@y", b"b@y"]))
    sent = b"".join(map(session.receive, [b"220 hi\r\n", b"250 x\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"]))
    assert b"RSET" not in sent and session.wants_body
    session.end_body()
    session.receive(b"250 ok\r\n")
    assert [letter for letter, _ in session.outcome.records] == [b"h", b"r"]


def test_only_recipients_with_line_breaks_means_no_data_even_with_pipelining():
    session = Session(b"IP", b"me")
    session.begin(Envelope(b"s@x", [b"a\n@y"]))
    sent = b"".join(map(session.receive, [b"220 hi\r\n", b"250-x\r\n250 PIPELINING\r\n", b"250 ok\r\n"]))
    assert sent == b"EHLO me\r\nMAIL FROM:<s@x>\r\n" and session.outcome.report.kind == b"D"


def test_a_sender_with_a_line_break_is_refused_for_good():
    session = Session(b"IP", b"me")
    session.begin(Envelope(b'"a\nb"@x', [b"b@y"]))
    assert session.receive(b"220 hi\r\n250 x\r\n") == b"EHLO me\r\n"
    assert session.outcome.report.kind == b"D" and session.outcome.records == []


def test_many_recipients_are_pipelined_in_bounded_batches_and_all_are_reported():
    recipients = [b"r%d@y" % number for number in range(3 * UNANSWERED_MAX)]
    session = Session(b"IP", b"me")
    session.begin(Envelope(b"s@x", recipients))
    session.receive(b"220 hi\r\n")
    to_answer = session.receive(b"250-x\r\n250 PIPELINING\r\n").split(b"\r\n")[:-1]
    assert len(to_answer) == UNANSWERED_MAX
    seen = []
    while not session.wants_body:
        command = to_answer.pop(0)
        seen.append(command)
        to_answer += session.receive(b"354 go\r\n" if command == b"DATA" else b"250 ok\r\n").split(b"\r\n")[:-1]
        assert len(to_answer) <= UNANSWERED_MAX
    assert seen[1:-1] == [b"RCPT TO:<%b>" % recipient for recipient in recipients]
    session.end_body()
    session.receive(b"250 ok\r\n")
    assert session.outcome == Outcome([(b"r", b"")] * len(recipients), session.outcome.report)


def test_a_second_transaction_needs_no_second_hello():
    session = Session(b"IP", b"me")
    session.begin(Envelope(b"s@x", [b"a@y"]))
    for reply in (b"220 hi\r\n", b"250 x\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
        session.receive(reply)
    assert not session.may_begin
    session.end_body()
    session.receive(b"250 first\r\n")
    assert session.may_begin and session.outcome.report.succeeded
    assert session.begin(Envelope(b"t@x", [b"c@y"])) == b"MAIL FROM:<t@x>\r\n"
    assert session.outcome is None and not session.may_begin
    session.receive(b"550 no\r\n")
    assert session.outcome.report.kind == b"D" and not session.may_begin


@pytest.mark.parametrize("last", [b"421 bye\r\n", b"250 ok\r\n421 bye\r\n", b"eh\r\n"])
def test_no_second_transaction_after_a_farewell_or_nonsense(last):
    session = Session(b"IP", b"me")
    session.begin(Envelope(b"s@x", [b"a@y"]))
    for reply in (b"220 hi\r\n", b"250 x\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
        session.receive(reply)
    session.end_body()
    session.receive(last)
    assert session.outcome is not None and not session.may_begin


def test_a_server_faster_than_we_begin_is_greeted_and_then_waited_for():
    session = Session(b"IP", b"me")
    assert session.receive(b"220 hi\r\n") == b"EHLO me\r\n"  # the connection spoke before the job was handed over
    assert session.begin(Envelope(b"s@x", [b"a@y"])) == b""  # the answer to EHLO comes first
    assert session.receive(b"250 x\r\n") == b"MAIL FROM:<s@x>\r\n"
    early = Session(b"IP", b"me")
    assert early.receive(b"220 hi\r\n250 x\r\n") == b"EHLO me\r\n"
    assert early.begin(Envelope(b"s@x", [b"a@y"])) == b"MAIL FROM:<s@x>\r\n"
    refused = Session(b"IP", b"me")
    refused.receive(b"554 no\r\n")
    assert refused.begin(Envelope(b"s@x", [b"a@y"])) == b"" and refused.outcome.report.kind == b"Z"


def test_what_the_peer_says_during_the_body_is_its_answer_to_the_message():
    session = Session(b"IP", b"me")
    session.begin(Envelope(b"s@x", [b"a@y"]))
    for reply in (b"220 hi\r\n", b"250 x\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"552 too much\r\n"):
        session.receive(reply)
    assert session.wants_body and session.outcome is None
    session.end_body()
    session.after_body()
    assert session.outcome.report.kind == b"D"


def test_a_peer_that_never_stops_talking_is_left():
    session = Session(b"IP", b"me")
    session.begin(Envelope(b"s@x", [b"a@y"]))
    for _ in range(200):
        session.receive(b"220-" + b"x" * 1000 + b"\r\n")
    assert session.outcome.report.text == b"Connected to IP but connection died. (#4.4.2)\n"


UNTIL = {  # what the peer says before it answers to this
    "greeting": [],
    "hello": [220],
    "mail": [220, 250],
    "rcpt": [220, 250, 250],
    "data": [220, 250, 250, 250],
    "message": [220, 250, 250, 250, 354],
}
CODES = [  # what is answered with these codes, to which letters it leads; no letter: the dialogue goes on
    ("greeting", [219, 221, 354, 554], b"Z"),
    ("greeting", [220], b""),
    ("hello", [249, 251, 299, 399, 421, 499], b"Z"),
    ("hello", [250, 500, 502, 999], b""),  # 500 and above: HELO is tried
    ("mail", [100, 250, 354, 399], b""),
    ("mail", [0, 400, 421, 499], b"Z"),
    ("mail", [500, 501, 999], b"D"),
    ("rcpt", [100, 250, 251, 399], b""),
    ("rcpt", [0, 400, 421, 499], b"sD"),
    ("rcpt", [500, 501, 999], b"hD"),
    ("data", [300, 354, 399], b"r"),
    ("data", [0, 100, 250, 299, 400, 421, 499], b"rZ"),
    ("data", [500, 501, 999], b"rD"),
    ("message", [200, 250, 299], b"rK"),
    ("message", [0, 100, 199, 300, 354, 399, 400, 421, 499], b"rZ"),
    ("message", [500, 501, 999], b"rD"),
]


@pytest.mark.parametrize(("step", "codes", "letters"), CODES)
def test_each_code_of_each_step_has_its_meaning(step, codes, letters):
    for code in codes:
        session = Session(b"IP", b"me")
        session.begin(Envelope(b"s@x", [b"a@y"]))
        for said in [*UNTIL[step], code]:
            session.receive(b"%03d x\r\n" % said)
            if session.wants_body and letters != b"r":
                session.end_body()
        if letters in (b"", b"r"):
            assert session.outcome is None and session.wants_body == (letters == b"r"), code
        else:
            records = b"".join(letter for letter, _ in session.outcome.records)
            assert records + session.outcome.report.kind == letters, code


def test_a_peer_that_says_goodbye_before_it_was_asked_for_anything_is_left():
    session = Session(b"IP", b"me")
    session.receive(b"220 hi\r\n250 x\r\n")
    assert session.receive(b"421 bye\r\n") == b"" and not session.may_begin
    assert session.begin(Envelope(b"s@x", [b"a@y"])) == b""
    assert session.outcome == Outcome([], temporary(b"Connected to IP but connection died. (#4.4.2)\n"))


def test_a_peer_that_says_goodbye_between_two_messages_gets_no_second_one():
    session = finished_session()
    assert session.receive(b"421 bye\r\n") == b""
    assert not session.may_begin and session.outcome.report.succeeded


def finished_session():
    session = Session(b"IP", b"me")
    session.begin(Envelope(b"s@x", [b"a@y"]))
    for reply in (b"220 hi\r\n", b"250 x\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
        session.receive(reply)
    session.end_body()
    session.receive(b"250 first\r\n")
    assert session.may_begin
    return session


def test_of_a_peer_that_talks_after_the_end_only_so_much_is_kept():
    session = finished_session()
    for _ in range(3):
        assert session.receive(b"x" * REPLY_MAX) == b""
    assert session.kept_bytes <= 2 * REPLY_MAX and session.outcome.report.succeeded


def test_a_peer_that_talks_during_the_body_is_left_when_it_is_too_much():
    session = Session(b"IP", b"me")
    session.begin(Envelope(b"s@x", [b"a@y"]))
    for reply in (b"220 hi\r\n", b"250 x\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"x" * REPLY_MAX):
        session.receive(reply)
    assert session.wants_body and session.outcome is None
    assert session.receive(b"xx") == b""
    assert session.outcome.report.text == b"Connected to IP but connection died. (#4.4.2)\n"
    assert not session.wants_body


def test_a_driver_may_give_up_once():
    session = Session(b"IP", b"me")
    session.begin(Envelope(b"s@x", [b"a@y"]))
    session.give_up(temporary(b"unreadable"))
    session.give_up(temporary(b"other"))
    session.connection_died()
    assert session.outcome == Outcome([], temporary(b"unreadable"))


def test_outcomes_are_equal_when_they_print_the_same():
    outcome = Outcome([(b"r", b"")], temporary(b"x"))
    assert outcome == Outcome([(b"r", b"")], temporary(b"x")) and hash(outcome) == hash(outcome.encode())
    for other in (Outcome([], temporary(b"x")), Outcome([(b"r", b"")], permanent(b"x")), outcome.encode()):
        assert outcome != other
    assert repr(outcome) == "Outcome([(b'r', b'')], Report(b'Z', b'x'))"


@pytest.mark.parametrize("address", [b"a\r", b"\rb", b"a\nb", b"a\r\nb"])
def test_either_byte_of_a_line_end_breaks_an_address(address):
    text = b"An address with a line break in it cannot be sent by SMTP. (#5.1.3)\n"
    session = Session(b"IP", b"me")
    session.begin(Envelope(b"s@x", [address]))
    session.receive(b"220 hi\r\n250 x\r\n250 ok\r\n")
    assert session.outcome == Outcome([(b"h", text)], permanent(b"Giving up on IP.\n"))


def test_a_message_that_nobody_called_8bit_is_sent_as_it_is():
    session = Session(b"IP", b"me")
    session.begin(Envelope(b"s@x", [b"a@y"]))
    assert session.receive(b"220 hi\r\n250-x\r\n250 8BITMIME\r\n").endswith(b"MAIL FROM:<s@x>\r\n")
    assert QUIT == b"QUIT\r\n"


def test_a_peer_without_words_is_not_quoted():
    assert remote_said(Reply(0, b"")) == b"" and remote_said(Reply(250, b"ok\n")) == b"Remote host said: ok\n"


def test_extensions_are_keywords_with_parameters_in_any_case():
    found = offered_extensions(b"250-Me PIPELINING\n250-size 1000\n250-X  a  b\n250-\n250 8BITMIME\n")
    assert found == {b"SIZE": b"1000", b"X": b" a  b", b"8BITMIME": b""}


@pytest.mark.parametrize("size", [None, 0, 5])
def test_the_size_is_stated_when_it_is_known_and_wanted(size):
    for offer, stated in ((b"250 SIZE\r\n", size is not None), (b"250 x\r\n", False)):
        session = Session(b"IP", b"me")
        session.begin(Envelope(b"s@x", [b"a@y"], size=size))
        sent = session.receive(b"220 hi\r\n") + session.receive(b"250-x\r\n" + offer)
        assert (b" SIZE=" in sent) == stated
