"""Feeding a program: our lines first, then all of the input, and nothing that looks whole and is not."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from notqmail.deliver.commands.preline import preline
from notqmail.receive.predate import predate
from notqmail.unix.clock import Clock
from notqmail.unix.feeding import feed
from notqmail.unix.leaving import Leaving

ENVIRON = dict(os.environb)
HEAD = b"first\nsecond\n"


class Feeding:
    """`feed` from a file, to a shell that keeps what it gets in $OUT."""

    def __init__(self, place: Path) -> None:
        self.place, self.out = place, place / "out"
        self.environ = {**ENVIRON, b"OUT": bytes(self.out)}

    def run(self, *words: bytes, data: bytes | None = b"body\n", code: int = 100) -> int | tuple[int, bytes | None]:
        """The exit code, or code and line of complaint; `data` None is an input that cannot be read."""
        path = self.place
        if data is not None:
            path = self.place / "in"
            path.write_bytes(data)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return feed(
                words, self.environ, lambda: HEAD, fatal=b"p: fatal: ", code_when_not_run=lambda _error: code,
                input_fd=descriptor,
            )  # fmt: skip
        except Leaving as leaving:
            return leaving.code, leaving.line
        finally:
            os.close(descriptor)


@pytest.fixture
def feeding(tmp_path: Path) -> Iterator[Feeding]:
    yield Feeding(tmp_path)


def shell(script: str) -> list[bytes]:
    return [b"sh", b"-c", script.encode()]


@pytest.mark.parametrize("body", [b"", b"body\n", b"no newline", b"a\0\r\n" * 100_000])
def test_the_program_gets_the_head_and_all_of_the_input(feeding: Feeding, body: bytes) -> None:
    assert feeding.run(*shell('cat >"$OUT"; exit 7'), data=body) == 7
    assert feeding.out.read_bytes() == HEAD + body


@pytest.mark.parametrize("body", [b"", b"a" * 1_000_000])
def test_a_program_that_reads_only_a_part_says_with_its_exit_code_how_it_went(feeding: Feeding, body: bytes) -> None:
    for code in (0, 3, 100):
        assert feeding.run(*shell(f"exit {code}"), data=body) == code


def test_a_program_that_is_killed_is_temporary(feeding: Feeding) -> None:
    assert feeding.run(*shell("cat >/dev/null; kill -9 $$")) == (111, b"p: fatal: child crashed")


@pytest.mark.parametrize("code", [100, 111])
def test_a_program_that_is_not_there_ends_as_the_caller_wants(feeding: Feeding, code: int) -> None:
    ended = (code, b"p: fatal: unable to run /no/prog: file does not exist")
    assert feeding.run(b"/no/prog", code=code) == ended
    assert feeding.run(b"/no/prog", code=code, data=b"a" * 1_000_000) == ended


def test_input_that_cannot_be_read_to_its_end_never_looks_whole_to_the_program(feeding: Feeding) -> None:
    ended = feeding.run(*shell('cat >/dev/null; echo "end of file" >"$OUT"'), data=None)
    assert ended == (111, b"p: fatal: unable to copy input: is a directory")
    assert not feeding.out.exists(), "the program has seen an end"


def no_pipe() -> tuple[int, int]:
    raise OSError(24, "too many")


def no_child(*_: object, **__: object) -> int:
    raise OSError(12, "no memory")


@pytest.mark.parametrize(
    ("function", "failing", "line"),
    [
        ("pipe", no_pipe, b"p: fatal: unable to create pipe: process cannot open more files"),
        ("posix_spawn", no_child, b"p: fatal: unable to fork: out of memory"),
    ],
)
def test_what_the_machine_refuses_is_temporary(
    feeding: Feeding, monkeypatch: pytest.MonkeyPatch, function: str, failing: Callable[[], object], line: bytes
) -> None:
    monkeypatch.setattr(os, function, failing)
    assert feeding.run(*shell("exit 0")) == (111, line)


USAGE = b"preline: usage: preline cmd [ arg ... ]"
LINES = {b"UFLINE": b"From s\n", b"RPLINE": b"Return-Path: <s>\n", b"DTLINE": b"Delivered-To: u\n"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], USAGE),
        ([b"--"], USAGE),
        ([b"--help"], USAGE),
        ([b"-f"], USAGE),
        ([b"-z", b"cat"], b"preline: illegal option -- z\n" + USAGE),
        ([b"-fz", b"cat"], b"preline: illegal option -- z\n" + USAGE),
    ],
)
def test_preline_refuses_what_it_does_not_understand(words: list[bytes], complaint: bytes) -> None:
    with pytest.raises(Leaving) as raised:
        preline(words, environ={**ENVIRON, **LINES})
    assert (raised.value.code, raised.value.line) == (100, complaint)


@pytest.mark.parametrize("missing", sorted(LINES))
def test_preline_outside_a_delivery_is_refused(missing: bytes) -> None:
    environ = {**ENVIRON, **LINES}
    del environ[missing]
    with pytest.raises(Leaving) as raised:
        preline([b"cat"], environ=environ)
    assert (raised.value.code, raised.value.line) == (100, USAGE)


@pytest.mark.parametrize(
    ("words", "code"),
    [([b"/no/prog"], 100), ([b"/"], 100), ([b"-", b"x"], 100)],
)
def test_preline_gives_up_on_a_program_that_cannot_be_run(words: list[bytes], code: int) -> None:
    with pytest.raises(Leaving) as raised:
        preline(words, environ={**ENVIRON, **LINES})
    assert raised.value.code == code
    assert raised.value.line is not None and raised.value.line.startswith(b"preline: fatal: unable to run " + words[0])


def test_predate_wants_a_program() -> None:
    with pytest.raises(Leaving) as raised:
        predate([], environ=ENVIRON, clock=Clock(), zone_s=lambda _now_s: 0)
    assert (raised.value.code, raised.value.line) == (100, b"predate: usage: predate child")


def test_predate_does_not_find_a_missing_program_hopeless() -> None:
    with pytest.raises(Leaving) as raised:
        predate([b"/no/prog"], environ=ENVIRON, clock=Clock(), zone_s=lambda _now_s: 0)
    assert raised.value.code == 111
