"""fetch/popup.py: dialogues as notqmail 1.09 answers them, what reaches descriptor 3, and what is kept of it."""

import os
import signal
import sys

import pytest

from notqmail.fetch import popup
from notqmail.fetch.popup import Dialogue, Login
from notqmail.unix.peer import Peer
from notqmail.wire.command_lines import LINE_MAX

OK = b"+OK \r\n"
STAMP = b"<77.1795365569@mail.test>"


class OurClock:
    def __init__(self, *steady_s):
        self._steady_s = list(steady_s)

    def now_s(self):
        return 1_795_365_569

    def steady_s(self):
        return self._steady_s.pop(0) if self._steady_s else 0.0


def session(data, *command, clock=None):
    """What a client hears after the greeting, when it says `data` and nothing more."""
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    heard, hearing = os.pipe()
    try:
        words = [os.fsencode(word) for word in command] or [b"/nonexistent"]
        popup.run(b"mail.test", words, os.environb, clock or OurClock(), 77, Peer(reader, hearing, 20))
        rest = os.read(reader, 65_536)
    finally:
        os.close(reader)
        os.close(hearing)
    with open(heard, "rb") as file:
        greeting, _, answers = file.read().partition(b"\r\n")
    assert greeting == b"+OK " + STAMP
    return answers, rest


# As the C program answers, all with a subprogram that cannot be run.
DIALOGUES = [
    (b"", b""),
    (b"QUIT\r\n", OK),
    (b"quit now\nNOOP\r\n", OK),
    (b"NOOP\r\nNOOP x\r\nQUIT\r\n", OK * 3),
    (b"STAT\r\n\r\nfoo\r\nQUIT\0\r\n", b"-ERR authorization first\r\n" * 3 + OK),
    (b"PASS x\r\n", b"-ERR USER first\r\n"),
    (
        b"USER\r\nUSER \r\nuser  x \nPASS\r\nPASS  \r\n",
        b"-ERR syntax error\r\n" * 2 + OK + b"-ERR syntax error\r\n" * 2,
    ),
    (b"USER a\r\nUSER b\r\nPASS x\r\n", OK * 2 + b"-ERR authorization failed\r\n"),
    (b"APOP\r\nAPOP joe\r\nAPOP joe \r\n", b"-ERR syntax error\r\n" * 2 + b"-ERR authorization failed\r\n"),
    (b"USER joe\r\nPASS unfinished", OK),
    (b"USER joe\r\r\nQUIT\r\r\n", OK + b"-ERR authorization first\r\n"),
    # Ours alone:
    (b"CAPA\r\nQUIT\r\n", b"+OK capabilities follow\r\nTOP\r\nUSER\r\nUIDL\r\n.\r\n" + OK),
    (b"USER " + b"x" * (LINE_MAX - 5) + b"\r\nQUIT\r\n", OK * 2),
    (b"USER " + b"x" * (LINE_MAX - 5) + b"\nQUIT\r\n", OK * 2),
    (b"USER " + b"x" * (LINE_MAX - 4) + b"\nQUIT\r\n", b"-ERR line too long\r\n" + OK),
    (b"USER " + b"x" * (LINE_MAX - 4) + b"\r\nQUIT\r\n", b"-ERR line too long\r\n" + OK),
    (b"x" * 3 * LINE_MAX + b"\nQUIT\r\n", b"-ERR line too long\r\n" + OK),
    (b"NOOP\r\n" * 200, OK * popup.COMMANDS_MAX + b"-ERR too many commands\r\n"),
]


@pytest.mark.parametrize(("said", "answers"), DIALOGUES, ids=lambda text: repr(text[:30]))
def test_a_dialogue(said, answers):
    assert session(said)[0] == answers


SHOW = "import os, sys; os.write(1, repr(os.read(3, 1000)).encode()); sys.exit(int(sys.argv[1]))"


@pytest.mark.parametrize(
    ("said", "on_descriptor_3"),
    [
        (b"USER joe\r\nPASS secret\r\n", b"joe\0secret\0" + STAMP + b"\0"),
        (b"USER  two words \r\nPASS  a  b \r\n", b"two words \0a  b \0" + STAMP + b"\0"),
        (b"APOP joe 0123abc\r\n", b"joe\x000123abc\0" + STAMP + b"\0"),
        (b"APOP  joe  0 1\r\n", b"joe\0 0 1\0" + STAMP + b"\0"),
        (b"user a\0b\r\npass c\0d\r\n", b"a\0c\0" + STAMP + b"\0"),
        (b"USER \xff\r\nPASS \xfe\r\n", b"\xff\0\xfe\0" + STAMP + b"\0"),
    ],
)
def test_the_subprogram_gets_the_login_on_descriptor_3(capfd, said, on_descriptor_3):
    answers, _ = session(said, sys.executable, "-c", SHOW, "0")
    assert capfd.readouterr().out == repr(on_descriptor_3)
    assert answers == OK * said.lower().count(b"user")


@pytest.mark.parametrize(
    ("code", "answer"), [(0, b""), (1, b"-ERR authorization failed\r\n"), (111, b"-ERR authorization failed\r\n")]
)
def test_how_the_subprogram_ends(capfd, code, answer):
    assert session(b"APOP a b\r\n", sys.executable, "-c", SHOW, str(code))[0] == answer


def test_a_subprogram_that_crashes():
    assert session(b"APOP a b\r\n", "sh", "-c", "kill -9 $$")[0] == b"-ERR aack, child crashed\r\n"


def test_a_subprogram_that_does_not_listen_is_no_broken_pipe():
    assert session(b"APOP a b\r\n", "false")[0] == b"-ERR authorization failed\r\n"
    assert session(b"APOP a b\r\n", "true")[0] == b""


def test_a_login_that_is_too_long_for_any_subprogram_is_refused():
    assert session(b"APOP a " + b"x" * 4_080 + b"\r\n", "true")[0] == b"-ERR unable to write pipe\r\n"


def test_what_follows_the_password_belongs_to_the_subprogram():
    """C qmail-popup swallows it when it comes in the same packet."""
    assert session(b"USER a\r\nPASS b\r\nSTAT\r\nQUIT\r\n", "true") == (OK, b"STAT\r\nQUIT\r\n")


def test_the_subprogram_finds_sigpipe_as_other_programs_do(capfd):
    session(b"APOP a b\r\n", "grep", "SigIgn", "/proc/self/status")
    ignored = int(capfd.readouterr().out.split()[1], 16)
    assert not ignored >> (signal.SIGPIPE - 1) & 1


def test_the_login_takes_twenty_minutes_at_most():
    clock = OurClock(0.0, *[1.0] * 8, popup.LOGIN_MAX_S + 1.0)
    assert session(b"NOOP\r\nNOOP\r\nQUIT\r\n", clock=clock)[0] == OK


def test_a_password_does_not_stay_in_memory():
    dialogue = Dialogue()
    dialogue.answer(bytearray(b"USER joe"))
    assert dialogue.answer(bytearray(b"PASS secret")) == b""
    login = dialogue.login
    assert login is not None and login.secret == b"secret"
    popup.judged(login, STAMP, [b"true"], os.environb)
    assert login.secret == bytes(6)


def test_the_record_is_three_fields():
    assert Login(b"u", bytearray(b"p")).record(b"<t>") == b"u\0p\0<t>\0"


@pytest.mark.parametrize("line", [b"PASS secret", b"PAS secret", b"USER secret", b"APOP joe secret", b"NOOP secret"])
def test_an_argument_that_is_not_the_login_s_is_overwritten(monkeypatch, line):
    split, copies = popup.pop3.split_line, []

    def spy(given):
        verb, argument = split(given)
        copies.append(argument)
        return verb, argument

    monkeypatch.setattr(popup.pop3, "split_line", spy)
    dialogue = Dialogue()
    dialogue.answer(bytearray(line))
    assert copies == [bytearray(len(line.partition(b" ")[2]))]
    if line.startswith(b"APOP"):
        assert dialogue.login is not None and dialogue.login.secret == b"secret"
