"""qbiff: what is said, to which terminals; and the file that says who is logged in."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from notqmail.deliver.commands.qbiff import announcement, qbiff
from notqmail.unix.sessions import logged_in, record_bytes

ENVIRON = {b"USER": b"joe", b"SENDER": b"s@x", b"LOCAL": b"joe-ext"}


def reader(message: bytes, cut: int = 10_000) -> Callable[[], bytes]:
    pieces = iter([message[at : at + cut] for at in range(0, len(message), cut)])
    return lambda: next(pieces, b"")


def said(message: bytes, cut: int = 10_000) -> bytes:
    lines = announcement(b"joe", b"s@x", reader(message, cut)).split(b"\r\n")
    assert (lines[0], lines[1], lines[3]) == (b"", b"\a*** TO <joe> FROM <s@x>", b"")
    return lines[2].removeprefix(b"    ")


TEXTS = [
    (b"Subject: hi\nTo: x\n\nbody line\nmore\n", b"hi//body line/more/"),
    (b"", b""),
    (b"Subject: hi", b"hi/"),
    (b"\nbody", b"/body/"),
    (b"nohead", b"/nohead/"),
    (b"Subject:\n folded\n\tmore\nsubject : two\nX: y\n\nb\n", b"folded//more/two//b/"),
    (b"\xe9\a\n", b"////"),
    (b"Subject:   \r\n\r\nq\r\n", b"///q//"),
    (b"From x\nSubject: q\n\nh", b"q//h/"),
    (b"Subject: " + b"w" * 75 + b"\n\nbody", b"w" * 74),
    (b"Subject: " + b"w" * 72 + b"\n\nbody", b"w" * 72 + b"//"),
    (b"Subject: " + b"w" * 73, b"w" * 73 + b"/"),
    (b"\n" * 80, b"/" * 74),
    (b"To: x\n\n", b"/"),
    (b"To: x\n", b""),
]


@pytest.mark.parametrize(("message", "text"), TEXTS)
def test_subject_and_body_make_one_short_line(message: bytes, text: bytes) -> None:
    assert said(message) == text


@pytest.mark.parametrize(("message", "text"), TEXTS)
@pytest.mark.parametrize("cut", [1, 2, 3, 7])
def test_it_does_not_matter_how_the_message_comes(message: bytes, text: bytes, cut: int) -> None:
    assert said(message, cut) == text


def test_no_more_of_the_message_is_read_than_is_said() -> None:
    pieces = iter([b"\n" + b"x" * 100])
    assert len(announcement(b"joe", b"s@x", lambda: next(pieces))) == 3 + 23 + 2 + 78 + 2


def test_a_header_without_end_is_said_as_far_as_it_goes() -> None:
    pieces = iter([b"Subject: a\nTo: b\n", b"X: " + b"x" * 5_000_000])
    assert announcement(b"j", b"s", lambda: next(pieces)).endswith(b"    a/\r\n")


def test_names_cannot_command_a_terminal() -> None:
    lines = announcement(b"j\x1b[2J", b"\xe9\r\n", reader(b"")).split(b"\r\n")
    assert lines[1] == b"\a*** TO <j_[2J> FROM <___>"


class Terminals:
    """Files in the place of terminals."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def add(self, name: str, mode: int = 0o700) -> None:
        path = self.place / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        path.chmod(mode)

    def tell(self, *sessions: tuple[bytes, bytes], uid: int | None = None, **environ: bytes | None) -> list[str]:
        """The names of those that were told something."""
        given = ENVIRON | {name.encode(): value for name, value in environ.items()}
        qbiff(
            {name: value for name, value in given.items() if value is not None}, sessions,
            read_more=reader(b"Subject: x\n\n"), uid=os.getuid() if uid is None else uid, devices=bytes(self.place),
        )  # fmt: skip
        return sorted(
            str(path.relative_to(self.place)) for path in self.place.rglob("*") if path.is_file() and path.read_bytes()
        )


@pytest.fixture
def terminals(tmp_path: Path) -> Terminals:
    found = Terminals(tmp_path)
    found.add("pts/1")
    found.add("pts/2")
    return found


def test_each_terminal_of_the_user_is_told(terminals: Terminals) -> None:
    assert terminals.tell((b"joe", b"pts/1"), (b"ann", b"pts/2"), (b"joe", b"pts/2")) == ["pts/1", "pts/2"]
    assert (terminals.place / "pts/1").read_bytes() == b"\r\n\a*** TO <joe-ext> FROM <s@x>\r\n    x//\r\n"


@pytest.mark.parametrize("session", [(b"ann", b"pts/1"), (b"jo", b"pts/1"), (b"joe", b"")])
def test_nobody_else_is_told(terminals: Terminals, session: tuple[bytes, bytes]) -> None:
    assert terminals.tell(session) == []


def test_a_terminal_without_biff_y_is_left_alone(terminals: Terminals) -> None:
    terminals.add("pts/3", mode=0o600)
    assert terminals.tell((b"joe", b"pts/3")) == []


def test_a_terminal_of_another_account_is_left_alone(terminals: Terminals) -> None:
    assert terminals.tell((b"joe", b"pts/1"), uid=os.getuid() + 1) == []


def test_a_name_that_leads_out_of_the_devices_is_not_followed(terminals: Terminals) -> None:
    outside = terminals.place / "outside"
    terminals.add("outside")
    terminals.place = terminals.place / "pts"
    names = [b"../outside", bytes(outside), b"./1", b"x.y"]
    assert terminals.tell(*[(b"joe", name) for name in names]) == []
    assert outside.read_bytes() == b""


def test_a_terminal_that_is_gone_is_not_made(terminals: Terminals) -> None:
    assert terminals.tell((b"joe", b"pts/9"), (b"joe", b"pts/1")) == ["pts/1"]
    assert not (terminals.place / "pts/9").exists()


@pytest.mark.parametrize("missing", ["USER", "SENDER", "LOCAL"])
def test_outside_a_delivery_nobody_is_told(terminals: Terminals, missing: str) -> None:
    assert terminals.tell((b"joe", b"pts/1"), **{missing: None}) == []


def test_a_message_that_cannot_be_read_is_no_reason_to_fail(tmp_path: Path) -> None:
    def fails() -> bytes:
        raise OSError(5, "disk")

    qbiff(ENVIRON, [(b"joe", b"x")], read_more=fails, uid=os.getuid(), devices=bytes(tmp_path))


def record(kind: int, line: bytes, user: bytes, *, length: int = 384, order: str = "<") -> bytes:
    return struct.pack(f"{order}hxxi32s4s32s", kind, 1, line, b"id", user).ljust(length, b"\x55")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("machine", "length"), [("x86_64", 384), ("aarch64", 400)])
def test_sessions_are_found_among_the_other_records(machine: str, length: int, order: str) -> None:
    assert record_bytes(machine) == length
    utmp = b"".join(
        record(kind, line, user, length=length, order=order)
        for kind, line, user in [
            (2, b"~", b"reboot"),
            (7, b"pts/1", b"joe"),
            (8, b"pts/2", b"joe"),
            (7, b"l" * 32, b"u" * 32),
            (7, b"tty1", b"ann"),
        ]
    )
    found = [(b"joe", b"pts/1"), (b"u" * 32, b"l" * 32), (b"ann", b"tty1")]
    assert logged_in(utmp, length) == found
    for cut in (1, 40, length - 1):
        assert logged_in(utmp[:-cut], length) == found[:-1], "half a record is none"
    assert logged_in(b"", length) == []
