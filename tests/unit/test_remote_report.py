"""deliver.remote_report: what a run of qmail-remote means to qmail-send."""

import signal

import pytest

from notqmail.deliver.remote_report import CRASHED, NO_OUTPUT, UNABLE, UNABLE_EVER, combine_records, report_for_end
from notqmail.unix.processes import Ended
from notqmail.wire.reports import permanent, success, temporary


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
