"""forward and condredirect: what goes back into the queue, and what happens when it does not."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from notqmail.deliver.commands import condredirect as redirect
from notqmail.deliver.commands.forward import forward
from notqmail.deliver.commands.resend import resend
from notqmail.unix.leaving import Leaving
from notqmail.wire.reports import Report, permanent, success, temporary

HOME = b"/home/of/mail"


class KeptSubmission:
    """A submission that remembers, and answers what it is told to."""

    def __init__(self, answer: Report) -> None:
        self.answer, self.qp = answer, 17
        self.pieces: list[bytes] = []
        self.envelope: tuple[bytes, list[bytes]] | None = None
        self.abandoned = False

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def abandon(self) -> None:
        self.abandoned = True

    def close(self, sender: bytes, recipients: "list[bytes]") -> Report:
        self.envelope = (sender, list(recipients))
        return self.answer


@pytest.fixture
def message(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "message").write_bytes(b"Subject: x\n\n" + b"a" * 200_000)
    descriptor = os.open(tmp_path / "message", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def run(submission: KeptSubmission, message_fd: int) -> int:
    def opened(home: bytes, _environ: Mapping[bytes, bytes]) -> KeptSubmission:
        assert home == HOME
        return submission

    return resend(
        b"n@x", [b"a@x", b"b@y"], dtline=b"Delivered-To: u\n", home=HOME, environ={}, fatal=b"p: fatal: ",
        message_fd=message_fd, submission_for=opened,  # type: ignore[arg-type]
    )  # fmt: skip


def test_the_message_goes_in_pieces_behind_the_delivered_to_line(message: int) -> None:
    submission = KeptSubmission(success())
    assert run(submission, message) == 17
    assert b"".join(submission.pieces) == b"Delivered-To: u\nSubject: x\n\n" + b"a" * 200_000
    assert max(map(len, submission.pieces)) <= 65_536, "a message is never whole in memory"
    assert submission.envelope == (b"n@x", [b"a@x", b"b@y"])


@pytest.mark.parametrize(
    ("answer", "code", "line"),
    [
        (permanent(b"no such thing (#5.3.0)"), 100, b"p: fatal: no such thing (#5.3.0)"),
        (temporary(b"qq write error or disk full (#4.3.0)"), 111, b"p: fatal: qq write error or disk full (#4.3.0)"),
    ],
)
def test_the_queue_s_no_is_the_program_s(message: int, answer: Report, code: int, line: bytes) -> None:
    with pytest.raises(Leaving) as raised:
        run(KeptSubmission(answer), message)
    assert (raised.value.code, raised.value.line) == (code, line)


def test_a_message_that_cannot_be_read_is_abandoned(tmp_path: Path) -> None:
    submission = KeptSubmission(success())
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(Leaving) as raised:
            run(submission, directory)
    finally:
        os.close(directory)
    assert (raised.value.code, raised.value.line) == (111, b"p: fatal: unable to read message: is a directory")
    assert submission.abandoned and submission.envelope is None


def test_a_queue_that_cannot_be_started_is_temporary(message: int) -> None:
    def refuses(_home: bytes, _environ: Mapping[bytes, bytes]) -> KeptSubmission:
        raise OSError(12, "no memory")

    with pytest.raises(Leaving) as raised:
        resend(b"", [], dtline=b"", home=HOME, environ={}, fatal=b"p: ", message_fd=message, submission_for=refuses)  # type: ignore[arg-type]
    assert (raised.value.code, raised.value.line) == (111, b"p: unable to fork: out of memory")


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({}, b"forward: fatal: NEWSENDER not set"),
        ({b"DTLINE": b"x"}, b"forward: fatal: NEWSENDER not set"),
        ({b"NEWSENDER": b""}, b"forward: fatal: DTLINE not set"),
    ],
)
def test_forward_outside_a_delivery_is_refused(environ: dict[bytes, bytes], line: bytes) -> None:
    with pytest.raises(Leaving) as raised:
        forward([b"a@x"], home=HOME, environ=environ)
    assert (raised.value.code, raised.value.line) == (100, line)


@pytest.mark.parametrize("words", [[], [b"new@x"]])
def test_condredirect_wants_an_address_and_a_program(words: list[bytes]) -> None:
    with pytest.raises(Leaving) as raised:
        redirect.condredirect(words, home=HOME, environ={})
    assert (raised.value.code, raised.value.line) == (100, redirect.USAGE)


def test_condredirect_asks_the_program_before_it_looks_for_its_variables() -> None:
    assert redirect.condredirect([b"new@x", b"false"], home=HOME, environ=dict(os.environb)) is None
