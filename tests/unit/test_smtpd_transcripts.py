"""Every dialogue of tests/transcripts, played on a session in memory. tests/process plays them on real processes."""

from pathlib import Path

import pytest

from notqmail.control.files import Missing
from notqmail.control.smtpd_settings import smtpd_settings
from notqmail.testing.transcripts import BadTranscript, Transcript, is_heard, parse_transcript
from notqmail.wire.reports import Report, decode_report
from notqmail.wire.smtp_server import NO_CONTROLS
from smtpd_fakes import FakeQueue, new_session

TRANSCRIPTS = sorted((Path(__file__).parent.parent / "transcripts").glob("*.smtp"))


def queue_of(transcript: Transcript) -> FakeQueue:
    """The queue that answers as the transcript wants."""
    if transcript.queue == "none":
        return FakeQueue(None)
    letter, _, text = transcript.queue.partition(" ")
    return FakeQueue(decode_report((letter + text).encode()) if text else Report(letter.encode()))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=[path.stem for path in TRANSCRIPTS])
def test_the_session_says_what_the_transcript_says(path: Path) -> None:
    transcript = parse_transcript(path.read_text())
    queue = queue_of(transcript)
    try:
        settings = smtpd_settings(transcript.controls.get)
    except Missing:
        assert transcript.steps[0].data == NO_CONTROLS.plain
        return
    session = new_session(queue, settings, transcript.environ)
    heard, taken = session.greet(), 0
    for step in transcript.steps:
        if step.kind == "say":
            heard += session.receive(step.data)
        elif step.kind == "hear":
            assert is_heard(step.data, heard), (step.data, heard)
            heard = b""
        elif step.kind == "closed":
            assert session.exit_code == step.exit_code
        else:
            assert step.queued is not None
            sink = queue.queued[taken]
            taken += 1
            assert (sink.sender, sink.recipients) == (step.queued.sender, step.queued.recipients)
            assert step.queued.text in (None, sink.body)
    assert heard == b""
    assert taken == len([sink for sink in queue.queued if transcript.queue == "K"])


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) >= 10


@pytest.mark.parametrize(
    "line", ["X: what", "M: without Q", "closed soon", "Q: no arrow", "c: \\x", "@unknown x", "S:tight"]
)
def test_a_line_that_is_no_transcript_is_named(line: str) -> None:
    with pytest.raises(BadTranscript, match="line 2"):
        parse_transcript("# first\n" + line)
