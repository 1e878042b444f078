"""Handing a message to `qmail-queue --serve`: what goes over the socket, and what its answers mean."""

import socket

import pytest

from notqmail.queue.client import RESIDENT_HELLO, SocketSubmission, read_answer
from notqmail.wire.netstring import encode
from notqmail.wire.qmqp import INLINE_MAX, encode_package
from notqmail.wire.reports import SUCCESS, TEMPORARY, Report


def submit(answer: bytes, *, resident: bool = False) -> tuple[Report, int, bytes]:
    """The report, the qp number, and what the writer got."""
    ours, writers = socket.socketpair()
    with ours, writers:
        writers.sendall(answer)  # it fits into the buffer, so nobody needs to wait for anybody
        writers.shutdown(socket.SHUT_WR)
        submission = SocketSubmission(ours, resident=resident)
        submission.write(b"Subject: x\n\n")
        submission.write(b"body\n")
        report = submission.close(b"s@x", [b"a@x", b"b@x"])
        return report, submission.qp, writers.recv(65_536)


PACKAGE = encode_package(b"Subject: x\n\nbody\n", b"s@x", [b"a@x", b"b@x"])


@pytest.mark.parametrize("resident", [False, True])
def test_a_small_message_goes_as_one_package_and_a_resident_says_who_it_is(resident: bool) -> None:
    report, qp, got = submit(encode(b"Kok qp 77"), resident=resident)
    assert (report.kind, report.text, qp) == (SUCCESS, b"", 77)
    assert got == (RESIDENT_HELLO if resident else b"") + PACKAGE


def test_a_refusal_keeps_its_words() -> None:
    report, qp, _ = submit(encode(b"Zqq write error or disk full (#4.3.0)"))
    assert (report.kind, report.text, qp) == (TEMPORARY, b"qq write error or disk full (#4.3.0)", 0)


@pytest.mark.parametrize("answer", [b"", b"9:Kok qp", b"9" * 20_000])
def test_a_writer_that_goes_away_or_talks_nonsense_is_a_temporary_failure(answer: bytes) -> None:
    report, qp, _ = submit(answer)
    assert (report.kind, qp) == (TEMPORARY, 0)


def test_an_abandoned_large_message_leaves_no_descriptor_and_nothing_was_said() -> None:
    ours, writers = socket.socketpair()
    with writers:
        submission = SocketSubmission(ours, resident=True)
        submission.write(b"x" * (INLINE_MAX + 1))
        submission.abandon()
        assert writers.recv(65_536) == b""  # conftest.py looks for the descriptor


@pytest.mark.parametrize(
    ("answer", "kind", "qp"),
    [
        (b"Kok qp 7", SUCCESS, 7),
        (b"K", SUCCESS, 0),
        (b"Kok qp x", SUCCESS, 0),
        (b"Kok qp " + b"1" * 20, SUCCESS, int("1" * 20)),
        (b"Kok qp " + b"1" * 21, SUCCESS, 0),
        (b"Zlater qp 7", TEMPORARY, 0),
    ],
)
def test_an_answer_says_how_it_went_and_a_qp_number_if_it_has_one(answer: bytes, kind: bytes, qp: int) -> None:
    report, number = read_answer(answer)
    assert (report.kind, number) == (kind, qp)
