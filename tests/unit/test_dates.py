"""qmail's dates against the C library's, over thousands of years."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from notqmail.message.dates import civil_time, compact_date, header_date, mbox_date

seconds = st.integers(-60_000_000_000, 250_000_000_000)  # the years 68 to 9892


@given(seconds)
@example(0)
@example(-1)
@example(951_782_399)  # the second before 29 February 2000
@example(951_868_799)  # the last of it
@example(4_107_542_400)  # 1 March 2100: no leap year
@example(2_147_483_648)  # where 32 bits end
def test_every_second_is_the_c_library_s(now_s: int) -> None:
    there = time.gmtime(now_s)
    assert civil_time(now_s) == (
        there.tm_year, there.tm_mon, there.tm_mday, there.tm_hour, there.tm_min, there.tm_sec, there.tm_wday
    )  # fmt: skip


@given(st.integers(0, 250_000_000_000))
def test_the_three_forms_are_the_c_library_s(now_s: int) -> None:
    there = time.gmtime(now_s)
    assert mbox_date(now_s).decode() == time.strftime("%a %b %d %H:%M:%S %Y", there)
    assert compact_date(now_s).decode() == time.strftime("%Y%m%d%H%M%S", there)
    assert header_date(now_s).decode() == f"{there.tm_mday} " + time.strftime("%b %Y %H:%M:%S -0000", there)


@pytest.mark.parametrize(
    ("now_s", "header", "mbox"),
    [
        (0, b"1 Jan 1970 00:00:00 -0000", b"Thu Jan 01 00:00:00 1970"),
        (1_795_365_569, b"22 Nov 2026 16:39:29 -0000", b"Sun Nov 22 16:39:29 2026"),
    ],
)
def test_days_are_padded_in_an_mbox_and_not_in_a_header(now_s: int, header: bytes, mbox: bytes) -> None:
    assert (header_date(now_s), mbox_date(now_s)) == (header, mbox)
