"""receive/qmtpd.py, receive/package_session.py: answers and exit codes as notqmail 1.09 gave them for these bytes, but
where docs/reference/differences.md says otherwise."""

import pytest

from notqmail.control.smtpd_settings import SmtpdSettings
from notqmail.policy.limits import ENVELOPE_BYTES_MAX, EnvelopeBytes
from notqmail.receive.package_session import BROKEN, DONE, SESSION_MAX_S, UNABLE, World
from notqmail.receive.qmtpd import ANSWER_BYTES, Session
from notqmail.unix.cdb import Damaged
from notqmail.wire.netstring import encode as ns
from notqmail.wire.reports import Report, permanent, success, temporary
from smtpd_fakes import NOW_S, FakeQueue, StoppedClock, no_more_hosts

SETTINGS = SmtpdSettings(b"", rcpthosts=frozenset({b"here.test", b".sub.test"}))
OK = b"Kok %d qp 101" % NOW_S
NOT_HERE = b"Dsorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"
BAD_RECIPIENT = b"Dsorry, I can't handle that recipient (#5.1.3)"
BAD_SENDER = b"Dunacceptable sender (#5.1.7)"
TOO_BIG = b"Dsorry, that message size exceeds my databytes limit (#5.3.4)"
RECEIVED = b"Received: from unknown (unknown)\n  by unknown with QMTP; 22 Nov 2026 08:00:31 -0000\n"

MANY_BYTES = 600  # longer inputs are cut into larger pieces


def session_of(
    queue: FakeQueue, environ: dict[bytes, bytes] | None = None, settings: SmtpdSettings = SETTINGS
) -> Session:
    return Session(settings, environ or {}, World(StoppedClock(), queue.open), no_more_hosts)


def package(message: bytes = b"\nhi\n", sender: bytes = b"s@x.test", *recipients: bytes) -> bytes:
    return ns(message) + ns(sender) + ns(b"".join(map(ns, recipients)))


def heard(
    data: bytes, environ: dict[bytes, bytes] | None = None, queue: FakeQueue | None = None,
    settings: SmtpdSettings = SETTINGS,
) -> tuple[bytes, int, list[tuple[bytes, bytes, list[bytes]]]]:  # fmt: skip
    """(answers, exit code at the end of the bytes, messages queued), the same however the bytes are cut."""
    results = []
    for size in (max(1, len(data)), *((1, 2, 7) if len(data) <= MANY_BYTES else (777,))):
        fresh = FakeQueue(success()) if queue is None else FakeQueue(queue.report)
        session, said = session_of(fresh, environ, settings), b""
        for start in range(0, len(data), size):
            if session.exit_code is None:
                said += session.receive(data[start : start + size])
        if session.exit_code is None:
            session.vanish()
        assert session.exit_code is not None
        assert all(sink.state != "open" for sink in fresh.sinks), "neither queued nor dropped"
        results.append((said, session.exit_code, [(one.body, one.sender, one.recipients) for one in fresh.queued]))
    assert all(one == results[0] for one in results)
    return results[0]


def test_a_package_is_queued_with_a_received_line_and_answered_for_each_recipient() -> None:
    queue = FakeQueue(success())
    said = session_of(queue).receive(package(b"\nhi\n", b"s@x.test", b"a@here.test", b"b@x.sub.test"))
    assert said == ns(OK) * 2
    (sink,) = queue.queued
    assert (sink.text, sink.sender, sink.recipients) == (
        RECEIVED + b"hi\n", b"s@x.test", [b"a@here.test", b"b@x.sub.test"]
    )  # fmt: skip


def test_the_received_line_names_the_client_and_nothing_it_could_abuse() -> None:
    environ = {b"TCPREMOTEHOST": b"h (x)", b"TCPREMOTEIP": b"192.0.2.1", b"TCPREMOTEINFO": b"joe;",
               b"TCPLOCALHOST": b"me.test", b"TCPLOCALIP": b"192.0.2.9"}  # fmt: skip
    queue = FakeQueue(success())
    session_of(queue, environ).receive(package(b"\n", b"", b"a@here.test"))
    assert queue.queued[0].text == (
        b"Received: from h??x? (joe?@192.0.2.1)\n  by me.test with QMTP; 22 Nov 2026 08:00:31 -0000\n"
    )


@pytest.mark.parametrize(
    ("encoded", "stored"),
    [
        (b"\n", b""),
        (b"\r", b""),
        (b"\nno line end", b"no line end"),
        (b"\na\r\nb\rc\n", b"a\r\nb\rc\n"),
        (b"\ra\r\nb\r\n", b"a\nb\n"),
        (b"\ra\nb\rc\r\r\nd\r", b"a\nb\rc\r\nd\r"),
        (b"\r\r\n", b"\n"),
        (b"\r\r", b"\r"),
        (b"\r\r\r\r\n\r\r\n", b"\r\r\n\r\n"),
        (b"\n.\n..\n", b".\n..\n"),
        (b"\n\0\xff", b"\0\xff"),
    ],
)
def test_lines_end_as_the_first_byte_says(encoded: bytes, stored: bytes) -> None:
    assert heard(package(encoded, b"", b"a@here.test")) == (ns(OK), DONE, [(stored, b"", [b"a@here.test"])])


@pytest.mark.parametrize(
    ("recipient", "environ", "answer", "queued"),
    [
        (b"a@here.test", {}, OK, b"a@here.test"),
        (b"a@HERE.test", {}, OK, b"a@HERE.test"),
        (b"no-host", {}, OK, b"no-host"),
        (b"", {}, OK, b""),
        (b"a@far.test", {}, NOT_HERE, None),
        (b"a@far.test", {b"RELAYCLIENT": b""}, OK, b"a@far.test"),
        (b"a@far.test", {b"RELAYCLIENT": b"@relay"}, OK, b"a@far.test@relay"),
        (b"a\0b@here.test", {}, BAD_RECIPIENT, None),
        (b"a\0b@far.test", {}, NOT_HERE, None),
        (b"a\0b@far.test", {b"RELAYCLIENT": b""}, BAD_RECIPIENT, None),
        (b"a" * 989 + b"@here.test", {}, OK, b"a" * 989 + b"@here.test"),
        (b"a" * 990 + b"@here.test", {}, BAD_RECIPIENT, None),
        (b"a" * 990 + b"@far.test", {}, NOT_HERE, None),
        (b"a" * 991 + b"@far.test", {}, BAD_RECIPIENT, None),
        (b"a" * 5000, {}, BAD_RECIPIENT, None),
        (b"a" * 993, {b"RELAYCLIENT": b"@relay"}, OK, b"a" * 993 + b"@relay"),
        (b"a" * 994, {b"RELAYCLIENT": b"@relay"}, BAD_RECIPIENT, None),
    ],
)
def test_each_recipient_is_judged_by_itself(
    recipient: bytes, environ: dict[bytes, bytes], answer: bytes, queued: bytes | None
) -> None:
    wanted = [] if queued is None else [(b"hi\n", b"s@x.test", [queued])]
    assert heard(package(b"\nhi\n", b"s@x.test", recipient), environ) == (ns(answer), DONE, wanted)
    mixed = package(b"\nhi\n", b"s@x.test", b"x@here.test", recipient, b"y@here.test")
    suffix = environ.get(b"RELAYCLIENT", b"")
    everybody = [b"x@here.test" + suffix, *([queued] if queued is not None else []), b"y@here.test" + suffix]
    assert heard(mixed, environ) == (ns(OK) + ns(answer) + ns(OK), DONE, [(b"hi\n", b"s@x.test", everybody)])


@pytest.mark.parametrize("sender", [b"a\0b", b"x" * 1000, b"x" * 70_000])
def test_a_bad_sender_refuses_all_recipients_that_are_not_refused_already(sender: bytes) -> None:
    data = package(b"\nhi\n", sender, b"a@here.test", b"b@far.test", b"c@here.test")
    assert heard(data) == (ns(BAD_SENDER) + ns(NOT_HERE) + ns(BAD_SENDER), DONE, [])


def test_the_longest_good_sender_has_999_bytes() -> None:
    assert heard(package(b"\n", b"x" * 999, b"a"))[2] == [(b"", b"x" * 999, [b"a"])]


@pytest.mark.parametrize(
    ("message", "limit", "fits"),
    [
        (b"\n" + b"x" * 10, b"10", True),
        (b"\n" + b"x" * 11, b"10", False),
        (b"\r" + b"x\r\n" * 5, b"10", True),
        (b"\r" + b"x\r\n" * 5 + b"y", b"10", False),
        (b"\r" + b"\r" * 11, b"10", False),
        (b"\n" + b"x" * 100, b"0", True),
        (b"\n" + b"x" * 100, b"none", True),
    ],
)
def test_databytes_counts_what_is_stored_and_outranks_everything(message: bytes, limit: bytes, fits: bool) -> None:
    environ = {b"DATABYTES": limit}
    assert (ns(OK) if fits else ns(TOO_BIG)) == heard(package(message, b"", b"a@here.test"), environ)[0]
    bad_sender = heard(package(message, b"\0", b"a@here.test", b"b@far.test"), environ)
    assert bad_sender == (ns(BAD_SENDER if fits else TOO_BIG) + ns(NOT_HERE), DONE, [])


def test_the_control_file_is_the_limit_where_the_environment_has_none() -> None:
    settings = SmtpdSettings(b"", databytes=3)
    assert heard(package(b"\nhi!\n", b"", b"a"), settings=settings)[0] == ns(TOO_BIG)
    assert heard(package(b"\nhi\n", b"", b"a"), settings=settings)[0] == ns(OK)
    assert heard(package(b"\nhi!\n", b"", b"a"), {b"DATABYTES": b"0"}, settings=settings)[0] == ns(OK)


@pytest.mark.parametrize(
    "report",
    [
        temporary(b"qq write error or disk full (#4.3.0)"),
        permanent(b"mail server permanently rejected message (#5.3.0)"),
    ],
)
def test_what_the_queue_says_is_the_answer_for_all_it_was_asked_about(report: Report) -> None:
    said = ns(report.encode())
    data = package(b"\n", b"", b"a@here.test", b"b@far.test", b"c@here.test")
    assert heard(data, queue=FakeQueue(report))[:2] == (said + ns(NOT_HERE) + said, DONE)


def test_a_package_without_recipients_has_no_answer_and_is_not_queued() -> None:
    assert heard(package() + package(b"\n", b"", b"a@far.test")) == (ns(NOT_HERE), DONE, [])


def test_packages_follow_one_another() -> None:
    one, two = package(b"\n1", b"s", b"a"), package(b"\r2\r\n", b"", b"b", b"c")
    said, code, queued = heard(one + two)
    assert (said, code) == (ns(OK) + ns(OK[:-1] + b"2") * 2, DONE)
    assert queued == [(b"1", b"s", [b"a"]), (b"2\n", b"", [b"b", b"c"])]


def test_a_package_cut_short_anywhere_is_not_queued_and_ends_with_0() -> None:
    whole = package(b"\ra\r\n", b"s@x.test", b"a@here.test", b"b" * 1001, b"c@far.test")
    for length in range(len(whole)):
        assert heard(whole[:length]) == (b"", DONE, []), length
    assert heard(whole)[0] == ns(OK) + ns(BAD_RECIPIENT) + ns(NOT_HERE)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"0:,", BROKEN),  # a message without the byte for its lines
        (b"0:\n,0:,0:,", BROKEN),  # and one that has no room for it
        (b":,", BROKEN),
        (b"1:x,", BROKEN),
        (b"3: hi,", BROKEN),
        (b"x", BROKEN),
        (b"-1:", BROKEN),
        (b"1 :", BROKEN),
        (b"1:\n;", BROKEN),
        (b"2:\n,0:,0:,", BROKEN),  # the comma is the message's, and 0 is no comma
        (b"200000001:", DONE),  # C looks at a length only when a digit follows
        (b"2000000009:", DONE),
        (b"20000000090:", UNABLE),
        (b"200000001x", UNABLE),
        (b"0" * 300 + b"1:\n,", DONE),
        (b"1:\n,2:a,", DONE),
        (b"1:\n,2:a,b", BROKEN),
        (b"1:\n,0:,1:0", BROKEN),  # the list ends inside a length
        (b"1:\n,0:,2:0", DONE),
        (b"1:\n,0:,2:0:,", BROKEN),  # no room for the comma of a recipient
        (b"1:\n,0:,4:2:a,", BROKEN),
        (b"1:\n,0:,3:9:a", BROKEN),  # longer than the list
        (b"1:\n,0:,3:0:x,", BROKEN),
        (b"1:\n,0:,3:0:,x", BROKEN),
        (b"1:\n,0:,300000000:", DONE),
        (b"1:\n,0:,3:a:,,", BROKEN),  # C takes any byte for a digit there
        (b"1:\n,0:,20:20000000090:", UNABLE),
    ],
)
def test_broken_framing_ends_the_session(data: bytes, code: int) -> None:
    assert heard(data) == (b"", code, [])
    good = package(b"\nhi\n", b"", b"a@here.test")
    assert heard(good + data) == (ns(OK), code, [(b"hi\n", b"", [b"a@here.test"])]), "what was promised is said"


def test_one_wrong_length_never_queues_what_was_not_meant() -> None:
    whole = package(b"\nhi\n", b"s@x.test", b"a@here.test")
    starts = [at for at in range(len(whole)) if whole[at : at + 1].isdigit() and b":" in whole[at : at + 3]]
    for at in starts:
        for digit in b"0123456789":
            _, _, queued = heard(whole[:at] + bytes([digit]) + whole[at + 1 :])
            assert queued in ([], [(b"hi\n", b"s@x.test", [b"a@here.test"])])


def test_while_the_queue_is_asked_nothing_else_is_obeyed() -> None:
    queue = FakeQueue(success(), answers_later=True)
    session = session_of(queue)
    second = package(b"\n2", b"", b"b")
    assert session.receive(package(b"\n1", b"", b"a") + second) == b""
    assert (session.waiting, session.kept_bytes, len(queue.sinks)) == (True, len(second), 1)
    assert session.receive(b"x") == b""
    assert session.answer(success(), 7) == ns(b"Kok %d qp 7" % NOW_S)
    assert (session.waiting, len(queue.queued)) == (True, 2)
    assert session.answer(temporary(b"later"), 0) == ns(b"Zlater")
    assert session.exit_code == BROKEN  # by the x


def test_a_client_that_vanishes_while_the_queue_is_asked_has_sent_its_message() -> None:
    queue = FakeQueue(success(), answers_later=True)
    session = session_of(queue)
    session.receive(package(b"\n1", b"", b"a"))
    session.vanish()
    assert (session.exit_code, len(queue.queued)) == (DONE, 1)


def test_a_server_that_stops_lets_a_package_end_first() -> None:
    queue = FakeQueue(success())
    session = session_of(queue)
    data = package(b"\n1", b"", b"a") * 2
    assert session.receive(data[:8]) == b""
    assert session.go_down() == b""
    assert session.exit_code is None
    assert session.receive(data[8:]) == ns(OK)
    assert (session.exit_code, len(queue.queued)) == (DONE, 1)
    idle = session_of(queue)
    assert (idle.go_down(), idle.exit_code) == (b"", DONE)


def test_an_hour_is_over_for_everybody() -> None:
    queue = FakeQueue(success())
    session = session_of(queue)
    session.receive(b"30:\nhi")
    assert (SESSION_MAX_S, session.time_out(), session.exit_code) == (3600, b"", UNABLE)
    assert [sink.state for sink in queue.sinks] == ["abandoned"]


def test_a_queue_that_cannot_be_started_is_no_answer_at_all() -> None:
    assert heard(package(b"\nhi\n", b"", b"a"), queue=FakeQueue(None)) == (b"", UNABLE, [])


@pytest.mark.parametrize("trouble", [OSError("no descriptor"), Damaged()])
def test_trouble_with_morercpthosts_is_no_answer_at_all(trouble: Exception) -> None:
    def cannot_tell(_host: bytes) -> bool:
        raise trouble

    queue = FakeQueue(success())
    session = Session(SETTINGS, {}, World(StoppedClock(), queue.open), cannot_tell)
    assert session.receive(package(b"\n", b"", b"a@here.test", b"b@far.test")) == b""
    assert (session.exit_code, queue.queued, queue.sinks[0].state) == (UNABLE, [], "abandoned")


def test_recipients_beyond_maxrcpt_are_told_to_come_later() -> None:
    settings = SmtpdSettings(b"", recipients_max=2)
    later = b"Ztoo many recipients (#4.5.3)"
    said, _, queued = heard(package(b"\n", b"", b"a", b"b", b"c" * 1000, b"d", b"e"), settings=settings)
    assert said == ns(OK) * 2 + ns(BAD_RECIPIENT) + ns(later) * 2
    assert queued == [(b"", b"", [b"a", b"b"])]


def test_recipients_and_their_answers_do_not_fill_the_memory() -> None:
    queue, all_envelopes = FakeQueue(success()), EnvelopeBytes()
    world = World(StoppedClock(), queue.open, all_envelopes)
    session = Session(SETTINGS, {}, world, no_more_hosts)
    session.receive(b"1:\n,0:,1000000000:")
    said, some = b"", ns(b"a@far.test") * 10_000
    while session.exit_code is None:
        said += session.receive(some)
        assert all_envelopes.used <= ENVELOPE_BYTES_MAX
    assert (session.exit_code, said, all_envelopes.used) == (UNABLE, b"", 0)
    assert len(NOT_HERE) + 4 <= ANSWER_BYTES


def test_sessions_share_what_envelopes_may_take() -> None:
    all_envelopes = EnvelopeBytes()
    world = World(StoppedClock(), FakeQueue(success()).open, all_envelopes)
    sessions = [Session(SETTINGS, {}, world, no_more_hosts) for _ in range(2)]
    for one in sessions:
        one.receive(package(b"\n", b"", b"a", b"b")[:-1])
    assert all_envelopes.used == 4 * (ANSWER_BYTES + 1)
    sessions[0].receive(b",")
    sessions[1].vanish()
    assert all_envelopes.used == 0
