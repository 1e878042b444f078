"""qmail-inject's agent where the message breaks off: nothing may be queued."""

from pathlib import Path

import pytest

from notqmail.receive import inject as agent
from notqmail.unix.clock import Clock
from notqmail.wire.reports import Report, success


class KeptSubmission:
    """A submission that remembers; the queue's side of `queue.client.Submission`."""

    def __init__(self) -> None:
        self.message, self.envelope, self.abandoned = b"", (b"", [b""]), False

    def write(self, data: bytes) -> None:
        self.message += data

    def abandon(self) -> None:
        self.abandoned = True

    def close(self, sender: bytes, recipients: list[bytes]) -> Report:
        self.envelope = (sender, list(recipients))
        return success()


def inject(pieces: list[bytes | OSError], home: Path, monkeypatch: pytest.MonkeyPatch) -> KeptSubmission:
    submission = KeptSubmission()
    monkeypatch.chdir(home)
    monkeypatch.setattr(agent, "open_submission", lambda _home, _environ: submission)
    left = iter(pieces)

    def read_more() -> bytes:
        piece = next(left, b"")
        if isinstance(piece, OSError):
            raise piece
        return piece

    try:
        agent.inject([b"a@b.c"], home=bytes(home), environ={}, clock=Clock(), read_more=read_more)
    except agent.Refused as refused:
        assert (refused.code, refused.text) == (111, b"fatal: read error")
        submission.envelope = (b"refused", [])
    return submission


def test_a_body_that_cannot_be_read_to_its_end_is_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submission = inject([b"A: b\n\nhel", OSError(5, "disk")], tmp_path, monkeypatch)
    assert submission.abandoned
    assert submission.envelope == (b"refused", [])


def test_a_header_that_cannot_be_read_never_opens_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submission = inject([b"A: b\n", OSError(5, "disk")], tmp_path, monkeypatch)
    assert (submission.message, submission.abandoned) == (b"", False)
    assert submission.envelope == (b"refused", [])


@pytest.mark.parametrize(
    ("pieces", "end"),
    [
        ([b"A: b\n"], b"A: b\n"),
        ([b"A: b"], b"A: b\n"),
        ([b"A: b\n\n"], b"A: b\n\n"),
        ([b"A: b\n", b"\n", b"x", b"\ny"], b"A: b\n\nx\ny\n"),
        ([b"A: b\n\nx", b"y\n"], b"A: b\n\nxy\n"),
    ],
)
def test_the_last_line_always_ends(
    pieces: list[bytes | OSError], end: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission = inject(pieces, tmp_path, monkeypatch)
    assert submission.message.endswith(b"recipient list not shown: ;\n" + end)
    assert submission.envelope == (b"anonymous@defaulthost.defaultdomain", [b"a@b.c"])
