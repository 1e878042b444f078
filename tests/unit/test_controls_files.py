"""Control files: one line, one number, lists, maps; and files that cannot be read."""

import os
from pathlib import Path

import pytest

from notqmail.control.files import (
    Missing,
    colon_map,
    entries,
    leading_digits,
    line_or,
    line_or_me,
    name_set,
    number,
    one_line,
)
from notqmail.unix.controls import Unreadable, control_reader


def reader(**files: bytes):
    return files.get


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a.test\n", b"a.test"), (b"a.test", b"a.test"), (b"a.test \t \nmore\n", b"a.test"),
        (b"", b""), (b"\n", b""), (b"  \n", b""), (b"\nsecond\n", b""),  # an empty line is a value
        (b" a.test\n", b" a.test"), (b"a.test\r\n", b"a.test\r"),  # leading blanks and CR stay
        (b"a?\n", b"a?"), (b"#a\n", b"#a"),  # no comments in such a file
    ],
)  # fmt: skip
def test_a_line_file_is_its_first_line(content: bytes, line: bytes) -> None:
    assert one_line(reader(me=content), "me") == line


def test_defaults_come_only_when_there_is_no_file() -> None:
    assert one_line(reader(), "me") is None
    assert line_or(reader(), "bouncefrom", b"MAILER-DAEMON") == b"MAILER-DAEMON"
    assert line_or(reader(bouncefrom=b""), "bouncefrom", b"MAILER-DAEMON") == b""
    assert line_or_me(reader(me=b"m"), "bouncehost", b"bouncehost") == b"m"
    assert line_or_me(reader(me=b"m", bouncehost=b""), "bouncehost", b"bouncehost") == b""
    assert line_or_me(reader(), "bouncehost", b"bouncehost") == b"bouncehost"
    with pytest.raises(Missing, match="control/helohost is missing") as missing:
        line_or_me(reader(), "helohost")
    assert missing.value.name == "helohost"


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (None, 20), (b"", 20), (b"x", 20), (b" 5", 20), (b"-5", 20), (b"+5", 20), (b"\n5", 20),
        (b"0", 0), (b"5", 5), (b"007\n", 7), (b"5 apples", 5), (b"5x6", 5),
        (b"5/6", 5), (b"5:6", 5), (b"/5", 20), (b":5", 20), (b"9", 9),
        (b"604800\n", 604_800),
        (b"\xb2", 20),  # a digit only to Unicode
    ],
)  # fmt: skip
def test_a_number_file_is_its_leading_digits(content: bytes | None, value: int) -> None:
    assert number({}.get if content is None else reader(n=content), "n", 20) == value


def test_absurd_numbers_are_only_large() -> None:
    assert leading_digits(b"9" * 5_000) == int("9" * 20)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (None, None), (b"", []), (b"\n\n", []), (b"a\nb\n", [b"a", b"b"]), (b"a\nb", [b"a", b"b"]),
        (b"a?\n", [b"a?"]),
        (b"# no\na # yes\n#\n", [b"a # yes"]), (b" #a\n", [b" #a"]), (b"a \t\n \t\n", [b"a"]), (b" a\n", [b" a"]),
        (b"a\r\n", [b"a\r"]), (b"a\0b\n", [b"a\0b"]),
    ],
)  # fmt: skip
def test_a_list_has_comments_and_no_empty_lines(content: bytes | None, lines: list[bytes] | None) -> None:
    assert entries({}.get if content is None else reader(locals=content), "locals") == lines


def test_names_are_compared_in_lower_case() -> None:
    assert name_set([b"A.Test", b"a.test", b"\xc9"]) == {b"a.test", b"\xc9"}


def test_in_a_map_the_first_colon_ends_the_key_and_the_last_line_wins() -> None:
    lines = [b"A.test:joe", b"b.test:x:y", b"no colon", b":rest", b"a.test:jim", b"c.test:"]
    assert colon_map(lines) == {b"a.test": b"jim", b"b.test": b"x:y", b"": b"rest", b"c.test": b""}


def test_files_are_read_as_they_are_now(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    read = control_reader(os.fsencode(tmp_path))
    assert read("me") is None
    (tmp_path / "control" / "me").write_bytes(b"\xff\0\n")
    assert read("me") == b"\xff\0\n"


def test_a_file_that_is_there_and_cannot_be_read_is_no_default(tmp_path: Path) -> None:
    (tmp_path / "control" / "me").mkdir(parents=True)
    with pytest.raises(Unreadable, match="unable to read control/me"):
        control_reader(os.fsencode(tmp_path))("me")
    (tmp_path / "control" / "loop").symlink_to("loop")
    with pytest.raises(Unreadable):
        control_reader(os.fsencode(tmp_path))("loop")


def test_a_fifo_in_the_place_of_a_control_file_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    os.mkfifo(tmp_path / "control" / "me")
    read = control_reader(os.fsencode(tmp_path))
    assert read("me") == b"", "nobody writes: it is empty, as for qmail"
    writer = os.open(tmp_path / "control" / "me", os.O_RDWR)
    with pytest.raises(Unreadable, match="me: somebody still writes it"):
        read("me")
    os.close(writer)
