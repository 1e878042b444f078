"""How a program ends: whatever happens inside, mail waits rather than gets lost."""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from notqmail.unix import mains


class Left(BaseException):
    """In place of os._exit, which would end the tests."""


def exit_code(main: Callable[[], int], **more: int) -> int:
    with pytest.raises(Left) as left:
        mains.run(main, **more)
    return int(left.value.args[0])


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(sys, "argv", ["/home/bin/qmail-x"])
    monkeypatch.delenv("LC_CTYPE", raising=False)


def raising(error: BaseException) -> Callable[[], int]:
    def main() -> int:
        raise error

    return main


@pytest.mark.parametrize("code", [0, 1, 100, 111])
def test_the_program_s_own_code_is_its_exit_code(code: int) -> None:
    assert exit_code(lambda: code) == code


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SystemExit("text"), ""),
        (SystemExit(), ""),
        (KeyboardInterrupt(), ""),
        (MemoryError(), "qmail-x: fatal: out of memory\n"),
        (ValueError("what?"), "qmail-x: fatal: ValueError: what?\n"),
        (OSError(5, "disk"), "qmail-x: fatal: OSError: [Errno 5] disk\n"),
        (AssertionError("\udcff"), "qmail-x: fatal: AssertionError: \\udcff\n"),
    ],
)
def test_what_nobody_caught_is_temporary_and_one_line(
    error: BaseException, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(raising(error)) == 111
    assert exit_code(raising(error), uncaught=81) == 81
    assert capfd.readouterr().err == said * 2


def test_leaving_by_sys_exit_keeps_its_number() -> None:
    assert exit_code(raising(SystemExit(100))) == 100


class Broken(io.StringIO):
    """Buffered output whose reader has gone."""

    def flush(self) -> None:
        raise BrokenPipeError


@pytest.mark.parametrize(("stream", "code"), [("stdout", 111), ("stderr", 111)])
def test_output_that_did_not_arrive_is_no_success(stream: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, stream, Broken())
    assert exit_code(lambda: 0) == code
    assert exit_code(lambda: 100) == 100  # a failure stays the one it was
    monkeypatch.setattr(sys, stream, None)  # started with the descriptor closed
    assert exit_code(lambda: 0) == 0


def test_what_is_still_buffered_is_written_before_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with open(tmp_path / "out", "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert exit_code(lambda: out.write("printed") * 0) == 0
        assert (tmp_path / "out").read_text() == "printed"


def test_a_complaint_is_a_line_and_nobody_has_to_hear_it(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mains.complain("text \udcff")
    mains.complain(b"bytes")
    assert capfd.readouterr().err == "text \\udcff\nbytes\n"

    def fails(*_: object) -> int:
        raise OSError(9, "closed")

    monkeypatch.setattr(os, "write", fails)
    mains.complain("unheard")


@pytest.mark.parametrize(
    ("value", "given", "kept"),
    [
        ("C.UTF-8", b"A=1\0B=2\0", False),  # the interpreter put it there
        ("C.utf8", b"", False),
        ("C.UTF-8", b"A=1\0LC_CTYPE=C.UTF-8\0", True),
        ("C.UTF-8", b"LC_CTYPE=C\0A=1\0", True),
        ("C.UTF-8", b"XLC_CTYPE=C\0", False),
        ("de_DE", b"", True),  # not one that Python invents
        ("C.UTF-8", None, True),  # no /proc: no way to know
    ],
)
def test_only_a_locale_that_python_invented_is_forgotten(
    value: str, given: bytes | None, kept: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if given is not None:
        (tmp_path / "environ").write_bytes(given)

    def open_ours(path: str, mode: str, buffering: int) -> object:
        assert path == "/proc/self/environ"
        return open(tmp_path / "environ", mode, buffering)

    monkeypatch.setattr(mains, "open", open_ours, raising=False)
    monkeypatch.setenv("LC_CTYPE", value)
    mains.forget_coerced_locale()
    assert ("LC_CTYPE" in os.environ) == kept
