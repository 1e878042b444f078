"""wire/qmtp.py, wire/qmtp_client.py: what a QMTP client says, and what it makes of the answers however they are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notqmail.wire.netstring import BadNetstring
from notqmail.wire.netstring import encode as ns
from notqmail.wire.package_stream import BEGIN, END, RECIPIENT, SENDER, TEXT, Stream
from notqmail.wire.qmtp import ANSWER_MAX, QMTP_PORT, AnswerReader, CrlfDecoder, package_head, package_tail, packages
from notqmail.wire.qmtp_client import Package, Session
from notqmail.wire.reports import Report, permanent, success, temporary

ACCEPTED = success(b"192.0.2.1 accepted message.\nRemote host said: ok 1 qp 2\n")
GIVING_UP = permanent(b"Giving up on 192.0.2.1.\n")
DIED_LATE = b"Connected to 192.0.2.1 but connection died. Possible duplicate! (#4.4.2)\n"
SHORT = DIED_LATE + b"Remote host answered for 1 of 3 recipients; QMTP wants an answer for each.\n"
GARBLED = DIED_LATE + b"Remote host does not speak QMTP properly.\n"
K, Z, D = ns(b"Kok 1 qp 2"), ns(b"Zlater (#4.3.0)"), ns(b"Dno (#5.7.1)")
R = (b"r", b"")
S = (b"s", b"192.0.2.1 did not take it for this recipient.\nRemote host said: later (#4.3.0)\n")
H = (b"h", b"192.0.2.1 did not take it for this recipient.\nRemote host said: no (#5.7.1)\n")


def begun(recipients: int = 3) -> Session:
    """A session that has sent a package to so many and waits for the answers."""
    session = Session(b"192.0.2.1")
    session.begin(Package(b"s@x", [b"r%d@y" % number for number in range(recipients)], 3))
    session.end_body()
    return session


def test_a_package_is_the_one_the_server_understands() -> None:
    assert package_head(6) + b"hello\n" + package_tail(b"s@x", [b"a@b", b"c d@e"]) == (
        b"7:\nhello\n,3:s@x,14:3:a@b,5:c d@e,,"
    )
    assert package_head(0) + package_tail(b"", []) == b"1:\n,0:,0:,"


@given(
    st.binary(max_size=80),
    st.binary(max_size=20),
    st.lists(st.one_of(st.binary(max_size=20), st.just(b"x" * 999)), max_size=4),
    st.integers(1, 9),
)
def test_what_is_packed_is_unpacked(message: bytes, sender: bytes, recipients: list[bytes], size: int) -> None:
    wire = (package_head(len(message)) + message + package_tail(sender, recipients)) * 2
    stream = Stream()
    events, found = packages(stream), list[tuple[int, bytes | None]]()
    for start in range(0, len(wire), size):
        stream.receive(wire[start : start + size])
        while (event := next(events)) is not None:
            found.append(event)
    texts = b"".join(value or b"" for kind, value in found if kind == TEXT)
    rest = [event for event in found if event[0] != TEXT]
    one = [(BEGIN, None), (SENDER, sender), *((RECIPIENT, recipient) for recipient in recipients), (END, None)]
    assert (texts, rest, len(stream)) == (message * 2, one * 2, 0)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x"]), max_size=20), st.integers(1, 5))
def test_crlf_becomes_lf_wherever_it_is_cut(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    decoder, found = CrlfDecoder(), b""
    for start in range(0, len(data), size):
        found += decoder.feed(data[start : start + size], last=start + size >= len(data))
    assert found == data.replace(b"\r\n", b"\n")


@pytest.mark.parametrize(
    ("answers", "records", "report"),
    [
        ([K, K, K], [R, R, R], ACCEPTED),
        ([K, D, Z], [R, H, S], ACCEPTED),
        ([D, D, D], [H, H, H], GIVING_UP),
        ([Z, Z, Z], [S, S, S], GIVING_UP),  # each recipient's own record outranks the message's
        ([Z, D, Z], [S, H, S], GIVING_UP),
    ],
)
def test_each_answer_is_the_record_of_its_recipient(
    answers: list[bytes], records: list[tuple[bytes, bytes]], report: Report
) -> None:
    said = b"".join(answers)
    for size in (len(said), 1, 2, 7):
        session = begun()
        for start in range(0, len(said), size):
            assert session.outcome is None
            assert session.receive(said[start : start + size]) == b""
        assert session.outcome is not None
        assert (session.outcome.records, session.outcome.report, session.may_begin) == (records, report, True)


def test_a_success_without_words_is_one() -> None:
    session = begun(1)
    session.receive(b"1:K,")
    assert session.outcome is not None
    assert session.outcome.report == success(b"192.0.2.1 accepted message.\nRemote host said: ok\n")


def test_no_answer_brings_line_breaks_or_nuls_into_a_report() -> None:
    session = begun(2)
    session.receive(ns(b"Kok\r\n\0x\x7f\xe4") + ns(b"Dno\n\nreally"))
    assert session.outcome is not None
    assert session.outcome.report.text.endswith(b"said: ok???x?\xe4\n")
    assert session.outcome.records[1][1].endswith(b"said: no??really\n")


@pytest.mark.parametrize("broken", [b"x", b"5:hello,", b"0:,", b"2:Kx;", b"1:", b"99999999999:", b"0:", b"12:\0"])
def test_broken_answers_are_temporary_for_whom_they_leave_without_one(broken: bytes) -> None:
    for first, records in ((b"", None), (D, [H, (b"s", H[1])]), (K, [R])):
        session = begun()
        session.receive(first + broken)
        if session.outcome is None:  # it may still become an answer
            session.connection_died()
        assert session.outcome is not None
        assert not session.may_begin
        texts = {DIED_LATE, SHORT, GARBLED}
        if records == [R]:
            assert session.outcome.report == ACCEPTED
            assert session.outcome.records[:1] == records
            assert {text for _, text in session.outcome.records[1:]} <= texts
            assert [letter for letter, _ in session.outcome.records[1:]] == [b"s", b"s"]
        else:
            assert session.outcome.report.kind == b"Z" and session.outcome.report.text in texts
            assert session.outcome.records == [] if records is None else session.outcome.records[0] in records


def test_a_connection_that_dies_before_the_package_is_whole_leaves_no_doubt() -> None:
    session = Session(b"192.0.2.1")
    assert session.begin(Package(b"s", [b"r"], 3)) == b"4:\n"
    assert (session.wants_body, session.may_begin) == (True, False)
    session.connection_died()
    assert session.outcome is not None
    assert session.outcome.report == temporary(b"Connected to 192.0.2.1 but connection died. (#4.4.2)\n")
    assert (session.outcome.records, session.wants_body) == ([], False)


def test_whom_nobody_answered_is_tried_again_and_whom_somebody_took_is_not() -> None:
    session = begun()
    session.receive(K + D)
    session.connection_died()
    assert session.outcome is not None
    assert (session.outcome.records, session.outcome.report) == (
        [R, H, (b"s", SHORT.replace(b"1 of", b"2 of"))],
        ACCEPTED,
    )
    assert not session.answers_once
    session = begun()
    session.connection_died()
    assert session.outcome is not None
    assert (session.outcome.records, session.outcome.report) == ([], temporary(DIED_LATE))


@pytest.mark.parametrize(("answer", "record"), [(K, R), (D, (b"s", H[1])), (Z, S)])
def test_one_answer_for_several_says_what_the_server_is_like_and_refuses_nobody_for_good(
    answer: bytes, record: tuple[bytes, bytes]
) -> None:
    session = begun()
    assert (session.is_answering, session.answers_once) == (False, False)
    session.receive(answer)
    assert (session.is_answering, session.answers_once, session.outcome) == (True, False, None)
    session.connection_died()
    assert (session.is_answering, session.answers_once) == (False, True)
    assert session.outcome is not None
    assert session.outcome.records[:1] == [record]
    assert SHORT in ({text for _, text in session.outcome.records[1:]} | {session.outcome.report.text})


def test_an_answer_before_the_question_is_no_answer() -> None:
    session = Session(b"192.0.2.1")
    session.begin(Package(b"s", [b"r"], 3))
    session.receive(K)
    assert session.outcome is not None
    assert (session.outcome.report.kind, session.wants_body, session.may_begin) == (b"Z", False, False)


def test_more_answers_than_recipients_end_the_connection() -> None:
    session = begun(1)
    session.receive(K + K)
    assert session.outcome is not None
    assert (session.outcome.report, session.may_begin) == (ACCEPTED, False)
    session = begun(1)
    session.receive(K)
    assert session.may_begin
    session.receive(K)
    assert not session.may_begin


def test_one_connection_takes_one_package_after_another() -> None:
    session = begun(1)
    session.receive(K)
    assert session.begin(Package(b"", [b"a", b"b"], 0)) == b"1:\n"
    assert (session.outcome, session.wants_body) == (None, True)
    assert session.end_body() == b",0:,8:1:a,1:b,,"
    session.receive(Z + K)
    assert session.outcome is not None
    assert (session.outcome.records, session.outcome.report) == ([S, R], ACCEPTED)


def test_a_reason_of_the_driver_is_the_outcome() -> None:
    session = Session(b"192.0.2.1")
    session.begin(Package(b"s", [b"r"], 3))
    session.give_up(temporary(b"no file\n"))
    assert session.outcome is not None and session.outcome.report == temporary(b"no file\n")
    session.connection_died()
    assert session.outcome.report == temporary(b"no file\n")


@pytest.mark.parametrize(
    ("said", "answer"),
    [(b"", None), (b"1", None), (b"1:", None), (b"1:K", None), (b"1:K,", success()), (b"3:Zno,5", temporary(b"no"))],
)
def test_an_answer_is_there_or_not(said: bytes, answer: Report | None) -> None:
    reader = AnswerReader()
    reader.receive(said)
    assert reader.next_answer() == answer


def test_an_answer_has_a_limit() -> None:
    reader = AnswerReader()
    reader.receive(b"%d:K" % (ANSWER_MAX + 1))
    with pytest.raises(BadNetstring):
        reader.next_answer()
    reader = AnswerReader()
    reader.receive(ns(b"K" * ANSWER_MAX))
    assert reader.next_answer() == success(b"K" * (ANSWER_MAX - 1))


@pytest.mark.parametrize("broken", [b"x", b"2:Kx;", b"0:,", b"99999999999:"])
def test_a_server_that_does_not_speak_qmtp_is_not_waited_for(broken: bytes) -> None:
    session = begun()
    session.receive(broken)
    assert session.outcome is not None and session.outcome.report == temporary(GARBLED)


def test_the_port_is_the_one_of_qmtp() -> None:
    assert QMTP_PORT == 209
