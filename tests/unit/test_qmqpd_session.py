"""receive/qmqpd.py, wire/qmqp_net.py: every answer and exit code as notqmail 1.09 gave them for these bytes, but where
docs/reference/differences.md says otherwise."""

import pytest

from notqmail.policy.limits import ENVELOPE_BYTES_MAX, ENVELOPES_BYTES_MAX, EnvelopeBytes
from notqmail.receive.package_session import BROKEN, DONE, UNABLE, World
from notqmail.receive.qmqpd import BAD_ADDRESS, TOO_MANY, Session
from notqmail.wire.netstring import encode as ns
from notqmail.wire.qmqp_net import client_package, verdict
from notqmail.wire.reports import Report, permanent, success, temporary
from smtpd_fakes import NOW_S, FakeQueue, StoppedClock

OK = ns(b"Kok %d qp 101" % NOW_S)
MANY_BYTES = 600  # longer inputs are cut into larger pieces
Queued = list[tuple[bytes, bytes, list[bytes]]]


def package(message: bytes = b"hi\n", sender: bytes = b"s@x.test", *recipients: bytes) -> bytes:
    return ns(ns(message) + ns(sender) + b"".join(map(ns, recipients)))


def heard(data: bytes, report: Report | None = None) -> tuple[bytes, int, Queued]:
    """(answer, exit code at the end of the bytes, messages queued), the same however the bytes are cut."""
    results = []
    for size in (max(1, len(data)), *((1, 2, 7) if len(data) <= MANY_BYTES else (777,))):
        queue = FakeQueue(report or success())
        session, said = Session({}, World(StoppedClock(), queue.open)), b""
        for start in range(0, len(data), size):
            if session.exit_code is None:
                said += session.receive(data[start : start + size])
        if session.exit_code is None:
            session.vanish()
        assert session.exit_code is not None
        assert all(sink.state != "open" for sink in queue.sinks), "neither queued nor dropped"
        results.append((said, session.exit_code, [(one.body, one.sender, one.recipients) for one in queue.queued]))
    assert all(one == results[0] for one in results)
    return results[0]


@pytest.mark.parametrize(
    ("message", "sender", "recipients"),
    [
        (b"hello", b"s@x", [b"a@b", b"c@d"]),
        (b"", b"", []),  # without recipients it is queued, and delivered to nobody
        (b"a\r\nb\rc\n", b"s", [b""]),
        (b"\0", b"x" * 999, [b"y" * 999, b"far@anywhere.test"]),
    ],
)
def test_a_package_is_queued_as_it_is(message: bytes, sender: bytes, recipients: list[bytes]) -> None:
    assert heard(package(message, sender, *recipients)) == (OK, DONE, [(message, sender, recipients)])


def test_the_package_of_the_protocol_s_own_text_is_understood() -> None:
    assert heard(b"26:5:hello,3:s@x,3:a@b,3:c@d,,")[2] == [(b"hello", b"s@x", [b"a@b", b"c@d"])]


def test_the_received_line_says_qmqp() -> None:
    queue = FakeQueue(success())
    environ = {b"TCPREMOTEIP": b"192.0.2.1", b"TCPLOCALIP": b"192.0.2.9"}
    Session(environ, World(StoppedClock(), queue.open)).receive(package(b"x"))
    assert queue.queued[0].text.startswith(b"Received: from unknown (192.0.2.1)\n  by 192.0.2.9 with QMQP; ")


@pytest.mark.parametrize("bad", [b"a\0b", b"x" * 1000, b"x" * 70_000, b"\0"])
def test_one_bad_address_refuses_the_message_for_all(bad: bytes) -> None:
    for addresses in ([bad, b"a"], [b"s", bad], [b"s", b"a", bad, b"c"], [bad, bad]):
        assert heard(package(b"hi", *addresses)) == (ns(BAD_ADDRESS), DONE, [])
        assert heard(package(b"hi", *addresses), temporary(b"later")) == (ns(BAD_ADDRESS), DONE, [])


@pytest.mark.parametrize(
    "report", [temporary(b"qq timeout (#4.3.0)"), permanent(b"envelope address too long for qq (#5.1.3)")]
)
def test_what_the_queue_says_is_the_answer(report: Report) -> None:
    assert heard(package(b"hi", b"s", b"a"), report)[:2] == (ns(report.encode()), DONE)


def test_what_follows_the_package_is_not_looked_at() -> None:
    assert heard(package(b"x", b"", b"a") * 2)[2] == [(b"x", b"", [b"a"])]


def test_a_package_cut_short_anywhere_is_not_queued_and_ends_with_0() -> None:
    whole = package(b"a\r\n", b"s@x.test", b"a@here.test", b"b" * 1001, b"")
    for length in range(len(whole)):
        assert heard(whole[:length]) == (b"", DONE, []), length
    assert heard(whole)[0] == ns(BAD_ADDRESS)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"x", BROKEN),
        (b"0:", BROKEN),  # nothing can be in it
        (b"1:x", BROKEN),
        (b"1:0", BROKEN),
        (b"2:0:", BROKEN),
        (b"3:0:,", BROKEN),  # no sender
        (b"4:1:x,", BROKEN),
        (b"6:0:,0:;", BROKEN),
        (b"6:0:,0:,;", BROKEN),
        (b"6:0:,0:,", DONE),  # its comma is still to come
        (b"7:0:,0:,x", BROKEN),
        (b"5:9:hello", BROKEN),  # longer than the package, which is noticed at the package's end, as in C
        (b"5:9:hel", BROKEN),
        (b"5:9:he", DONE),
        (b"20000000090:", UNABLE),
        (b"200000001:", DONE),
        (b"30:20000000090:", UNABLE),
        (b"0" * 96 + b"6:0:", DONE),
        (b"0" * 99 + b"6:0:", BROKEN),  # 100 bytes for the first length, colon included
    ],
)
def test_broken_framing_ends_the_session(data: bytes, code: int) -> None:
    assert heard(data) == (b"", code, [])


def test_one_wrong_length_never_queues_what_was_not_meant() -> None:
    whole = package(b"hi\n", b"s@x.test", b"a@here.test")
    for at in [at for at in range(len(whole)) if whole[at : at + 1].isdigit() and b":" in whole[at : at + 3]]:
        for digit in b"0123456789":
            queued = heard(whole[:at] + bytes([digit]) + whole[at + 1 :])[2]
            assert queued in ([], [(b"hi\n", b"s@x.test", [b"a@here.test"])])


def test_a_late_answer_ends_the_session_and_a_vanished_client_has_sent_its_message() -> None:
    for vanishes in (False, True):
        queue = FakeQueue(success(), answers_later=True)
        session = Session({}, World(StoppedClock(), queue.open))
        assert (session.receive(package(b"x", b"", b"a")), session.waiting) == (b"", True)
        if vanishes:
            session.vanish()
        else:
            assert session.answer(success(), 7) == ns(b"Kok %d qp 7" % NOW_S)
        assert (session.exit_code, len(queue.queued)) == (DONE, 1)


def test_a_queue_that_cannot_be_started_is_no_answer_at_all() -> None:
    session = Session({}, World(StoppedClock(), FakeQueue(None).open))
    assert (session.receive(package()), session.exit_code) == (b"", UNABLE)


def test_too_many_recipients_are_read_and_not_kept() -> None:
    queue, all_envelopes = FakeQueue(success()), EnvelopeBytes()
    session = Session({}, World(StoppedClock(), queue.open, all_envelopes))
    some, count = ns(b"a" * 900) * 1_000, 20
    rest = ns(b"") + ns(b"s") + some * count
    said = session.receive(b"%d:" % len(rest) + ns(b"") + ns(b"s"))
    for _ in range(count):
        said += session.receive(some)
        assert all_envelopes.used <= ENVELOPE_BYTES_MAX
    assert (said + session.receive(b","), session.exit_code) == (ns(TOO_MANY), DONE)
    assert (queue.queued, all_envelopes.used) == ([], 0)


def test_sessions_share_what_envelopes_may_take() -> None:
    all_envelopes = EnvelopeBytes()
    all_envelopes.used = ENVELOPES_BYTES_MAX - 10
    session = Session({}, World(StoppedClock(), FakeQueue(success()).open, all_envelopes))
    assert session.receive(package(b"", b"", b"a@b.test")) == ns(TOO_MANY)
    assert all_envelopes.used == ENVELOPES_BYTES_MAX - 10


def test_what_the_client_packs_the_server_unpacks() -> None:
    pieces = list(client_package(5, iter([b"he", b"llo"]), b"s@x", [b"a@b", b"c@d"]))
    assert b"".join(pieces) == b"26:5:hello,3:s@x,3:a@b,3:c@d,,"
    assert b"he" in pieces and b"llo" in pieces  # the message is not copied together
    assert heard(b"".join(client_package(0, (), b"", [])))[2] == [(b"", b"", [])]


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (b"", None), (b"23:", None), (b"23:Kok", b"K"), (b"3:Zno,", b"Z"), (b"D", b"D"), (b"\0\xffxZD", b"Z"),
        (b"k z d", None), (b"HELLO D K", b"D"),
    ],
)  # fmt: skip
def test_the_first_letter_is_the_verdict(said: bytes, found: bytes | None) -> None:
    assert verdict(said) == found
