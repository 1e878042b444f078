"""`notqmail init`, `adopt --apply` and `--undo` with the power cut at every effect.

Whatever is left, every name in bin/ leads to a whole program, and the same command, or the opposite one, comes to its
end: a home is never in a state that a person has to clean up by hand.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mirrored_home import MirroredTree, QuickTree, fake_of, lay

from notqmail.admin import adopt_steps, new_home
from notqmail.admin.adopt_programs import Bin
from notqmail.admin.adopt_steps import Steps
from notqmail.admin.launchers import NEW_SUFFIX
from notqmail.testing.disk_models import OrderedModel, StrictModel
from notqmail.testing.fake_disk import FakeDisk, PowerCut
from notqmail.unix.launchers import MARKER, is_ours

Model = type[StrictModel] | type[OrderedModel]
OF_C = {name: b"\x7fELF\x02\x01\x01" + name.encode() * 20 for name in ("qmail-clean", "qmail-queue", "qmail-start")}
PROGRAMS = ["checkpassword", *OF_C]  # the first is one that C has not
HOST = b"mail.example.org"
HOMES = ("h", "copy", "laid")  # side by side in one directory; a launcher says in which one it was written
LIMIT_OF_MAKE_TEST = 8  # a restart is of a real home here: then only four of a cut; `make crash` takes more


@pytest.fixture(autouse=True)
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few are enough; and the package is not the home's to compile."""
    monkeypatch.setattr(adopt_steps, "compile_package", lambda: None)
    monkeypatch.setattr(new_home.launchers, "compile_package", lambda: None)
    monkeypatch.setattr(new_home.launchers, "program_names", lambda: PROGRAMS)
    monkeypatch.setattr("notqmail.admin.adopt_programs.program_names", lambda: PROGRAMS)
    monkeypatch.setattr("notqmail.admin.adopt_programs.CORE", ("qmail-start", "qmail-clean"))


def state_of(home: Path) -> dict[str, tuple[bytes, int] | None]:
    """Content and mode of each file, None for each directory; without the text that says where the home is."""
    names = [b"'%b'" % bytes(home.parent / name) for name in HOMES]

    def content(path: Path) -> bytes:
        text = path.read_bytes()
        return next((text.replace(name, b"'HOME'") for name in names if name in text), text)

    return {
        str(path.relative_to(home)): (content(path), path.stat().st_mode & 0o7777) if path.is_file() else None
        for path in home.rglob("*")
    }


def mode_of(name: str, content: bytes) -> int:
    """What its writer gives a file before it has its name."""
    if name.endswith(os.fsdecode(NEW_SUFFIX)):
        return 0o600
    if name.startswith("bin/"):
        return 0o4711 if content == OF_C["qmail-queue"] else 0o755
    return 0o600 if name.startswith("queue/ledger/") else 0o644


def survivors(
    home: Path, model: Model, limit: int, work: Callable[[MirroredTree, Path], object]
) -> Iterator[tuple[str, Path]]:
    """(where the cut was, a home as it may be found then) for each effect of `work` on a fresh copy of `home`."""
    chance = random.Random(1)
    cut, is_done = 0, False
    copy, laid = home.parent / "copy", home.parent / "laid"
    while not is_done:
        fake = fake_of(home, model)
        lay(home, fake, copy, mode_of)
        fake.cut_at = cut
        try:
            work(MirroredTree(copy, fake), copy)
            is_done = True
        except PowerCut:
            pass
        outcomes = _different(list(fake.survivors(chance, limit)))
        if limit <= LIMIT_OF_MAKE_TEST:
            outcomes = chance.sample(outcomes, min(len(outcomes), 4))
        for number, found in enumerate([*outcomes, fake.killed()]):
            lay(copy, found, laid, mode_of)
            yield f"cut before effect {cut}, survivor {number}", laid
            shutil.rmtree(laid)
        shutil.rmtree(copy)
        cut += 1


def _different(found: list[FakeDisk]) -> list[FakeDisk]:
    """Each outcome once."""
    return list({repr(disk.everything()): disk for disk in found}.values())


def check_each(
    found: Iterator[tuple[str, Path]], check: Callable[[Path, bool], None], record: Callable[[str, object], None],
    name: str,
) -> None:  # fmt: skip
    """Runs the check on each home that may be found; it goes on in one way, or in the other, by turns."""
    count = 0
    for where, home in found:
        try:
            check(home, count % 2 == 0)
        except AssertionError as error:
            raise AssertionError(f"{where}: {error}") from error
        count += 1
    assert count > 50
    record(f"crash: restarts, {name}", count)


# -- adopt -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def of_c(short_path: Path) -> Path:
    home = short_path / "h"
    for name in ("bin", "control", "queue/lock"):
        (home / name).mkdir(parents=True)
    for name, content in OF_C.items():
        (home / "bin" / name).write_bytes(content)
        (home / "bin" / name).chmod(mode_of(f"bin/{name}", content))
    return home


def apply(tree: QuickTree | MirroredTree, home: Path) -> None:
    Steps(bytes(home), lambda _: None, tree).apply(Bin(bytes(home)))


def undo(tree: QuickTree | MirroredTree, home: Path) -> None:
    assert Steps(bytes(home), lambda _: None, tree).undo() == []


def every_name_leads_to_a_program(home: Path) -> None:
    for name, content in OF_C.items():
        path = home / "bin" / name
        assert path.exists(), f"bin/{name} is gone"
        text = path.read_bytes()
        assert text == content or (MARKER in text and text.endswith(b"start()\n")), name
        assert path.stat().st_mode & 0o111
    if is_ours(bytes(home / "bin" / "qmail-queue")):
        assert is_ours(bytes(home / "bin" / "qmail-start")), "ours needs the writer that our qmail-start starts"


def check_adoption(before: "dict[str, tuple[bytes, int] | None]") -> Callable[[Path, bool], None]:
    """It goes on and then back, or back at once."""

    def check(home: Path, is_to_go_on: bool) -> None:
        every_name_leads_to_a_program(home)
        if is_to_go_on:
            apply(QuickTree(bytes(home)), home)
            assert all(is_ours(bytes(home / "bin" / name)) for name in PROGRAMS)
        undo(QuickTree(bytes(home)), home)
        assert state_of(home) == before

    return check


@pytest.mark.parametrize("model", [StrictModel, OrderedModel])
def test_an_adoption_goes_on_or_back_whatever_a_power_cut_leaves(
    of_c: Path, model: Model, survivors_limit: int, record_property: Callable[[str, object], None]
) -> None:
    found = survivors(of_c, model, survivors_limit, apply)
    check_each(found, check_adoption(state_of(of_c)), record_property, "adopt --apply")


@pytest.mark.parametrize("model", [StrictModel, OrderedModel])
def test_handing_back_goes_on_whatever_a_power_cut_leaves(
    of_c: Path, model: Model, survivors_limit: int, record_property: Callable[[str, object], None]
) -> None:
    before = state_of(of_c)
    apply(QuickTree(bytes(of_c)), of_c)
    check_each(survivors(of_c, model, survivors_limit, undo), check_adoption(before), record_property, "adopt --undo")


# -- init ------------------------------------------------------------------------------------------------------------


def init(tree: QuickTree | MirroredTree, home: Path) -> None:
    assert new_home.make_home(bytes(home), host=HOST, classic=False, tree=tree) == []


@pytest.mark.parametrize("model", [StrictModel, OrderedModel])
def test_a_home_that_was_being_made_has_no_half_files_and_is_made_by_the_next_try(
    short_path: Path, model: Model, survivors_limit: int, monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:  # fmt: skip
    few = {"me": HOST + b"\n", "locals": HOST + b"\n"}
    monkeypatch.setattr(new_home, "control_files", lambda host: few)
    monkeypatch.setattr(new_home, "_ALIASES", ("postmaster",))
    monkeypatch.setattr(new_home, "create_queue", lambda home, _: os.makedirs(home + b"/queue/lock", exist_ok=True))
    empty, whole = short_path / "empty", short_path / "h"
    empty.mkdir(mode=0o755)
    init(QuickTree(bytes(whole)), whole)
    wanted = state_of(whole)

    def check(home: Path, _: bool) -> None:
        found = {name: state for name, state in state_of(home).items() if not name.endswith(os.fsdecode(NEW_SUFFIX))}
        assert found.items() <= wanted.items(), "a file that is not what it should be"
        assert "control/tcp.smtp" not in found or "control/tcp.smtp.cdb" in found, "rules that nobody compiles"
        init(QuickTree(bytes(home)), home)
        assert state_of(home) == wanted

    check_each(survivors(empty, model, survivors_limit, init), check, record_property, "init")
