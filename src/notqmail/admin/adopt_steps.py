"""`notqmail adopt --apply` and `--undo`: the few steps that make a C home ours, and back.

    note down, in HOME/adopted.json, what will be added
    make HOME/run, and the ledger in the queue
    for each program, qmail-queue last: a second name NAME.before-python for C's, then our launcher under NAME

Each program's name always leads to one that works, C's or ours. The notes are on the disk before the first step, and
each step looks first whether it is done: after a kill or a power cut the same command goes on. Back is the reverse,
qmail-queue first; C's files come back by their names alone, so owner, mode, times and content are what they were. No
file of C's gives up a name before its other one is on the disk.
"""

import json
import os
import stat

from notqmail.admin.adopt_programs import ADD, REFRESH, TAKE, Bin
from notqmail.admin.launchers import KEPT_SUFFIX, NEW_SUFFIX, compile_package, write_at_once, write_launcher
from notqmail.admin.queue_tree import QueueTree
from notqmail.queue.layout import DIRECTORIES, FILES
from notqmail.unix.accounts import accounts_for
from notqmail.unix.launchers import is_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NOTES = b"adopted.json"
_SOCKET_FILES = (b"run/qmail-queue", b"run/qmail-queue.lock", b"run/notqmail-run.pid")
_FIRST, _LAST = "qmail-start", "qmail-queue"  # ours needs the writer that our qmail-start starts


class Notes:
    """What we have added to a home: programs that were not there; files and directories, as they were made."""

    def __init__(self, programs: list[str], made: list[str]) -> None:
        self.programs, self.made = programs, made

    def encode(self) -> bytes:
        """For the disk."""
        return json.dumps({"programs": self.programs, "made": self.made}, indent=1).encode() + b"\n"


class BadNotes(Exception):
    """HOME/adopted.json is not as we write it; str() says so."""


def read_notes(tree: QueueTree) -> Notes | None:
    """What an earlier --apply wrote, None when there was none. Raises BadNotes, OSError."""
    try:
        raw = tree.read(NOTES)
    except FileNotFoundError:
        return None
    return decode_notes(raw)


def decode_notes(raw: bytes) -> Notes:
    """The text of the notes. Raises BadNotes: a name with a slash, say, is not ours to remove."""
    try:
        found = json.loads(raw)
        programs, made = found["programs"], found["made"]
        fine = all(_is_name(name) for name in programs) and set(made) <= set(_OURS_TO_MAKE)
    except (ValueError, TypeError, KeyError, RecursionError):
        fine = False
    if not fine:
        raise BadNotes("adopted.json is damaged: move it away, then only programs that were kept can be handed back")
    return Notes(list(programs), list(made))


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.isascii() and name.isprintable() and name.strip(".") != "" and "/" not in name


def _ledger_parts() -> list[tuple[str, str, int, bool]]:
    """Path below the home, role of the owner, mode, whether it is a directory; parents first."""
    parts = [("queue/" + path.decode(), role, mode, True) for path, role, mode in DIRECTORIES if path[:6] == b"ledger"]
    return parts + [
        ("queue/" + path.decode(), role, mode, False) for path, role, mode in FILES if path[:6] == b"ledger"
    ]


def _parts() -> list[tuple[str, str, int, bool]]:
    return [("run", "queue", 0o755, True), *_ledger_parts()]


_OURS_TO_MAKE = tuple(path for path, *_ in _parts())


def plan(home: bytes, found: Bin) -> list[tuple[str, str]]:
    """What `apply` would do: for each step what, and to which path; in order."""
    steps = [("make", path) for path, *_ in _parts() if not os.path.lexists(os.path.join(home, os.fsencode(path)))]
    words = {
        ADD: "add ours as", REFRESH: "write anew ours",
        TAKE: f"keep with {KEPT_SUFFIX.decode()} behind the name, and put ours in the place of",
    }  # fmt: skip
    return steps + [(words[found.programs[name].fate], f"bin/{name}") for name in _order(found)]


def _order(found: Bin) -> list[str]:
    names = [name for name, program in found.programs.items() if program.fate in (ADD, REFRESH, TAKE)]
    return sorted(names, key=lambda name: (name == _LAST, name != _FIRST, name))


class Steps:
    """Carries out steps in one home, and says each as it is done."""

    def __init__(self, home: bytes, say: "Callable[[str], object]", tree: QueueTree | None = None) -> None:
        self._home, self._say = home, say
        self._tree = QueueTree(home) if tree is None else tree

    def _is_there(self, path: bytes) -> bool:
        return self._tree.aspect(path) is not None

    # ── ours ────────────────────────────────────────────────────────────────────────────────────────────

    def apply(self, found: Bin) -> None:
        """Makes the home ours. Raises BadNotes, OSError; then the same again goes on where it stopped."""
        self._note(found)
        self._make_parts()
        compile_package()
        for name in _order(found):
            self._put_launcher(name)
        self._tree.sync([b"bin", b""])

    def _note(self, found: Bin) -> None:
        old = read_notes(self._tree) or Notes([], [])
        added = [name for name, program in found.programs.items() if program.fate == ADD and name not in old.programs]
        made = [path for path, *_ in _parts() if not self._is_there(path.encode()) and path not in old.made]
        write_at_once(self._tree, NOTES, Notes(old.programs + added, old.made + made).encode(), 0o644)
        self._tree.sync([b""])

    def _make_parts(self) -> None:
        accounts = accounts_for(self._home)
        for path, role, mode, is_directory in _parts():
            place = path.encode()
            if self._is_there(place):
                continue
            if is_directory:
                self._tree.make_directory(place)
            else:
                self._tree.create(place, ())
            gid = None if accounts.single_user else accounts.gids["queue"]
            self._tree.settle(place, accounts.uids[role], gid, mode)
            self._say(f"made {path}")

    def _put_launcher(self, name: str) -> None:
        place = b"bin/" + name.encode()
        said = f"added bin/{name}"
        if self._is_there(place):
            kept = place + KEPT_SUFFIX
            is_anew = self._is_ours(place)
            said = f"wrote bin/{name} anew" if is_anew else f"kept bin/{name} as {kept.decode()}, put ours there"
        write_launcher(place, name, self._home, replace_foreign=True, tree=self._tree)
        self._say(said)

    def _is_ours(self, place: bytes) -> bool:
        return is_ours(os.path.join(self._home, place))

    # ── and back ────────────────────────────────────────────────────────────────────────────────────────

    def undo(self) -> list[str]:
        """Hands the home back; returns what could not be, a sentence each. Raises BadNotes, OSError."""
        notes = read_notes(self._tree)
        left: list[str] = []
        for name in self._kept_names():
            self._hand_back(name, left)
        if notes is not None:
            for name in notes.programs:
                place = b"bin/" + name.encode()
                if self._is_ours(place):
                    self._tree.discard(place)
                    self._say(f"removed bin/{name}")
            self._tree.sync([b"bin"])
            for path in reversed(notes.made):
                self._remove_part(path, left)
            self._tree.sync([b"queue", b""])  # what is not noted any more must not come back
            if not left:
                self._tree.discard(NOTES)
        for left_over in [name for name in self._tree.names(b"bin") if name.endswith(NEW_SUFFIX)]:
            self._tree.discard(b"bin/" + left_over)
        self._tree.discard(NOTES + NEW_SUFFIX)
        self._tree.sync([b"bin", b""])
        return left

    def _kept_names(self) -> list[str]:
        ending = KEPT_SUFFIX.decode()
        names = [os.fsdecode(name) for name in self._tree.names(b"bin")]
        kept = [name.removesuffix(ending) for name in names if name.endswith(ending)]
        return sorted(kept, key=lambda name: (name != _LAST, name == _FIRST, name))

    def _hand_back(self, name: str, left: list[str]) -> None:
        place = b"bin/" + os.fsencode(name)
        kept = place + KEPT_SUFFIX
        here, other = self._tree.aspect(place), self._tree.aspect(kept)
        if here is None or other is None or here.inode != other.inode:  # else stopped between its two names
            if here is not None and not self._is_ours(place):
                left.append(
                    f"bin/{name} is not ours and not what it was: somebody put it there; {kept.decode()} stays too"
                )
                return
            self._tree.discard(place + NEW_SUFFIX)
            self._tree.link(kept, place + NEW_SUFFIX)
            self._tree.rename(place + NEW_SUFFIX, place)
        self._tree.sync([b"bin"])
        self._tree.discard(kept)
        self._say(f"bin/{name} is again what it was")

    def _remove_part(self, path: str, left: list[str]) -> None:
        place = path.encode()
        aspect = self._tree.aspect(place)
        if aspect is None:
            return
        if not stat.S_ISDIR(os.lstat(os.path.join(self._home, place)).st_mode):
            self._tree.discard(place)
        else:
            self._empty(place)
            if not self._tree.remove_directory(place):
                left.append(f"{path} has files in it that we did not make: it stays")
                return
        self._say(f"removed {path}")

    def _empty(self, place: bytes) -> None:
        """What our programs leave in a directory that we made: sockets and locks, and the ledger's journals."""
        files = list(_SOCKET_FILES) if place == b"run" else []
        if place.startswith(b"queue/ledger/"):
            files = [place + b"/" + name for name in self._tree.names(place)]
        for path in files:
            self._tree.discard(path)
