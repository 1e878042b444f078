"""Starting programs with exactly the descriptors they are promised, and learning how they ended."""

import errno
import os
import signal
import sys
from pathlib import Path

import pytest

from notqmail.unix.processes import EXEC_FAILED, Ended, close_all, look, spawn, spawn_among_threads, wait, write_all


def read_all(descriptor: int) -> bytes:
    return b"".join(iter(lambda: os.read(descriptor, 65_536), b""))


def run(script: str, **more: object) -> Ended:
    return wait(spawn([b"/bin/sh", b"-c", script.encode()], environ=os.environb, **{"descriptors": {}, **more}))  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [0, 1, 99, 100, 111, 255])
def test_an_exit_code_is_told(code: int) -> None:
    ended = run(f"exit {code}")
    assert (ended.code, ended.killed_by, ended.crashed) == (code, 0, False)


def test_a_signal_is_told_as_a_crash() -> None:
    ended = run("kill -9 $$")
    assert (ended.code, ended.killed_by, ended.crashed) == (None, signal.SIGKILL, True)


def test_descriptors_arrive_where_they_are_promised_even_crosswise() -> None:
    one_in, one_out = os.pipe()
    two_in, two_out = os.pipe()
    low, high = sorted((one_out, two_out))
    script = f"import os; os.write({low}, b'low'); os.write({high}, b'high')"
    pid = spawn(
        [os.fsencode(sys.executable), b"-c", script.encode()], environ=os.environb, descriptors={low: high, high: low}
    )
    assert wait(pid).code == 0
    close_all((one_out, two_out))
    said = {one_out: read_all(one_in), two_out: read_all(two_in)}
    close_all((one_in, two_in))
    assert said == {low: b"high", high: b"low"}


def test_no_other_descriptor_is_inherited() -> None:
    read_end, write_end = os.pipe()
    other = os.dup(read_end)
    assert run("test ! -e /proc/self/fd/9 && ls /proc/self/fd >&5", descriptors={5: write_end}).code == 0
    os.close(write_end)
    listed = {int(number) for number in read_all(read_end).split()}
    close_all((read_end, other))
    assert 5 in listed and not {read_end, other} & listed


def test_the_environment_and_the_directory_are_what_was_asked_for(tmp_path: Path) -> None:
    pid = spawn(
        [b"/bin/sh", b"-c", b"test \"$ONLY\" = x && test -z \"$HOME\" && test -e here"], descriptors={},
        environ={b"ONLY": b"x"}, directory=os.fsencode(tmp_path),
    )  # fmt: skip
    assert wait(pid).code == 1
    (tmp_path / "here").touch()
    assert run("test -e here", directory=os.fsencode(tmp_path)).code == 0


def test_what_cannot_be_run_has_its_own_codes(tmp_path: Path) -> None:
    missing = os.fsencode(tmp_path / "missing")
    assert wait(spawn([missing], descriptors={}, environ={})).code == EXEC_FAILED
    assert (
        wait(spawn([missing], descriptors={}, environ={}, exit_on_failure=lambda error: error.errno or 0)).code
        == errno.ENOENT
    )
    assert wait(spawn([b"/bin/true"], descriptors={}, environ={}, directory=missing)).code == 61
    assert wait(spawn([b"true"], descriptors={}, environ={b"PATH": b"/bin"}, search_path=True)).code == 0
    assert wait(spawn([b"true"], descriptors={}, environ={b"PATH": missing}, search_path=True)).code == EXEC_FAILED


def test_rights_that_cannot_be_dropped_mean_no_program() -> None:
    def refuse() -> None:
        raise PermissionError(errno.EPERM, "no")

    assert run("exit 0", before_exec=refuse, exit_on_failure=lambda _error: 77).code == 77


def test_a_bug_before_exec_never_returns_into_the_caller() -> None:
    def bug() -> None:
        raise ValueError

    assert run("exit 0", before_exec=bug).code == EXEC_FAILED


@pytest.mark.parametrize(("default", "code"), [(True, None), (False, 0)])
def test_a_program_can_have_its_sigpipe_back(default: bool, code: int | None) -> None:
    assert run("kill -PIPE $$; exit 0", default_sigpipe=default).code == code


def test_among_threads_a_program_starts_the_same_or_says_at_once_that_it_cannot(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    pid = spawn_among_threads([b"/bin/echo", b"hello"], descriptors={1: write_end}, environ={})
    os.close(write_end)
    assert read_all(read_end) == b"hello\n"
    os.close(read_end)
    assert wait(pid).code == 0
    with pytest.raises(FileNotFoundError):
        spawn_among_threads([os.fsencode(tmp_path / "missing")], descriptors={}, environ={})


def test_a_look_tells_whether_it_has_ended_and_does_not_wait() -> None:
    read_end, write_end = os.pipe()
    pid = spawn([b"/bin/cat"], descriptors={0: read_end}, environ={})
    os.close(read_end)
    assert look(pid) is None
    os.close(write_end)
    ended = None
    while ended is None:  # the suite's deadline is this loop's
        ended = look(pid)
    assert ended.code == 0


def test_a_reader_that_is_gone_is_an_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with pytest.raises(BrokenPipeError):
        write_all(write_end, b"x")
    os.close(write_end)
    close_all((read_end, write_end))  # closed already: no error


def test_a_wait_that_a_signal_interrupts_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[object] = [InterruptedError(), (7, 256)]

    def waitpid(pid: int, options: int) -> object:
        answer = answers.pop(0)
        if isinstance(answer, InterruptedError):
            raise answer
        return answer

    monkeypatch.setattr(os, "waitpid", waitpid)
    assert wait(7).code == 1 and answers == []


def test_a_closing_that_loses_data_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system may find out only then that a write failed."""

    def close(_: int) -> None:
        raise OSError(errno.EIO, "lost")

    monkeypatch.setattr(os, "close", close)
    with pytest.raises(OSError, match="lost"):
        close_all((7,))
