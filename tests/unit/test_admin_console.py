"""The log of `notqmail run`: whole lines, whatever way a pipe cuts them, and nothing that a terminal would obey."""

import os

import pytest

from notqmail.admin.console import LINE_MAX, Console, Lines, printable


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"delivery 1: success: did_1+0+0/", "delivery 1: success: did_1+0+0/"),
        (b"\x1b[2J", "\\x1b[2J"),  # would clear the screen
        (b"a\rb", "a\\rb"),  # would overwrite the time in front
        (b"\xff\xfe", "\\xff\\xfe"),  # not UTF-8
        ("grüße".encode(), "grüße"),
        ("\u202egnp.exe".encode(), "\\u202egnp.exe"),  # would turn the line around
        (b"", ""),
        (b"\0", "\\x00"),
    ],
)
def test_what_is_not_printable_is_shown_as_an_escape(line: bytes, shown: str) -> None:
    assert printable(line) == shown


def test_lines_do_not_depend_on_how_the_pipe_cuts_them() -> None:
    data = b"qmail-smtpd: listening\n\nsecond grue\xc3\x9fe\nqmail-smtpd without colon\nrest"
    want = ["listening", "", "second grueße", "qmail-smtpd without colon", "rest"]
    for cut in range(len(data) + 1):
        lines = Lines("qmail-smtpd")
        assert lines.feed(data[:cut]) + lines.feed(data[cut:]) + lines.end() == want, cut


def test_a_long_line_is_cut_at_the_same_place_however_the_pipe_cuts_it() -> None:
    data = b"y" * (LINE_MAX + 3000) + b"\nnext\n" + b"z" * LINE_MAX + b"\n"
    for size in (1, 999, LINE_MAX - 1, LINE_MAX, LINE_MAX + 1, len(data)):
        lines = Lines("x")
        shown = [line for start in range(0, len(data), size) for line in lines.feed(data[start : start + size])]
        assert shown == ["y" * LINE_MAX, "next", "z" * LINE_MAX], size
        assert lines.end() == []


def test_a_line_without_end_is_not_kept_for_ever() -> None:
    lines = Lines("x")
    assert [line for _ in range(100) for line in lines.feed(b"y" * 1000)] == []
    assert lines.end() == ["y" * LINE_MAX]


def test_a_reader_that_left_is_noticed_and_not_fatal() -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    console = Console(write_fd)
    console.say("one")
    assert console.closed
    console.log("qmail-send", "two")
    os.close(write_fd)
