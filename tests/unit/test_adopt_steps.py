"""`notqmail adopt --apply` and `--undo`: exact, and the same command goes on after being stopped anywhere."""

import json
import os
from pathlib import Path

import pytest

from adopt_homes import FLAVOURS, NETQMAIL, NOTQMAIL, PLENTY, lay_home, lay_message, lay_start, put, tree
from notqmail.admin import adopt_steps, main
from notqmail.admin.adopt_programs import Bin
from notqmail.admin.adopt_steps import BadNotes, Notes, Steps, decode_notes, read_notes
from notqmail.admin.launchers import launcher_text, program_names
from notqmail.admin.queue_tree import QueueTree
from notqmail.unix.launchers import is_ours


@pytest.fixture(autouse=True)
def nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is not the home's, and compiling it takes its time."""
    monkeypatch.setattr(adopt_steps, "compile_package", lambda: None)


@pytest.fixture
def home(short_path: Path) -> Path:
    laid = lay_home(short_path / "h", NOTQMAIL)
    lay_start(short_path / "r", laid, PLENTY)
    return laid


def adopt(home: Path, *arguments: str) -> int:
    return main.main(["adopt", str(home), "--root", str(home.parent / "r"), *arguments])


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_there_and_back_leaves_everything_as_it_was(short_path: Path, flavour: str) -> None:
    home = lay_home(short_path / "h", flavour)
    lay_start(short_path / "r", home, PLENTY)
    number = lay_message(home / "queue", "x\n", sender="a@b.test", todo=["c@mail.test"], intd=True)
    before = tree(home)
    assert adopt(home, "--apply") == 0
    ours = {name for name in program_names() if is_ours(bytes(home / "bin" / name))}
    left = {"qmail-smtpd"} if flavour == NETQMAIL else set()
    assert ours == set(program_names()) - left
    assert (home / "bin" / "qmail-queue.before-python").stat().st_mode & 0o7777 == 0o4711
    assert (home / "bin" / "qmail-queue").stat().st_mode & 0o7777 == 0o755
    assert (home / "queue" / "todo" / str(number)).exists()
    assert adopt(home, "--undo") == 0
    assert tree(home) == before


def test_applied_again_it_writes_launchers_anew_and_nothing_else(home: Path) -> None:
    before = tree(home)
    assert adopt(home, "--apply") == 0
    first = tree(home)
    put(home / "bin" / "forward", launcher_text("forward", b"/elsewhere"), 0o755)
    assert adopt(home, "--apply") == 0
    again = tree(home)
    assert {path: entry[4] for path, entry in again.items()} == {path: entry[4] for path, entry in first.items()}
    assert adopt(home, "--undo") == 0
    assert tree(home) == before


def test_nothing_is_put_where_somebody_s_own_program_is(home: Path) -> None:
    put(home / "bin" / "qmail-remote", "#!/bin/sh\nexec mine\n", 0o700)
    before = tree(home)
    assert adopt(home, "--apply") == 0
    assert tree(home)["bin/qmail-remote"] == before["bin/qmail-remote"]
    assert not (home / "bin" / "qmail-remote.before-python").exists()
    assert adopt(home, "--undo") == 0
    assert tree(home) == before


def test_what_we_add_has_owner_and_mode_of_init(home: Path) -> None:
    assert adopt(home, "--apply") == 0
    modes = {str(path.relative_to(home)): path.stat().st_mode & 0o7777 for path in (home / "queue/ledger").rglob("*")}
    assert modes == {
        "queue/ledger/accepted": 0o700, "queue/ledger/ended": 0o700,
        "queue/ledger/accepted/current": 0o600, "queue/ledger/ended/current": 0o600,
    }  # fmt: skip
    assert (home / "run").stat().st_mode & 0o7777 == 0o755
    assert not list(home.rglob("*.python-new"))


# ── stopped in the middle ───────────────────────────────────────────────────────────────────────────────────────────


class Stopped(Exception):
    """The process was killed here."""


class StoppingTree(QueueTree):
    """Stops at the step of a number: before it is done, as a kill may."""

    def __init__(self, root: bytes, stop_at: int) -> None:
        super().__init__(root)
        self._left = stop_at

    def _step(self) -> None:
        if self._left == 0:
            raise Stopped
        self._left -= 1

    def create(self, path, chunks, mode=0o600):  # type: ignore[no-untyped-def]
        self._step()
        return super().create(path, chunks, mode)

    def link(self, old: bytes, new: bytes) -> None:
        self._step()
        super().link(old, new)

    def rename(self, old: bytes, new: bytes) -> None:
        self._step()
        super().rename(old, new)

    def discard(self, path: bytes) -> None:
        self._step()
        super().discard(path)

    def settle(self, path: bytes, uid: int, gid: int | None, mode: int) -> None:
        self._step()
        super().settle(path, uid, gid, mode)

    def make_directory(self, path: bytes) -> None:
        self._step()
        super().make_directory(path)

    def remove_directory(self, path: bytes) -> bool:
        self._step()
        return super().remove_directory(path)


def few_programs(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Few are enough to stop at every step; `checkpassword` is one that C has not."""
    names = ["checkpassword", "qmail-clean", "qmail-queue", "qmail-start"]
    monkeypatch.setattr("notqmail.admin.adopt_programs.program_names", lambda: names)
    monkeypatch.setattr("notqmail.admin.adopt_programs.CORE", ("qmail-start", "qmail-clean"))
    for path in (home / "bin").iterdir():
        if path.name not in names:
            path.unlink()


def applied_until(home: Path, step: int) -> bool:
    """Whether it came to its end before the step at which it was to stop."""
    try:
        Steps(bytes(home), lambda _: None, StoppingTree(bytes(home), step)).apply(Bin(bytes(home)))
    except Stopped:
        return False
    return True


def undone_until(home: Path, step: int) -> bool:
    try:
        assert Steps(bytes(home), lambda _: None, StoppingTree(bytes(home), step)).undo() == []
    except Stopped:
        return False
    return True


def every_name_leads_to_a_program(home: Path, before: dict[str, bytes]) -> None:
    for name, content in before.items():
        path = home / "bin" / name
        assert is_ours(bytes(path)) or path.read_bytes() == content, name
        assert path.stat().st_mode & 0o111, f"{name} can be run"


def test_stopped_at_any_step_it_can_be_finished_or_undone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_programs(monkeypatch, home)
    before = tree(home)
    programs = {path.name: path.read_bytes() for path in (home / "bin").iterdir()}
    step = 0
    while True:
        whole = applied_until(home, step)
        every_name_leads_to_a_program(home, programs)
        if is_ours(bytes(home / "bin" / "qmail-queue")):
            assert is_ours(bytes(home / "bin" / "qmail-start")), "ours needs the writer that our qmail-start starts"
        assert undone_until(home, 1_000)
        assert tree(home) == before, f"undone after step {step}"
        if whole:
            break
        assert not applied_until(home, step)
        assert applied_until(home, 1_000), "the same command goes on"
        assert {name for name in programs if is_ours(bytes(home / "bin" / name))} == set(programs)
        assert undone_until(home, 1_000)
        assert tree(home) == before, f"finished and undone after step {step}"
        step += 1
    assert step > 30


def test_an_undo_stopped_at_any_step_can_be_finished(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_programs(monkeypatch, home)
    before = tree(home)
    programs = {path.name: path.read_bytes() for path in (home / "bin").iterdir()}
    step = 0
    whole = False
    while not whole:
        assert applied_until(home, 1_000)
        whole = undone_until(home, step)
        every_name_leads_to_a_program(home, programs)
        if is_ours(bytes(home / "bin" / "qmail-queue")):
            assert is_ours(bytes(home / "bin" / "qmail-start"))
        assert undone_until(home, 1_000)
        assert tree(home) == before, step
        step += 1
    assert step > 10


# ── what is in the way of going back ────────────────────────────────────────────────────────────────────────────────


def test_a_home_that_was_not_adopted_has_nothing_to_hand_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(home)
    assert adopt(home, "--undo") == 1
    assert "this home was not adopted" in capsys.readouterr().err
    assert tree(home) == before


@pytest.mark.parametrize(
    ("path", "content", "why"),
    [
        ("todo/{n}", b"u1\0p1\0Fa@b.test\0Xnew\0Tc@d.test\0", "it has a record of a kind that nobody knows"),
        ("todo/{n}", b"u1\0p1\0Fa@b.test\0Tc@d.te", "its last record is not ended"),
        ("mess/0/23000023", b"mail", "its inode number is"),
        ("todo/0/1", b"", "the queue is now split by 23, todo and intd too"),
        ("mess/23/1", b"", "the queue is now split by 24"),
    ],
)
def test_a_queue_that_c_could_not_read_is_not_handed_back(
    home: Path, capsys: pytest.CaptureFixture[str], path: str, content: bytes, why: str
) -> None:
    assert adopt(home, "--apply") == 0
    number = lay_message(home / "queue", "x\n", sender="a@b.test", todo=["c@mail.test"])
    place = home / "queue" / path.format(n=number)
    place.parent.mkdir(exist_ok=True)
    put(place, content)
    applied = tree(home)
    assert adopt(home, "--undo") == 1
    assert why in capsys.readouterr().err
    assert tree(home) == applied


def test_what_our_programs_leave_in_directories_of_ours_goes_with_them(home: Path) -> None:
    before = tree(home)
    assert adopt(home, "--apply") == 0
    for path in ("run/qmail-queue", "run/qmail-queue.lock", "run/notqmail-run.pid", "queue/ledger/ended/17",
                 "queue/ledger/accepted/totals"):  # fmt: skip
        put(home / path, "x")
    assert adopt(home, "--undo") == 0
    assert tree(home) == before


def test_what_was_put_there_meanwhile_is_not_removed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(home)
    assert adopt(home, "--apply") == 0
    (home / "bin" / "forward").unlink()
    put(home / "bin" / "forward", b"\x7fELF of an upgrade", 0o755)
    put(home / "run" / "mine", "x")
    assert adopt(home, "--undo") == 1
    complaint = capsys.readouterr().err
    assert "bin/forward is not ours and not what it was" in complaint
    assert "run has files in it that we did not make" in complaint
    assert (home / "bin" / "forward").read_bytes() == b"\x7fELF of an upgrade"
    assert (home / "bin" / "qmail-send").read_bytes() == before["bin/qmail-send"][4]
    (home / "bin" / "forward.before-python").replace(home / "bin" / "forward")
    (home / "run" / "mine").unlink()
    assert adopt(home, "--undo") == 0
    assert tree(home) == before


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"[]", b"null", b"{}", b'{"programs": []}', b'{"programs": 1, "made": []}',
        b'{"programs": [1], "made": []}', b'{"programs": ["../x"], "made": []}', b'{"programs": [""], "made": []}',
        b'{"programs": [".."], "made": []}', b'{"programs": ["a\\u0000b"], "made": []}',
        b'{"programs": [], "made": ["control"]}', b'{"programs": [], "made": ["run/.."]}', b"\xff", b"[" * 100_000,
        b'{"programs": [], "made": [[]]}', b'{"programs": [], "made": "run"}',
    ],
)  # fmt: skip
def test_damaged_notes_remove_nothing(home: Path, raw: bytes) -> None:
    with pytest.raises(BadNotes):
        decode_notes(raw)
    put(home / "adopted.json", raw)
    before = tree(home)
    assert adopt(home, "--undo") == 111
    assert adopt(home, "--apply") == 111
    assert tree(home) == before


def test_notes_are_read_as_they_were_written(home: Path) -> None:
    notes = decode_notes(Notes(["checkpassword"], ["run", "queue/ledger"]).encode())
    assert (notes.programs, notes.made) == (["checkpassword"], ["run", "queue/ledger"])
    assert read_notes(QueueTree(bytes(home))) is None
    assert json.loads(Notes([], []).encode()) == {"programs": [], "made": []}


@pytest.mark.root
def test_a_closed_interpreter_is_in_the_way_of_a_classic_home(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = lay_home(short_path / "h", NOTQMAIL)
    lay_start(short_path / "r", home, PLENTY)
    os.chown(home / "queue", 40_004, -1)
    monkeypatch.setattr("notqmail.admin.adopt.closed_to_others", lambda path: True)
    assert adopt(home, "--apply") == 1
    assert "cannot be reached by the qmail accounts" in capsys.readouterr().out
    assert not (home / "run").exists()
