"""deliver.remote_report: what a run of qmail-remote means to qmail-send."""

import signal

import pytest

from notqmail.deliver.remote_report import (
    CRASHED,
    NO_OUTPUT,
    UNABLE,
    UNABLE_EVER,
    combine_records,
    report_for_end,
    reports_of,
)
from notqmail.unix.processes import Ended
from notqmail.wire.reports import permanent, success, temporary
from notqmail.wire.smtp_client import Envelope, Session


@pytest.mark.parametrize(
    ("output", "report"),
    [
        (b"r\0Kok\n\0", success(b"ok\n")),
        (b"r\0Zlater\n\0", temporary(b"later\n")),
        (b"r\0Dno\n\0", permanent(b"no\n")),
        (b"sdefer\n\0Kok\n\0", temporary(b"defer\n")),
        (b"sdefer\n\0Zlater\n\0", temporary(b"defer\nlater\n")),
        (b"sdefer\n\0DGiving up\n\0", temporary(b"defer\nGiving up\n")),  # a deferred only recipient is no bounce
        (b"hno\n\0Kok\n\0", permanent(b"no\n")),
        (b"hno\n\0Zlater\n\0", permanent(b"no\n")),
        (b"hno\n\0DGiving up\n\0", permanent(b"no\nGiving up\n")),
        (b"Zno connection\n\0", temporary(b"no connection\n")),
        (b"Dno host\n\0", permanent(b"no host\n")),
        (b"Kok\n\0", success(b"ok\n")),
        (b"", NO_OUTPUT),
        (b"r\0", temporary(b"")),  # no message report: C bounces
        (b"r\0Kcut short", temporary(b"")),
        (b"Kcut short", temporary(b"")),
        (b"hcut short", temporary(b"")),
        (b"hno\n\0", permanent(b"no\n")),
        (b"sh: not found\0", temporary(b"h: not found")),
        (b"r\0x\0Kok\0", success(b"")),  # only the record that follows is quoted
    ],
)
def test_records(output, report):
    assert combine_records(output) == report


@pytest.mark.parametrize(
    ("status", "report"),
    [
        (0, success(b"ok\n")),
        (111 << 8, UNABLE),
        (127 << 8, UNABLE),
        (126 << 8, UNABLE),
        (100 << 8, UNABLE_EVER),
        (1 << 8, UNABLE_EVER),
        (signal.SIGKILL, CRASHED),
    ],
)
def test_the_end_of_a_program_goes_before_its_output(status, report):
    assert report_for_end(Ended(status), b"r\0Kok\n\0") == report


NO, LATER = (
    b"IP does not like recipient.\nRemote host said: %b\nGiving up on IP.\n" % said for said in (b"550 no", b"450 l")
)
OK = success(b"IP accepted message.\nRemote host said: 250 ok\n")
NOT_TAKEN = b"IP failed after I sent the message.\nRemote host said: %b\n"


@pytest.mark.parametrize("extensions", [b"502 what?\r\n250 hi\r\n", b"250-hi\r\n250 PIPELINING\r\n"])
@pytest.mark.parametrize(
    ("answers", "end", "reports"),
    [
        (b"2", b"250 ok", [OK]),
        (b"5", b"", [permanent(NO)]),
        (b"4", b"", [temporary(LATER)]),
        (b"54", b"", [permanent(NO), temporary(LATER)]),
        (b"254", b"250 ok", [OK, permanent(NO), temporary(LATER)]),
        (b"45", b"", [temporary(LATER), permanent(NO)]),
        (b"52", b"450 l", [permanent(NO), temporary(NOT_TAKEN % b"450 l")]),
        (b"425", b"550 no", [temporary(LATER), permanent(NOT_TAKEN % b"550 no"), permanent(NO)]),
    ],
)  # fmt: skip
def test_each_recipient_of_a_transaction_hears_what_it_would_hear_alone(extensions, answers, end, reports):
    session = Session(b"IP", b"me")
    session.begin(Envelope(b"s@x", [b"r@y"] * len(answers)))
    said = {b"2": b"250 ok\r\n", b"4": b"450 l\r\n", b"5": b"550 no\r\n"}
    replies = [said[answers[at : at + 1]] for at in range(len(answers))]
    session.receive(b"220 hi\r\n" + extensions + b"250 sender\r\n" + b"".join(replies) + b"354 go\r\n")
    if session.wants_body:
        session.end_body()
        session.receive(end + b"\r\n")
    assert list(reports_of(session.outcome, len(answers))) == reports
