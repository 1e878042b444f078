"""The scripts in HOME/bin: do they start the right code, in the right home, whoever calls them how?"""

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from notqmail.admin import launchers
from notqmail.admin.queue_tree import DIRECTORY, QueueTree
from notqmail.unix.launchers import MARKER, is_ours

PROGRAM = """\
import os, sys
def start():
    print(os.environ["QMAILHOME"], sys.argv[1:], "site" in sys.modules)
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A package `notqmail` with one program, so that these tests depend on no real one."""
    programs = tmp_path / "code" / "notqmail" / "programs"
    programs.mkdir(parents=True)
    (programs / "__init__.py").write_text("")
    (programs.parent / "__init__.py").write_text("")
    (programs / "qmail_echo.py").write_text(PROGRAM)
    return tmp_path / "code"


def run(path: Path, *arguments: str, **environ: str) -> str:
    environ.setdefault("PATH", os.environ["PATH"])
    done = subprocess.run([path, *arguments], env=environ, capture_output=True, text=True, timeout=20, check=True)
    return done.stdout


def write(path: Path, text: bytes) -> Path:
    path.write_bytes(text)
    path.chmod(0o755)
    return path


def test_a_launcher_runs_its_program_with_its_home_and_arguments(tmp_path: Path, code: Path) -> None:
    text = launchers.launcher_text("qmail-echo", b"/some/home", directories=[str(code)])
    path = write(tmp_path / "qmail-echo", text)
    assert run(path, "-f", "a b") == "/some/home ['-f', 'a b'] False\n"


def test_a_program_whose_name_is_a_word_of_python_has_its_module_behind_an_underscore(
    tmp_path: Path, code: Path
) -> None:
    (code / "notqmail" / "programs" / "except_.py").write_text(PROGRAM)
    path = write(tmp_path / "x", launchers.launcher_text("except", b"/h", directories=[str(code)]))
    assert run(path, "a") == "/h ['a'] False\n"
    assert "except" in launchers.program_names() and "except-" not in launchers.program_names()


def test_qmailhome_in_the_environment_wins(tmp_path: Path, code: Path) -> None:
    path = write(tmp_path / "x", launchers.launcher_text("qmail-echo", b"/some/home", directories=[str(code)]))
    assert run(path, QMAILHOME="/other") == "/other [] False\n"


def test_odd_names_of_homes_survive(tmp_path: Path, code: Path) -> None:
    home = b"/a 'b\" \\ \xc3\xa9"
    path = write(tmp_path / "x", launchers.launcher_text("qmail-echo", home, directories=[str(code)]))
    assert run(path, LC_ALL="C.UTF-8") == home.decode() + " [] False\n"


@pytest.mark.parametrize("directory", ["d" * 130, "with blank", "it's"])
def test_an_interpreter_that_a_shebang_line_cannot_name_is_run_by_sh(
    tmp_path: Path, code: Path, directory: str
) -> None:
    (tmp_path / directory).mkdir()
    python = tmp_path / directory / "python"
    python.write_text(f'#!/bin/sh\nexec {os.path.realpath(sys.executable)} "$@"\n')
    python.chmod(0o755)
    text = launchers.launcher_text("qmail-echo", b"/h", interpreter=bytes(python), directories=[str(code)])
    path = write(tmp_path / "x", text)
    if directory != "it's":  # a quote is no trouble for a shebang line
        assert text.startswith(b"#!/bin/sh\n")
    assert run(path, "one", "two words") == "/h ['one', 'two words'] False\n"


def test_the_marker_is_where_is_ours_looks(tmp_path: Path) -> None:
    for interpreter in (b"/usr/bin/python3.11", b"/" + b"p" * 100, b"/" + b"p" * 1000):
        text = launchers.launcher_text("qmail-echo", b"/h", interpreter=interpreter, directories=[])
        assert MARKER in text[:512], interpreter
        assert is_ours(bytes(write(tmp_path / "x", text)))


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(1000), b"#!/bin/sh\n", b"x" * 600 + MARKER])
def test_other_programs_are_not_ours(tmp_path: Path, content: bytes) -> None:
    assert not is_ours(bytes(write(tmp_path / "x", content)))


def test_what_is_missing_or_a_directory_is_not_ours(tmp_path: Path) -> None:
    assert not is_ours(bytes(tmp_path / "nothing"))
    assert not is_ours(bytes(tmp_path))


def test_a_foreign_program_is_never_overwritten_unasked(tmp_path: Path) -> None:
    path = write(tmp_path / "qmail-queue", b"#!/bin/sh\n# a site's wrapper\n")
    with pytest.raises(launchers.Foreign):
        launchers.write_launcher(bytes(path), "qmail-queue", b"/h")
    assert b"wrapper" in path.read_bytes()


def test_a_dangling_symlink_counts_as_foreign(tmp_path: Path) -> None:
    (tmp_path / "qmail-queue").symlink_to("nowhere")
    with pytest.raises(launchers.Foreign):
        launchers.write_launcher(bytes(tmp_path / "qmail-queue"), "qmail-queue", b"/h")


def test_a_replaced_foreign_program_is_kept_beside_ours(tmp_path: Path) -> None:
    path = write(tmp_path / "qmail-queue", b"the C one")
    launchers.write_launcher(bytes(path), "qmail-queue", b"/h", replace_foreign=True)
    assert is_ours(bytes(path))
    assert (tmp_path / "qmail-queue.before-python").read_bytes() == b"the C one"
    launchers.write_launcher(bytes(path), "qmail-queue", b"/h", replace_foreign=True)  # ours: nothing to keep
    assert (tmp_path / "qmail-queue.before-python").read_bytes() == b"the C one"


class FullDisk(QueueTree):
    """Fails at one of its steps."""

    def __init__(self, failing: str) -> None:
        super().__init__()
        self._failing = failing

    def _fail_at(self, step: str) -> None:
        if step == self._failing:
            raise OSError(errno.ENOSPC, "No space left on device")

    def create(self, path, chunks, mode=0o600):  # type: ignore[no-untyped-def]
        self._fail_at("create")
        return super().create(path, chunks, mode)

    def settle(self, path: bytes, uid: int, gid: int | None, mode: int) -> None:
        self._fail_at("settle")
        super().settle(path, uid, gid, mode)

    def link(self, old: bytes, new: bytes) -> None:
        self._fail_at("link")
        super().link(old, new)

    def sync(self, paths: Sequence[bytes]) -> None:
        self._fail_at("sync of the directory" if self.aspect(paths[0]).sort == DIRECTORY else "sync")  # type: ignore[union-attr]
        super().sync(paths)

    def rename(self, old: bytes, new: bytes) -> None:
        self._fail_at("rename")
        super().rename(old, new)


@pytest.mark.parametrize("step", ["link", "sync of the directory", "create", "settle", "sync", "rename"])
def test_whatever_fails_the_old_program_has_its_name_and_the_next_try_goes_on(tmp_path: Path, step: str) -> None:
    path = write(tmp_path / "qmail-queue", b"the C one")
    with pytest.raises(OSError, match="No space"):
        launchers.write_launcher(bytes(path), "qmail-queue", b"/h", replace_foreign=True, tree=FullDisk(step))
    assert path.read_bytes() == b"the C one"
    assert {entry.name for entry in tmp_path.iterdir()} <= {"qmail-queue", "qmail-queue.before-python"}
    said = launchers.what_is_there(bytes(path))
    kept = "" if step == "link" else ", and qmail-queue.before-python is a second name of it"
    assert said == f"the program that was there has that name still{kept}"
    launchers.write_launcher(bytes(path), "qmail-queue", b"/h", replace_foreign=True)
    assert (tmp_path / "qmail-queue.before-python").read_bytes() == b"the C one"
    assert launchers.what_is_there(bytes(path)) == (
        "a launcher of ours has that name; qmail-queue.before-python is there too"
    )


def test_an_older_program_that_is_kept_is_never_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "qmail-queue", b"the newer C one")
    kept = write(tmp_path / "qmail-queue.before-python", b"the C one")
    with pytest.raises(FileExistsError, match="an older program is kept"):
        launchers.write_launcher(bytes(path), "qmail-queue", b"/h", replace_foreign=True)
    assert (path.read_bytes(), kept.read_bytes()) == (b"the newer C one", b"the C one")


def test_a_file_of_somebody_beside_the_program_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "qmail-queue", b"the C one")
    theirs = write(tmp_path / "qmail-queue.new", b"their next one")
    launchers.write_launcher(bytes(path), "qmail-queue", b"/h", replace_foreign=True)
    assert theirs.read_bytes() == b"their next one"


def test_a_closed_directory_above_is_seen(tmp_path: Path) -> None:
    """Other accounts must reach interpreter and package; /root and many homes are closed."""
    deep = tmp_path / "closed" / "open" / "file"
    deep.parent.mkdir(parents=True)
    deep.write_text("")
    tmp_path.joinpath("closed").chmod(0o750)
    assert launchers.closed_to_others(str(deep))
    assert not launchers.closed_to_others("/usr/bin")


def test_the_package_directory_comes_after_the_standard_library(tmp_path: Path, code: Path) -> None:
    """A module of ours or of a library that has a standard module's name must not shadow it."""
    (code / "os.py").write_text("raise SystemExit('shadowed')")
    path = write(tmp_path / "x", launchers.launcher_text("qmail-echo", b"/h", directories=[str(code)]))
    assert run(path) == "/h [] False\n"
