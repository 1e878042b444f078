"""The programs for `.qmail` lines as processes: exit codes, descriptors, and what a queue program sees.

The tables are what notqmail 1.09's programs answered to the same, except where differences.md says otherwise.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from queue_home import Home, Server

MESSAGE = b"Subject: hi\nMessage-ID: <1@x>\n\nbody\n"
QUEUE_PROGRAM = """#!/bin/sh
cat >"$CAUGHT.message"
cat <&1 >"$CAUGHT.envelope"
[ -z "$QUEUE_ERROR" ] || printf '%s' "$QUEUE_ERROR" >&6
exit ${QUEUE_EXIT-0}
"""
DELIVERY = {
    "DTLINE": "Delivered-To: u@d\n", "RPLINE": "Return-Path: <s@x>\n", "UFLINE": "From s@x Sun\n", "SENDER": "s@x",
    "NEWSENDER": "n@x", "LOCAL": "u", "USER": "nobody-of-that-name",
}  # fmt: skip


class Delivery:
    """Runs one of the programs as a `.qmail` line would: the message is a file, the environment qmail-local's."""

    def __init__(self, place: Path) -> None:
        self.place, self.caught = place, place / "caught"
        self.queue = place / "queue-program"
        self.queue.write_text(QUEUE_PROGRAM)
        self.queue.chmod(0o755)

    def run(
        self, module: str, *words: str, message: bytes = MESSAGE, without: str = "", **environ: str
    ) -> tuple[int, bytes, bytes]:
        path = self.place / "message"
        path.write_bytes(message)
        environment = {
            **os.environ, **DELIVERY, "QMAILQUEUE": str(self.queue), "CAUGHT": str(self.caught),
            "QMAILHOME": str(self.place), **environ,
        }  # fmt: skip
        environment.pop(without, None)
        with path.open("rb") as file:
            done = subprocess.run(
                [sys.executable, "-m", f"notqmail.programs.{module}", *words], stdin=file, env=environment,
                capture_output=True, timeout=60, check=False,
            )  # fmt: skip
        return done.returncode, done.stdout, re.sub(rb"qp [1-9][0-9]*\n", b"qp N\n", done.stderr)

    @property
    def message(self) -> bytes:
        return self.caught.with_suffix(".message").read_bytes()

    @property
    def envelope(self) -> bytes | None:
        path = self.caught.with_suffix(".envelope")
        return path.read_bytes() if path.exists() else None


@pytest.fixture
def delivery(tmp_path: Path) -> Delivery:
    return Delivery(tmp_path)


@pytest.mark.parametrize(
    ("addresses", "envelope"),
    [
        ((), b"Fn@x\0\0"),
        (("a@x",), b"Fn@x\0Ta@x\0\0"),
        (("a@x", "b@y", "a b", "--help", "-x"), b"Fn@x\0Ta@x\0Tb@y\0Ta b\0T--help\0T-x\0\0"),
    ],
)
def test_forward_sends_to_all_its_arguments_from_newsender(
    delivery: Delivery, addresses: tuple[str, ...], envelope: bytes
) -> None:
    assert delivery.run("forward", *addresses) == (0, b"", b"forward: qp N\n")
    assert delivery.envelope == envelope
    assert delivery.message == b"Delivered-To: u@d\n" + MESSAGE


@pytest.mark.parametrize("message", [b"", b"no newline", b"a\0b\r\n", b"S: x\n\n" + b"a" * 300_000])
def test_forward_changes_nothing_in_the_message(delivery: Delivery, message: bytes) -> None:
    assert delivery.run("forward", "a@x", message=message)[0] == 0
    assert delivery.message == b"Delivered-To: u@d\n" + message


REFUSALS = [
    ({"QUEUE_EXIT": "31"}, 100, b"mail server permanently rejected message (#5.3.0)"),
    ({"QUEUE_EXIT": "53"}, 111, b"qq write error or disk full (#4.3.0)"),
    ({"QUEUE_EXIT": "82", "QUEUE_ERROR": "Dno way"}, 100, b"no way"),
    ({"QUEUE_EXIT": "82", "QUEUE_ERROR": "Zlater"}, 111, b"later"),
    ({"QMAILQUEUE": "/no/such/program"}, 111, b"unable to exec qq (#4.3.0)"),
    ({"QMAILQUEUE": "no/such/program"}, 111, b"unable to exec qq (#4.3.0)"),
]


@pytest.mark.parametrize(("environ", "code", "text"), REFUSALS)
@pytest.mark.parametrize(("module", "words"), [("forward", ("a@x",)), ("condredirect", ("a@x", "true"))])
def test_the_queue_s_refusal_is_the_program_s(
    delivery: Delivery, module: str, words: tuple[str, ...], environ: dict[str, str], code: int, text: bytes
) -> None:
    complaint = module.encode() + b": fatal: " + text + b"\n"
    assert delivery.run(module, *words, **environ) == (code, b"", complaint)


@pytest.mark.parametrize(
    ("module", "words", "missing", "complaint"),
    [
        ("forward", ("a@x",), "NEWSENDER", b"forward: fatal: NEWSENDER not set\n"),
        ("forward", ("a@x",), "DTLINE", b"forward: fatal: DTLINE not set\n"),
        ("condredirect", ("a@x", "true"), "SENDER", b"condredirect: fatal: SENDER not set\n"),
        ("condredirect", ("a@x", "true"), "DTLINE", b"condredirect: fatal: DTLINE not set\n"),
        ("preline", ("cat",), "UFLINE", b"preline: usage: preline cmd [ arg ... ]\n"),
        ("qreceipt", ("a@x",), "SENDER", b"qreceipt: usage: qreceipt deliveryaddress\n"),
        ("qreceipt", (), "", b"qreceipt: usage: qreceipt deliveryaddress\n"),
        ("condredirect", ("a@x",), "", b"condredirect: usage: condredirect newaddress program [ arg ... ]\n"),
        ("bouncesaying", (), "", b"bouncesaying: usage: bouncesaying error [ program [ arg ... ] ]\n"),
        ("except_", (), "", b"except: usage: except program [ arg ... ]\n"),
    ],
)
def test_what_lacks_something_is_permanent(
    delivery: Delivery, module: str, words: tuple[str, ...], missing: str, complaint: bytes
) -> None:
    assert delivery.run(module, *words, without=missing) == (100, b"", complaint)


def test_forward_cannot_send_what_it_cannot_read(delivery: Delivery) -> None:
    with open(os.devnull, "wb") as unreadable:
        done = subprocess.run(
            [sys.executable, "-m", "notqmail.programs.forward", "a@x"], stdin=unreadable,
            env={**os.environ, **DELIVERY, "QMAILQUEUE": str(delivery.queue), "CAUGHT": str(delivery.caught),
                 "QMAILHOME": str(delivery.place)},
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (111, b"forward: fatal: unable to read message: unknown error\n")
    assert delivery.envelope == b"", "an envelope that does not end is no message"


def sh(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


# program, its output, and the exit codes and complaints of the three that ask it
QUESTIONS = [
    (("true",), b"", (99, b"condredirect: qp N\n"), (100, b"no thanks\n"), (100, b"")),
    (("false",), b"", (0, b""), (0, b""), (0, b"")),
    (sh("exit 100"), b"", (0, b""), (0, b""), (0, b"")),
    (sh("exit 99"), b"", (0, b""), (0, b""), (0, b"")),
    (("no-such-program-anywhere",), b"", (0, b""), (0, b""), (0, b"")),
    (("/etc/passwd",), b"", (0, b""), (0, b""), (0, b"")),
    (("",), b"", (0, b""), (0, b""), (0, b"")),
    (("grep", "-q", "body"), b"", (99, b"condredirect: qp N\n"), (100, b"no thanks\n"), (100, b"")),
    (sh("read x; echo $x; echo e >&2"), b"Subject: hi\n", (99, b"e\ncondredirect: qp N\n"),
     (100, b"e\nno thanks\n"), (100, b"e\n")),
    *[
        (sh(script), b"", *[(111, name + b": fatal: " + text + b"\n") for name in
                            (b"condredirect", b"bouncesaying", b"except")])
        for script, text in (("exit 111", b"temporary child error"), ("kill -9 $$", b"child crashed"))
    ],
]  # fmt: skip


@pytest.mark.parametrize(("program", "output", "redirect", "bounce", "turned"), QUESTIONS)
def test_a_program_s_answer_decides(
    delivery: Delivery, program: tuple[str, ...], output: bytes, redirect: tuple[int, bytes],
    bounce: tuple[int, bytes], turned: tuple[int, bytes],
) -> None:  # fmt: skip
    def run(module: str, *words: str) -> tuple[int, bytes]:
        code, out, complaint = delivery.run(module, *words)
        assert out == output
        return code, complaint

    assert run("condredirect", "new@x", *program) == redirect
    assert delivery.envelope == (b"Fs@x\0Tnew@x\0\0" if redirect[0] == 99 else None)
    if redirect[0] == 99:
        assert delivery.message == b"Delivered-To: u@d\n" + MESSAGE, "rewound, whatever the program has read"
    assert run("bouncesaying", "no thanks", *program) == bounce
    assert run("except_", *program) == turned


def test_condredirect_needs_a_message_that_it_can_rewind(delivery: Delivery) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "notqmail.programs.condredirect", "new@x", "true"], input=MESSAGE,
        env={**os.environ, **DELIVERY}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (111, b"condredirect: fatal: unable to rewind: unknown error\n")


UF, RP, DT = b"From s@x Sun\n", b"Return-Path: <s@x>\n", b"Delivered-To: u@d\n"


@pytest.mark.parametrize(
    ("options", "head"),
    [
        ((), UF + RP + DT),
        (("-f",), RP + DT),
        (("-fr",), DT),
        (("-frd",), b""),
        (("-frdFRD",), UF + RP + DT),
        (("-f", "-r", "-d", "-D"), DT),
        (("--",), UF + RP + DT),
        (("--x",), UF + RP + DT),
    ],
)
def test_preline_puts_the_lines_on_top(delivery: Delivery, options: tuple[str, ...], head: bytes) -> None:
    assert delivery.run("preline", *options, "cat") == (0, head + MESSAGE, b"")


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (sh("exit 7"), 7, b""),
        (sh("exit 99"), 99, b""),
        (sh("exit 111"), 111, b""),
        (sh("cat >/dev/null; kill -9 $$"), 111, b"preline: fatal: child crashed\n"),
        (("no-such-program",), 100, b"preline: fatal: unable to run no-such-program: file does not exist\n"),
        (("/tmp",), 100, b"preline: fatal: unable to run /tmp: access denied\n"),
        (("-z", "cat"), 100, b"preline: illegal option -- z\npreline: usage: preline cmd [ arg ... ]\n"),
    ],
)
@pytest.mark.parametrize("message", [MESSAGE, MESSAGE + b"a" * 300_000], ids=["short", "long"])
def test_preline_ends_as_its_program_does(
    delivery: Delivery, words: tuple[str, ...], code: int, complaint: bytes, message: bytes
) -> None:
    assert delivery.run("preline", *words, message=message) == (code, b"", complaint)


def test_qreceipt_queues_a_notice_with_an_empty_sender(delivery: Delivery) -> None:
    request = b"Notice-Requested-Upon-Delivery-To: joe@h\n" + MESSAGE
    assert delivery.run("qreceipt", "joe@h", message=request) == (0, b"", b"")
    assert delivery.envelope == b"F\0Ts@x\0\0"
    assert delivery.message.endswith(b"address: joe@h. Thanks for asking.\nYour Message-ID: <1@x>\n")


@pytest.mark.parametrize(
    ("exit_code", "code", "complaint"),
    [
        ("31", 100, b"qreceipt: fatal: permanent qmail-queue error\n"),
        ("53", 111, b"qreceipt: fatal: temporary qmail-queue error\n"),
    ],
)
def test_qreceipt_fails_as_the_queue_does(delivery: Delivery, exit_code: str, code: int, complaint: bytes) -> None:
    request = b"Notice-Requested-Upon-Delivery-To: joe@h\n\n"
    assert delivery.run("qreceipt", "joe@h", message=request, QUEUE_EXIT=exit_code) == (code, b"", complaint)


@pytest.mark.parametrize("without", ["", "USER", "SENDER", "LOCAL"])
def test_qbiff_exits_0_whoever_is_logged_in(delivery: Delivery, without: str) -> None:
    assert delivery.run("qbiff", without=without) == (0, b"", b"")


@pytest.mark.parametrize("module", ["condredirect", "except_", "preline", "qbiff"])
def test_help_is_told_where_no_argument_can_be_meant(delivery: Delivery, module: str) -> None:
    code, out, complaint = delivery.run(module, "--help")
    assert (code, complaint) == (0, b"")
    assert out.startswith(b"usage: " + module.rstrip("_").encode())


def test_forward_reaches_the_queue_s_resident(short_path: Path) -> None:
    home = Home(short_path / "home")
    server = Server(home)
    try:
        done = subprocess.run(
            [home.program("forward"), "a@x"], input=MESSAGE, env={**home.environ, **DELIVERY}, capture_output=True,
            timeout=60, check=False,
        )  # fmt: skip
    finally:
        server.end()
    assert (done.returncode, done.stdout) == (0, b"") and re.fullmatch(rb"forward: qp [1-9][0-9]*\n", done.stderr)
    [(number, envelope)] = home.queued().items()
    assert envelope.endswith(b"Fn@x\0Ta@x\0")
    assert home.message(number).endswith(b"\nDelivered-To: u@d\n" + MESSAGE)
