"""splogger: lines become syslog messages with a stamp, a priority, and nothing that a terminal might obey."""

import pytest

from notqmail.send.splogger import LineLogger, facility_code

NOW_US = 1_795_334_431_000_042
STAMP = "1795334431.000042"


def logged(data: bytes, cut: int = 100_000) -> list[tuple[int, str]]:
    """(priority, text without the stamp, its sign kept) of each message; the clock ticks with every line."""
    found: list[tuple[int, str]] = []
    logger = LineLogger(lambda priority, text: found.append((priority, text)), lambda: NOW_US)
    for start in range(0, len(data), cut):
        logger.receive(data[start : start + cut])
    logger.finish()
    assert all(text.startswith(STAMP) for _, text in found)
    return [(priority, text.removeprefix(STAMP)) for priority, text in found]


A, B = "a" * 799, "b" * 799
TABLE: list[tuple[bytes, list[tuple[int, str]]]] = [
    (b"", []),
    (b"hello\n", [(6, " hello")]),
    (b"\n\nx\n\n", [(6, " x")]),
    (b"warning: x\nalert: y\nalert:z\nAlert: q\n alert: r\n",
     [(4, " warning: x"), (1, " alert: y"), (1, " alert:z"), (6, " Alert: q"), (6, "  alert: r")]),
    (b"tab\tbell\a\xe9\0x\r\n", [(6, " tab?bell???x?")]),
    (A.encode() + b"\n", [(6, " " + A)]),
    (A.encode() + b"c\n", [(6, " " + A), (6, "+c")]),
    (A.encode() + B.encode() + b"\nx\n", [(6, " " + A), (6, "+" + B), (6, " x")]),
    (b"alert: " + b"c" * 1600 + b"\nx\n",
     [(1, " alert: " + "c" * 792), (1, "+" + "c" * 799), (1, "+" + "c" * 9), (6, " x")]),
    (b"c" * 799 + b"warning: x\n", [(6, " " + "c" * 799), (6, "+warning: x")]),
    (b"no newline", [(6, " no newline")]),
    (b"x\nalert: the end", [(6, " x"), (1, " alert: the end")]),
]  # fmt: skip


@pytest.mark.parametrize(("data", "messages"), TABLE)
@pytest.mark.parametrize("cut", [100_000, 1, 2, 3, 799, 800])
def test_each_line_is_a_message_however_it_comes(data: bytes, messages: list[tuple[int, str]], cut: int) -> None:
    assert logged(data, cut) == messages


def test_a_line_s_pieces_have_the_stamp_of_its_first() -> None:
    times = iter([1_000_001, 2_000_002])
    found: list[str] = []
    logger = LineLogger(lambda _priority, text: found.append(text), lambda: next(times))
    logger.receive(b"a" * 800 + b"\nb\n")
    assert [text[:9] for text in found] == ["1.000001 ", "1.000001+", "2.000002 "]


def test_what_is_complete_is_logged_before_more_comes() -> None:
    found: list[str] = []
    logger = LineLogger(lambda _priority, text: found.append(text), lambda: NOW_US)
    logger.receive(b"one\ntw")
    assert found == [f"{STAMP} one"]


@pytest.mark.parametrize(
    ("text", "code"),
    [(b"2", 16), (b"23", 184), (b"24", 192), (b"0", 0), (b"x", 0), (b"", 0), (b"16x", 128), (b"-1", 0),
     (b"536870914", 16), (b"268435456", -(2**31)), (b"9" * 5_000, (10**20 - 1) * 8 % 2**32)],
)  # fmt: skip
def test_a_facility_is_a_number(text: bytes, code: int) -> None:
    assert facility_code(text) % 2**32 == code % 2**32
    assert -(2**31) <= facility_code(text) < 2**31
