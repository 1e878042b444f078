"""Looking at every file of a queue, whatever its layout: what is there, and what belongs to which message.

Changes nothing. A file belongs to the message whose number is its name, in whatever numbered directory it is; while
messages get new numbers (queue_renumber.py) theirs are called N.moving.
"""

from notqmail.admin.queue_target import KINDS, LEDGER, TODO_KINDS, Target
from notqmail.admin.queue_tree import DIRECTORY, FILE
from notqmail.queue.layout import DIRECTORIES, SPLIT_KINDS, number_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from notqmail.admin.queue_tree import Aspect, QueueTree

MOVING = b".moving"  # N.moving, in the directory of its kind, belongs to the message whose number was N
_NUMBERED_KINDS = (*SPLIT_KINDS, *TODO_KINDS)
_TOP = {path for path, _, _ in DIRECTORIES if b"/" not in path}
_LOCKS = {b"trigger", b"sendmutex", b"tcpto"}
_IGNORED = {b"lost+found"}  # of a file system that is mounted here


class Found:
    """A file of a message. `fault` is what is wrong with what is in it, "" for nothing."""

    __slots__ = ("aspect", "fault", "kind", "path")

    def __init__(self, kind: bytes, path: bytes, aspect: "Aspect", fault: str = "") -> None:
        self.kind, self.path, self.aspect, self.fault = kind, path, aspect, fault


class Survey:
    """What is in a queue."""

    def __init__(self) -> None:
        self.aspects: dict[bytes, Aspect] = {}  # directories (b"" is the queue) and files in lock/
        self.files: dict[int, list[Found]] = {}
        self.staged: dict[int, list[Found]] = {}
        self.odd: dict[int, list[bytes]] = {}  # links, directories, ... where a message of this number has its files
        self.written: list[Found] = []  # under pid/
        self.strange: list[bytes] = []  # what no program of the mail system has made
        self.ledger: list[bytes] = []  # its files

    def looks_like(self) -> Target:
        """The layout that the directories show."""
        parts = 0
        while b"mess/%d" % parts in self.aspects:
            parts += 1
        return Target(parts or 1, big_todo=b"todo/0" in self.aspects)


def survey(tree: "QueueTree", seen: "Callable[[], object]" = lambda: None) -> Survey:
    """Looks at everything; `seen` is called for each file. Raises OSError when a directory cannot be read."""
    found = Survey()
    top = tree.aspect(b"")
    if top is None:
        raise FileNotFoundError(2, "there is no queue", b"queue")
    found.aspects[b""] = top
    for name in tree.names(b""):
        if name not in _TOP:
            if name not in _IGNORED:
                found.strange.append(name)
            continue
        aspect = tree.aspect(name)
        if aspect is not None:
            found.aspects[name] = aspect
            if aspect.sort == DIRECTORY:
                _look_into(tree, name, found, seen)
    return found


def _look_into(tree: "QueueTree", top: bytes, found: Survey, seen: "Callable[[], object]") -> None:
    for name in sorted(tree.names(top)):
        path = top + b"/" + name
        aspect = tree.aspect(path)
        if aspect is None:
            continue  # gone meanwhile: a writer may be at work
        if top in KINDS:
            _kind_entry(tree, top, name, aspect, found, seen)
        elif top == LEDGER:
            found.aspects[path] = aspect
            if aspect.sort == DIRECTORY:
                found.ledger += [path + b"/" + one for one in tree.names(path)]
                current = tree.aspect(path + b"/current")
                if current is not None:
                    found.aspects[path + b"/current"] = current
        elif top == b"lock" and name in _LOCKS:
            found.aspects[path] = aspect
        elif top == b"pid" and aspect.sort == FILE:
            found.written.append(Found(top, path, aspect))
        else:
            found.strange.append(path)


def _kind_entry(
    tree: "QueueTree", kind: bytes, name: bytes, aspect: "Aspect", found: Survey, seen: "Callable[[], object]"
) -> None:
    path = kind + b"/" + name
    number = number_of(name)
    staged = number_of(name.removesuffix(MOVING)) if name.endswith(MOVING) else None
    if aspect.sort == FILE and staged is not None:
        found.staged.setdefault(staged, []).append(Found(kind, path, aspect))
    elif aspect.sort == FILE and number is not None:
        _take(tree, kind, number, path, aspect, found)
        seen()
    elif aspect.sort == DIRECTORY and number is not None and kind in _NUMBERED_KINDS:
        found.aspects[path] = aspect
        for inner in sorted(tree.names(path)):
            inner_path = path + b"/" + inner
            number, inner_aspect = number_of(inner), tree.aspect(inner_path)
            if inner_aspect is None:
                continue
            seen()
            if number is None:
                found.strange.append(inner_path)
            elif inner_aspect.sort != FILE:
                found.odd.setdefault(number, []).append(inner_path)
            else:
                _take(tree, kind, number, inner_path, inner_aspect, found)
    elif number is not None:
        found.odd.setdefault(number, []).append(path)
    else:
        found.strange.append(path)


def _take(tree: "QueueTree", kind: bytes, number: int, path: bytes, aspect: "Aspect", found: Survey) -> None:
    fault = "" if kind in (b"mess", b"intd", b"bounce") else content_fault(kind, tree.read(path))
    found.files.setdefault(number, []).append(Found(kind, path, aspect, fault))


def content_fault(kind: bytes, data: bytes) -> str:
    """What is wrong with a todo, info, local or remote file, "" for nothing: would qmail-send understand it?"""
    if not data:
        return "it is empty" if kind in (b"todo", b"info") else ""
    *records, rest = data.split(b"\0")
    if kind == b"info":
        return "" if records and records[0][:1] == b"F" else "it has no sender"
    if rest:
        return "its last record is not ended: it has been cut off"
    if kind == b"todo":
        if any(record[:1] not in (b"u", b"p", b"F", b"T") for record in records):
            return "it has a record of a kind that nobody knows"
        return "" if any(record[:1] == b"F" for record in records) else "it has no sender"
    return "" if all(record[:1] in (b"T", b"D") for record in records) else "it has a record that is neither T nor D"
