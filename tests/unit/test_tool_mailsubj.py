"""mailsubj's header, datemail's command line, and the date that predate writes."""

from pathlib import Path

import pytest

from notqmail.message.dates import local_header_date
from notqmail.receive import datemail as agent
from notqmail.receive.mailsubj import USAGE, header
from notqmail.unix.clock import Clock
from notqmail.unix.launchers import MARKER
from notqmail.unix.leaving import Leaving


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([b"subj", b"a@x"], b"Subject: subj\nTo: a@x\n\n"),
        ([b"two words", b"a@x", b"b c@x"], b"Subject: two words\nTo: a@x b c@x\n\n"),
        ([b""], b"Subject: \nTo:\n\n"),
        ([b"a\\nb\\c", b"a@x"], b"Subject: a\\nb\\c\nTo: a@x\n\n"),
        ([b"x\nBcc: z@z", b"a@x\r\nBcc: z@z"], b"Subject: x Bcc: z@z\nTo: a@x  Bcc: z@z\n\n"),
    ],
)
def test_arguments_become_two_fields_and_never_more(words: list[bytes], text: bytes) -> None:
    assert header(words) == text


def test_a_subject_is_asked_for() -> None:
    with pytest.raises(Leaving) as raised:
        header([])
    assert (raised.value.code, raised.value.line) == (100, USAGE)


@pytest.mark.parametrize(
    ("offset_s", "date"),
    [
        (0, b"22 Nov 2026 19:44:48 +0000"),
        (3_600, b"22 Nov 2026 20:44:48 +0100"),
        (-12_600, b"22 Nov 2026 16:14:48 -0330"),
        (20_700, b"23 Nov 2026 01:29:48 +0545"),
        (-12_580, b"22 Nov 2026 16:15:08 -0330"),
        (20, b"22 Nov 2026 19:45:08 +0000"),
        (-20, b"22 Nov 2026 19:44:28 -0000"),
        (-40, b"22 Nov 2026 19:44:08 -0001"),
        (50_400, b"23 Nov 2026 09:44:48 +1400"),
    ],
)
def test_a_date_in_a_zone(offset_s: int, date: bytes) -> None:
    assert local_header_date(1_795_376_688, offset_s) == date


def run_datemail(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    ran: list[object] = []
    monkeypatch.setattr(agent, "predate", lambda words, **_: ran.append(("in this process", words)) or 0)
    monkeypatch.setattr(agent, "become_program", lambda words, _environ: ran.append(("execute", words)))
    agent.datemail([b"-t", b"a@x"], home=bytes(home), environ={}, clock=Clock(), zone_s=lambda _now_s: 0)
    return ran


@pytest.mark.parametrize("text", [None, b"#!/usr/bin/python\n# " + MARKER + b"\n"])
def test_datemail_needs_no_second_start_for_our_own_predate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes | None
) -> None:
    (tmp_path / "bin").mkdir()
    if text is not None:
        (tmp_path / "bin" / "predate").write_bytes(text)
    assert run_datemail(tmp_path, monkeypatch) == [
        ("in this process", [bytes(tmp_path / "bin" / "sendmail"), b"-t", b"a@x"])
    ]


def test_datemail_executes_a_predate_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "predate").write_bytes(b"#!/bin/sh\n")
    words = [bytes(tmp_path / "bin" / "predate"), bytes(tmp_path / "bin" / "sendmail"), b"-t", b"a@x"]
    assert run_datemail(tmp_path, monkeypatch)[0] == ("execute", words)


def test_a_foreign_predate_that_cannot_be_run_is_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "predate").write_bytes(b"not for execution")

    def fails(*_: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(agent, "become_program", fails)
    with pytest.raises(Leaving) as raised:
        agent.datemail([], home=bytes(tmp_path), environ={}, clock=Clock(), zone_s=lambda _now_s: 0)
    assert (raised.value.code, raised.value.line) == (111, b"datemail: fatal: unable to run predate: access denied")
