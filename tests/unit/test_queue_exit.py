"""qmail-queue's exit codes as its callers understand them (qmail-queue(8), the whole table)."""

import pytest

from notqmail.wire import queue_exit
from notqmail.wire.queue_exit import exit_for_report, report_for_exit
from notqmail.wire.reports import Report, permanent, success, temporary

CREATING = b"Zqq trouble creating files in queue (#4.3.0)"
TABLE = {
    0: b"K",
    11: b"Denvelope address too long for qq (#5.1.3)",
    115: b"Denvelope address too long for qq (#5.1.3)",  # what qmail 1.01 used
    31: b"Dmail server permanently rejected message (#5.3.0)",
    51: b"Zqq out of memory (#4.3.0)",
    52: b"Zqq timeout (#4.3.0)",
    53: b"Zqq write error or disk full (#4.3.0)",
    54: b"Zqq read error (#4.3.0)",
    55: b"Zqq unable to read configuration (#4.3.0)",
    56: b"Zqq trouble making network connection (#4.3.0)",
    61: b"Zqq trouble in home directory (#4.3.0)",
    62: CREATING, 63: CREATING, 64: CREATING, 65: CREATING, 66: CREATING,
    71: b"Zmail server temporarily rejected message (#4.3.0)",
    72: b"Zconnection to mail server timed out (#4.4.1)",
    73: b"Zconnection to mail server rejected (#4.4.1)",
    74: b"Zcommunication with mail server failed (#4.4.2)",
    81: b"Zqq internal bug (#4.3.0)",
    91: b"Zqq internal bug (#4.3.0)",
    120: b"Zunable to exec qq (#4.3.0)",
}  # fmt: skip


@pytest.mark.parametrize("code", range(256))
def test_every_exit_code_has_its_sentence(code: int) -> None:
    if code in TABLE:
        expected = TABLE[code]
    elif 11 <= code <= 40:
        expected = b"Dqq permanent problem (#5.3.0)"
    else:
        expected = b"Zqq temporary problem (#4.3.0)"
    assert report_for_exit(code).encode() == expected


@pytest.mark.parametrize(
    ("custom", "expected"),
    [
        (b"Dno spam here (#5.7.1)", b"Dno spam here (#5.7.1)"),
        (b"Zcome back later", b"Zcome back later"),
        (b"Kaccepted, honestly", b"Zaccepted, honestly"),  # exit 82 is never success
        (b"Xno letter", b"Zno letter"),  # unknown kinds are temporary
        (b"", b"Zqq temporary problem (#4.3.0)"),
        (b"Dx", b"Zqq temporary problem (#4.3.0)"),  # two bytes are no text
        (b"Dxy", b"Dxy"),
        (b"Dtwo\r\n250 lines\r\n", b"Dtwo??250 lines"),  # no second reply line can be smuggled in
        (b"Dcut\0here", b"Dcut"),
        (b"Dwhat?\r\n", b"Dwhat?"),
        (b"D\x1f\x20\x7e", b"D?\x20\x7e"),
        (b"D\x7f\x01\x1b[31m\xff", b"D???[31m\xff"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("code", [82, 88])
def test_a_program_may_bring_its_own_text_with_two_codes(code: int, custom: bytes, expected: bytes) -> None:
    assert report_for_exit(code, custom).encode() == expected


def test_a_custom_text_counts_for_no_other_code() -> None:
    assert report_for_exit(53, b"Dmy own words") == report_for_exit(53)
    assert report_for_exit(0, b"Dmy own words") == success()


@pytest.mark.parametrize("code", sorted(TABLE))
def test_a_report_becomes_a_code_that_says_the_same(code: int) -> None:
    report = report_for_exit(code)
    assert report_for_exit(exit_for_report(report)) == report


@pytest.mark.parametrize(
    ("report", "code"),
    [(success(b"ok"), 0), (permanent(b"no such text"), 31), (temporary(b"what?"), 71), (Report(b"X", b"?"), 71)],
)
def test_unknown_texts_keep_their_kind(report: Report, code: int) -> None:
    assert exit_for_report(report) == code


def test_a_crash_is_temporary() -> None:
    assert queue_exit.CRASHED.encode() == b"Zqq crashed (#4.3.0)"
