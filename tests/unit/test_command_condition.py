"""Asking a program: its exit code as yes, no and later, and how it is found (bouncesaying, except, condredirect)."""

import os
from pathlib import Path

import pytest

from notqmail.deliver.commands.bouncesaying import bouncesaying
from notqmail.deliver.commands.condition import holds
from notqmail.deliver.commands.except_ import except_
from notqmail.unix import named_programs
from notqmail.unix.leaving import Leaving

ENVIRON = dict(os.environb)
CRASHED = b"p: fatal: child crashed"
LATER = b"p: fatal: temporary child error"


def shell(script: str) -> list[bytes]:
    return [b"sh", b"-c", script.encode()]


ANSWERS = [
    (shell("exit 0"), True),
    (shell("exit 1"), False),
    (shell("exit 99"), False),
    (shell("exit 100"), False),
    (shell("exit 111"), LATER),
    (shell("kill -9 $$"), CRASHED),
    (shell("kill -15 $$"), CRASHED),
    ([b"no-such-program-anywhere"], False),
    ([b"/no/such/program"], False),
    ([b"/"], False),
    ([b"/etc/passwd/x"], False),
    ([b""], False),
]


@pytest.mark.parametrize(("words", "answer"), ANSWERS)
def test_an_exit_code_is_yes_no_or_later(words: list[bytes], answer: bool | bytes) -> None:
    try:
        got: object = holds(words, ENVIRON, fatal=b"p: fatal: ")
    except Leaving as leaving:
        assert leaving.code == 111
        got = leaving.line
    assert got == answer


@pytest.mark.parametrize(("words", "answer"), ANSWERS)
def test_except_turns_yes_and_no_round_but_not_later(words: list[bytes], answer: bool | bytes) -> None:
    try:
        code = except_(words, environ=ENVIRON)
    except Leaving as leaving:
        code = leaving.code
    assert code == (111 if isinstance(answer, bytes) else 100 if answer else 0)


@pytest.mark.parametrize(
    ("number", "line"),
    [(11, b"p: fatal: unable to fork: unknown error"), (12, b"p: fatal: unable to fork: out of memory"), (26, LATER),
     (5, LATER)],
)  # fmt: skip
def test_a_program_that_cannot_be_run_just_now_says_later(
    monkeypatch: pytest.MonkeyPatch, number: int, line: bytes
) -> None:
    def fails(*_: object, **__: object) -> int:
        raise OSError(number, "x")

    monkeypatch.setattr(os, "posix_spawn", fails)
    with pytest.raises(Leaving) as raised:
        holds(shell("exit 0"), ENVIRON, fatal=b"p: fatal: ")
    assert (raised.value.code, raised.value.line) == (111, line)


@pytest.mark.parametrize(
    ("words", "ends"),
    [
        ([], (100, b"bouncesaying: usage: bouncesaying error [ program [ arg ... ] ]")),
        ([b""], (100, b"")),
        ([b"no thanks"], (100, b"no thanks")),
        ([b"--help"], (100, b"--help")),
        ([b"no", *shell("exit 0")], (100, b"no")),
        ([b"no", *shell("exit 1")], None),
        ([b"no", b"no-such-program-anywhere"], None),
        ([b"no", *shell("exit 111")], (111, b"bouncesaying: fatal: temporary child error")),
    ],
)
def test_bouncesaying_bounces_always_or_when_the_program_says_yes(
    words: list[bytes], ends: tuple[int, bytes] | None
) -> None:
    got = None
    try:
        bouncesaying(words, environ=ENVIRON)
    except Leaving as leaving:
        got = (leaving.code, leaving.line)
    assert got == ends


def test_except_wants_a_program() -> None:
    with pytest.raises(Leaving) as raised:
        except_([], environ=ENVIRON)
    assert (raised.value.code, raised.value.line) == (100, b"except: usage: except program [ arg ... ]")


class Programs:
    """Directories with programs that write down who ran."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.environ = {b"OUT": bytes(place / "out")}

    def program(self, directory: str, name: str, text: str, mode: int = 0o755) -> bytes:
        path = self.place / directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return bytes(path)

    def path(self, *directories: str) -> None:
        self.environ[b"PATH"] = b":".join([bytes(self.place / directory) for directory in directories])

    def run(self, *words: bytes) -> list[str]:
        assert holds(words, self.environ, fatal=b"")
        return (self.place / "out").read_text().splitlines()


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


SAYS = '#!/bin/sh\necho "$0" "$@" >"$OUT"\n'


def test_the_first_along_path_is_taken(programs: Programs) -> None:
    programs.program("two", "prog", SAYS)
    programs.program("three", "prog", SAYS)
    programs.path("one", "two", "three")
    assert programs.run(b"prog", b"a b") == [f"{programs.place}/two/prog a b"]


def test_one_that_may_not_be_run_gives_way_to_a_later_one(programs: Programs) -> None:
    programs.program("one", "prog", SAYS, mode=0o644)
    programs.program("two", "prog", SAYS)
    programs.path("one", "two")
    assert programs.run(b"prog") == [f"{programs.place}/two/prog"]


def test_a_file_where_a_directory_should_be_does_not_end_the_search(programs: Programs) -> None:
    programs.program("files", "one", "")
    programs.program("two", "prog", SAYS)
    programs.path("files/one", "two")
    assert programs.run(b"prog") == [f"{programs.place}/two/prog"]


@pytest.mark.parametrize("with_path", [True, False])
def test_a_script_without_an_interpreter_is_run_by_sh(programs: Programs, with_path: bool) -> None:
    path = programs.program("one", "prog", SAYS.removeprefix("#!/bin/sh\n"))
    programs.path("one")
    assert programs.run(b"prog" if with_path else path, b"x") == [f"{programs.place}/one/prog x"]


def test_an_empty_part_of_path_is_where_we_are(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    programs.program("one", "prog", SAYS)
    monkeypatch.chdir(programs.place / "one")
    programs.environ[b"PATH"] = b""
    assert programs.run(b"prog") == ["prog"]


def test_without_path_the_usual_places_are_searched(programs: Programs) -> None:
    assert programs.run(*shell('echo here >"$OUT"')) == ["here"]


def test_a_program_has_the_signals_that_the_interpreter_ignores_back(programs: Programs) -> None:
    programs.path()
    programs.environ[b"PATH"] = ENVIRON[b"PATH"]
    [line] = programs.run(*shell('grep SigIgn: /proc/self/status >"$OUT"'))
    ignored = int(line.split()[1], 16)
    for number in named_programs.SIGNALS_THE_INTERPRETER_IGNORES:
        assert not ignored & (1 << (number - 1)), number
