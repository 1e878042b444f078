"""receive/smtpd.py: the dialogue, with everything around it in memory."""

import pytest

from notqmail.control.smtpd_settings import SmtpdSettings
from notqmail.policy import limits
from notqmail.receive.queue_callers import PACKAGE_MAX
from notqmail.receive.smtpd import DONE, FAILED, Session
from notqmail.unix.cdb import Damaged
from notqmail.wire.command_lines import LINE_MAX
from notqmail.wire.qmqp import INLINE_MAX, encode_package
from notqmail.wire.reports import Report, permanent, success, temporary
from notqmail.wire.smtp_server import ADDRESS_MAX
from smtpd_fakes import NOW_S, FakeQueue, new_session, say

EHLO = b"250-mail.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 0\r\n250 ENHANCEDSTATUSCODES\r\n"
WHOLE = (
    b"EHLO client.test\r\nMAIL FROM:<a@b> SIZE=10\r\nRCPT TO:<c@d>\r\nNOOP " + b"x" * 5000 + b"\r\nDATA\r\n"
    b"Received: x\r\nSubject: hi\r\n\r\n..dot\r\n.\r\rbare\r\n.\r\nMAIL FROM:<>\nRCPT TO:<\xe9\0@d>\r\nDATA\r\n.\r\n"
    b"BOGUS\r\nQUIT\r\nignored\r\n"
)


def transaction(session: Session, body: bytes = b"hi\r\n") -> list[bytes]:
    """One message; returns the answer to its end."""
    say(session, b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA")
    return session.receive(body + b".\r\n").split(b"\r\n")[:-1]


def test_a_session_does_not_depend_on_how_the_network_cuts_the_bytes() -> None:
    queue = FakeQueue(success())
    want = new_session(queue).receive(WHOLE)
    assert want.endswith(b"502 5.5.1 unimplemented (#5.5.1)\r\n221 2.0.0 mail.test\r\n")
    bodies = [sink.text for sink in queue.queued]
    assert [body.split(b"\n", 2)[2] for body in bodies] == [b"Received: x\nSubject: hi\n\n.dot\n.\r\rbare\n", b""]
    for cut in [*range(120), *range(5080, len(WHOLE) + 1)]:
        queue = FakeQueue(success())
        session = new_session(queue)
        assert session.receive(WHOLE[:cut]) + session.receive(WHOLE[cut:]) == want
        assert [sink.text for sink in queue.queued] == bodies
        assert session.exit_code == DONE


def test_a_session_fed_byte_by_byte_says_the_same() -> None:
    want = new_session().receive(WHOLE)
    session = new_session()
    assert b"".join(session.receive(WHOLE[at : at + 1]) for at in range(len(WHOLE))) == want


def test_a_client_that_vanishes_at_any_byte_queues_only_what_was_complete() -> None:
    wire = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhello\r\n.\r\n"
    for length in range(len(wire) + 1):
        queue = FakeQueue(success())
        session = new_session(queue)
        session.receive(wire[:length])
        session.vanish()
        assert len(queue.queued) == (length == len(wire))
        assert all(sink.state != "open" for sink in queue.sinks)


def test_received_line_says_who_and_how() -> None:
    queue = FakeQueue(success())
    environ = {
        b"TCPREMOTEIP": b"192.0.2.9", b"TCPREMOTEHOST": b"client.test", b"TCPREMOTEINFO": b"joe (x)",
        b"TCPLOCALIP": b"192.0.2.1",
    }  # fmt: skip
    session = new_session(queue, environ=environ)
    for hello in (b"NOOP", b"HELO CLIENT.test", b"HELO a_b", b"EHLO other"):
        say(session, hello)
        transaction(session)
    date = b"; 22 Nov 2026 08:00:31 -0000\n"
    start, end = b"Received: from client.test", b" (joe??x?@192.0.2.9)\n  by 192.0.2.1 with "
    assert [sink.text for sink in queue.queued] == [
        start + end + b"SMTP" + date + b"hi\n",
        start + end + b"SMTP" + date + b"hi\n",
        start + b" (HELO a?b)" + end + b"SMTP" + date + b"hi\n",
        start + b" (HELO other)" + end + b"ESMTP" + date + b"hi\n",
    ]


def test_local_host_comes_before_local_ip_and_unknown_stands_for_nothing() -> None:
    for environ, want in [
        ({}, b"from unknown (unknown)\n  by unknown with"),
        ({b"TCPLOCALIP": b"192.0.2.1"}, b"\n  by 192.0.2.1 with"),
        ({b"TCPLOCALIP": b"192.0.2.1", b"TCPLOCALHOST": b"mx.test"}, b"\n  by mx.test with"),
    ]:
        queue = FakeQueue(success())
        transaction(new_session(queue, environ=environ))
        assert want in queue.queued[0].text


def test_accepted_says_when_and_which_number() -> None:
    assert transaction(new_session()) == [b"250 ok %d qp 101" % NOW_S]


@pytest.mark.parametrize(
    ("report", "plain", "enhanced"),
    [
        (permanent(b"no (#5.7.1)"), b"554 no (#5.7.1)", b"554 5.7.1 no (#5.7.1)"),
        (permanent(b"no (#4.7.1)"), b"554 no (#4.7.1)", b"554 5.3.0 no (#4.7.1)"),
        (permanent(b"no (#5.7)"), b"554 no (#5.7)", b"554 5.3.0 no (#5.7)"),
        (permanent(b""), b"554 ", b"554 5.3.0 "),
        (temporary(b"later"), b"451 later", b"451 4.3.0 later"),
        (Report(b"?", b"odd"), b"451 odd", b"451 4.3.0 odd"),
        (permanent(b"a\r\nb\0\x7fc"), b"554 a??b??c", b"554 5.3.0 a??b??c"),
        (temporary(b"x" * 2000), b"451 " + b"x" * 900, b"451 4.3.0 " + b"x" * 900),
    ],
)
def test_a_queue_that_refuses_is_quoted_on_one_line(report: Report, plain: bytes, enhanced: bytes) -> None:
    session = new_session(FakeQueue(report))
    assert transaction(session) == [plain]
    say(session, b"EHLO x")
    assert transaction(session) == [enhanced]


def test_databytes_counts_stored_bytes_and_allows_exactly_the_limit() -> None:
    settings = SmtpdSettings(b"m", databytes=6)
    for body, fits in [(b"12345\r\n", True), (b"..345\r\n\r\n", True), (b"123456\r\n", False), (b"x\r\n" * 9, False)]:
        queue = FakeQueue(success())
        answer = transaction(new_session(queue, settings), body)
        assert (answer[0][:3], len(queue.queued)) == ((b"250", 1) if fits else (b"552", 0))


def test_databytes_of_the_environment_wins() -> None:
    settings = SmtpdSettings(b"m", databytes=1)
    for value, code in [(b"0", b"250"), (b"", b"250"), (b"x", b"250"), (b"3", b"250"), (b"2", b"552")]:
        assert transaction(new_session(None, settings, {b"DATABYTES": value}), b"1\r\n\r\n")[0][:3] == code


def test_nothing_is_written_beyond_the_limit() -> None:
    queue = FakeQueue(success())
    session = new_session(queue, SmtpdSettings(b"m", databytes=100))
    say(session, b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA")
    for _ in range(1000):
        session.receive(b"x" * 98 + b"\r\n")
    assert len(queue.sinks[0].body) <= 100


def test_a_hundred_hops_are_too_many_and_that_is_said_before_the_size() -> None:
    settings = SmtpdSettings(b"m", databytes=10)
    for count, want in [(limits.HOPS_MAX - 1, b"552"), (limits.HOPS_MAX, b"554 too many hops")]:
        queue = FakeQueue(permanent(b"the queue's own no"))
        answer = transaction(new_session(queue, settings), b"Received: x\r\n" * count + b"\r\n")
        assert answer[0].startswith(want)
        assert queue.queued == []


def test_a_bare_newline_ends_the_session_and_queues_nothing() -> None:
    queue = FakeQueue(success())
    session = new_session(queue)
    assert transaction(session, b"hi\n") == [b"451 See https://cr.yp.to/docs/smtplf.html."]
    assert (session.exit_code, queue.sinks[0].state) == (FAILED, "abandoned")
    assert session.receive(b"NOOP\r\n") == b""


def test_silence_is_told_and_ends_the_session() -> None:
    for lines in ([], [b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA"]):
        queue = FakeQueue(success())
        session = new_session(queue)
        say(session, *lines)
        assert session.time_out() == b"451 timeout (#4.4.2)\r\n"
        assert session.exit_code == FAILED
        assert [sink.state for sink in queue.sinks] == ["abandoned"] * bool(lines)


def test_commands_wait_while_the_queue_has_not_answered() -> None:
    queue = FakeQueue(success(), answers_later=True)
    session = new_session(queue)
    say(session, b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA")
    assert session.receive(b"hi\r\n.\r\nMAIL FROM:<x@y>\r\nNO") == b""
    assert session.receive(b"OP\r\n") == b""
    assert session.waiting
    assert session.kept_bytes == len(b"MAIL FROM:<x@y>\r\nNOOP\r\n")
    assert session.answer(success(), 77) == b"250 ok %d qp 77\r\n250 ok\r\n250 ok\r\n" % NOW_S
    assert not session.waiting


def test_a_client_that_vanishes_while_the_queue_works_leaves_its_message_there() -> None:
    queue = FakeQueue(success(), answers_later=True)
    session = new_session(queue)
    transaction(session)
    session.vanish()
    assert queue.sinks[0].state == "closed"
    session.answer(success(), 1)  # too late, and no harm


def test_going_down_lets_a_message_arrive_and_nothing_else() -> None:
    bye = b"421 shutting down, try again later (#4.3.2)\r\n"
    idle = new_session()
    assert (idle.go_down(), idle.exit_code) == (bye, FAILED)
    queue = FakeQueue(success(), answers_later=True)
    session = new_session(queue)
    say(session, b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA")
    assert (session.go_down(), session.exit_code) == (b"", None)
    session.receive(b"hi\r\n.\r\nNOOP\r\n")
    assert session.answer(success(), 5) == b"250 ok %d qp 5\r\n" % NOW_S + bye
    assert session.exit_code == FAILED


def test_going_down_also_ends_a_session_whose_message_is_refused() -> None:
    session = new_session(settings=SmtpdSettings(b"m", databytes=1))
    say(session, b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA")
    session.go_down()
    assert session.receive(b"hi\r\n.\r\n").startswith(b"552 ")
    assert session.exit_code == FAILED


def test_a_line_that_is_too_long_is_refused_and_the_session_goes_on() -> None:
    for length, code in [(LINE_MAX - 5, b"250"), (LINE_MAX - 4, b"500"), (100_000, b"500")]:
        session = new_session()
        line = b"NOOP " + b"x" * length
        assert [one[:3] for one in say(session, line, b"NOOP")] == [code, b"250"]
        for cut in (1, LINE_MAX, LINE_MAX + 1, LINE_MAX + 2):
            session = new_session()
            heard = session.receive(line[:cut]) + session.receive(line[cut:] + b"\n") + session.receive(b"NOOP\n")
            assert heard.startswith(code)
            assert heard.endswith(b"250 ok\r\n")


def test_an_endless_line_is_not_kept() -> None:
    session = new_session()
    for _ in range(100):
        session.receive(b"x" * 100_000)
    assert session.kept_bytes <= LINE_MAX + 1


def test_addresses_may_have_899_bytes() -> None:
    session = new_session()
    say(session, b"EHLO x", b"MAIL FROM:<a@b>")
    for length, code in [(ADDRESS_MAX, b"250 2.1.5"), (ADDRESS_MAX + 1, b"555 5.5.4")]:
        address = b"a" * (length - 2) + b"@b"
        assert say(session, b"RCPT TO:<" + address + b">")[0].startswith(code)
        assert say(session, b"MAIL FROM:<" + address + b">")[0].startswith(code.replace(b"2.1.5", b"2.1.0"))


def test_recipients_are_bounded_in_number_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FakeQueue(success())
    session = new_session(queue, SmtpdSettings(b"m", recipients_max=2))
    assert [one[:3] for one in say(session, b"MAIL FROM:<a@b>", *[b"RCPT TO:<c@d>"] * 3)] == [b"250"] * 3 + [b"452"]
    monkeypatch.setattr("notqmail.receive.smtpd.ENVELOPE_BYTES_MAX", 2 * (3 + limits.RECIPIENT_BYTES_MORE))
    assert [one[:3] for one in say(session, b"MAIL FROM:<a@b>", *[b"RCPT TO:<c@d>"] * 3)] == [b"250"] * 3 + [b"452"]
    say(session, b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>")
    assert queue.sinks == []


@pytest.mark.parametrize("length", [1, 3, 340, 899])
def test_the_largest_envelope_fits_a_package_to_the_queue(length: int) -> None:
    """Else the queue would break off the connection that all sessions share."""
    recipients = [b"r" * length] * (limits.ENVELOPE_BYTES_MAX // (length + limits.RECIPIENT_BYTES_MORE))
    assert len(encode_package(b"m" * INLINE_MAX, b"s" * ADDRESS_MAX, recipients)) <= PACKAGE_MAX


def test_too_many_bad_commands_end_the_session() -> None:
    session = new_session()
    heard = say(session, *[b"BOGUS"] * (limits.BAD_COMMANDS_MAX + 5))
    assert heard[-2:] == [b"502 unimplemented (#5.5.1)", b"421 too many bad commands (#4.7.0)"]
    assert len(heard) == limits.BAD_COMMANDS_MAX + 2
    assert session.exit_code == FAILED


def test_refused_recipients_are_not_bad_commands() -> None:
    session = new_session(settings=SmtpdSettings(b"m", rcpthosts=frozenset({b"mail.test"})))
    say(session, b"MAIL FROM:<a@b>")
    heard = say(session, *[b"RCPT TO:<c@d>"] * 500)
    assert heard == [b"553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"] * 500


def test_morercpthosts_that_cannot_be_read_end_the_session() -> None:
    for error in (OSError("gone"), Damaged("cut short")):

        def broken(_host: bytes, error: Exception = error) -> bool:
            raise error

        session = new_session(settings=SmtpdSettings(b"m", rcpthosts=frozenset()), knows_host=broken)
        assert say(session, b"EHLO x", b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>")[-1] == (
            b"421 4.3.0 unable to read controls (#4.3.0)"
        )
        assert session.exit_code == FAILED


def test_own_addresses_that_cannot_be_found_end_the_session() -> None:
    def broken() -> frozenset[bytes]:
        raise OSError("no socket")

    session = new_session(settings=SmtpdSettings(b"m", local_ip_host=b"home.test"), own_addresses=broken)
    assert say(session, b"MAIL FROM:<a@[1.2.3.4]>") == [b"421 unable to figure out my IP addresses (#4.3.0)"]
    assert session.exit_code == FAILED


def test_a_queue_that_cannot_start_forgets_the_transaction() -> None:
    session = new_session(FakeQueue(None))
    heard = say(session, b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA", b"DATA")
    assert heard[2:] == [b"451 qqt failure (#4.3.0)", b"503 MAIL first (#5.5.1)"]


def test_a_new_mail_forgets_recipients_and_hello_forgets_the_transaction() -> None:
    session = new_session()
    heard = say(session, b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"MAIL FROM:<e@f>", b"DATA")
    assert heard[-1] == b"503 RCPT first (#5.5.1)"
    for forget in (b"HELO x", b"EHLO x", b"RSET"):
        say(session, b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", forget)
        assert say(session, b"DATA")[0].endswith(b"MAIL first (#5.5.1)")


def test_a_refused_size_joins_no_older_transaction() -> None:
    queue = FakeQueue(success())
    session = new_session(queue, SmtpdSettings(b"m", databytes=10))
    heard = say(
        session, b"EHLO x", b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"MAIL FROM:<e@f> SIZE=11", b"RCPT TO:<g@h>", b"DATA"
    )
    assert [one[:3] for one in heard[-3:]] == [b"552", b"503", b"503"]
    assert queue.sinks == []


def test_size_means_nothing_after_helo() -> None:
    session = new_session(settings=SmtpdSettings(b"m", databytes=10))
    assert say(session, b"HELO x", b"MAIL FROM:<a@b> SIZE=11", b"MAIL FROM:<a@b> SIZE=x")[1:] == [b"250 ok"] * 2


@pytest.mark.parametrize("byte", [b"\0", b"\r", b"\xff", b"\x80", b"\t", b"\x1b", b"<", b">", b'"', b"\\", b":", b"@"])
def test_an_odd_byte_in_any_place_gets_an_answer_for_each_line(byte: bytes) -> None:
    lines = [b"EHLO client", b"MAIL FROM:<a@b> SIZE=1", b"RCPT TO:<c@d>", b"NOOP"]
    wire = b"\r\n".join(lines) + b"\r\n"
    for place in range(len(wire)):
        session = new_session()
        heard = session.receive(wire[:place] + byte + wire[place:])
        finals = [line for line in heard.split(b"\r\n")[:-1] if line[3:4] == b" "]
        assert len(finals) == len(lines)
        assert all(line[:3].isdigit() for line in finals)
        assert b"\0" not in heard and b"\xff" not in heard
