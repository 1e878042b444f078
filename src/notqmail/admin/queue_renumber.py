"""Giving messages new numbers: those of a copied or restored queue, whose inode numbers are not their names.

All their files change their names, and a new number may be another one's old number. So every message first leaves:
N.moving, in the directory of its kind, is what its files are called then. When all have left, each gets the number
that its message file's inode has. The order of the steps is the promise:

    for some messages at a time:                             for some messages at a time:
      link their other files to KIND/N.moving   sync           link mess/N.moving to its place                 sync
      link their message files to mess/N.moving sync           link local, remote, bounce, intd                sync
      remove the old names of other files       sync           link info, todo                                 sync
      remove the old names of message files     sync           remove KIND/N.moving                            sync
                                                               remove mess/N.moving                            sync

Where mess/N.moving is, all other files of the message are beside it or have their new names already; where it is not,
all of them have their old names. So whatever a power cut leaves, the next run knows what belongs together. Under its
old number as under its new one an envelope is never without the message file, which keeps others from the number.
"""

from notqmail.admin.queue_survey import MOVING, survey
from notqmail.admin.queue_target import KINDS
from notqmail.queue.layout import number_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from notqmail.admin.queue_target import Target
    from notqmail.admin.queue_tree import QueueTree

    Messages = Sequence[tuple[int, Sequence[tuple[bytes, bytes]]]]  # old number; kind and path of each file

BATCH = 1_000
_MESS = b"mess"
_LAST = (b"info", b"todo")  # what makes it a message again


def leave(tree: "QueueTree", messages: "Messages", seen: "Callable[[], object]" = lambda: None) -> None:
    """The first half. Raises OSError."""
    for start in range(0, len(messages), BATCH):
        batch = messages[start : start + BATCH]
        others = [(path, moving(kind, number)) for number, files in batch for kind, path in files if kind != _MESS]
        mess = [(path, moving(kind, number)) for number, files in batch for kind, path in files if kind == _MESS]
        link_all(tree, others)
        link_all(tree, mess)
        remove_all(tree, [old for old, _ in others])
        remove_all(tree, [old for old, _ in mess])
        for _ in batch:
            seen()


def arrive(
    tree: "QueueTree", target: "Target", put_away: "Callable[[list[bytes]], None]",
    seen: "Callable[[], object]" = lambda: None,
) -> None:  # fmt: skip
    """The second half, for all that have left; nobody may be about to leave. Raises OSError.

    What finds its place taken by another file goes to `put_away`.
    """
    staged = _staged(tree)
    numbers = sorted(staged)
    for start in range(0, len(numbers), BATCH):
        _arrive(tree, target, {number: staged[number] for number in numbers[start : start + BATCH]}, put_away)
        for _ in range(min(BATCH, len(numbers) - start)):
            seen()


def resume(tree: "QueueTree", put_away: "Callable[[list[bytes]], None]") -> bool:
    """Puts right what an interrupted run has left half done; False when there was nothing to do. Raises OSError.

    A message has left when its message file has a staged name, and not when it has none. Which of the others are
    still to leave, a new look says.
    """
    found = survey(tree)
    others: list[bytes] = []
    mess: list[bytes] = []
    lonely: list[bytes] = []
    staged_again: list[bytes] = []
    for number, staged in found.staged.items():
        left = {(one.kind, one.aspect.identity) for one in staged}
        here = [one for one in found.files.get(number, []) if (one.kind, one.aspect.identity) in left]
        if any(one.kind == _MESS for one in staged):
            others += [one.path for one in here if one.kind != _MESS]
            mess += [one.path for one in here if one.kind == _MESS]
            continue
        still = {(one.kind, one.aspect.identity) for one in here}
        for one in staged:
            (staged_again if (one.kind, one.aspect.identity) in still else lonely).append(one.path)
    remove_all(tree, others)
    remove_all(tree, mess)
    put_away(lonely)
    remove_all(tree, staged_again)
    return bool(others or mess or lonely or staged_again)


def _staged(tree: "QueueTree") -> dict[int, dict[bytes, bytes]]:
    """Old number -> kind -> staged name."""
    found: dict[int, dict[bytes, bytes]] = {}
    for kind in KINDS:
        for name in tree.names(kind):
            number = number_of(name.removesuffix(MOVING)) if name.endswith(MOVING) else None
            if number is not None:
                found.setdefault(number, {})[kind] = kind + b"/" + name
    return found


def _arrive(
    tree: "QueueTree", target: "Target", batch: dict[int, dict[bytes, bytes]],
    put_away: "Callable[[list[bytes]], None]",
) -> None:  # fmt: skip
    first: list[tuple[bytes, bytes]] = []
    second: list[tuple[bytes, bytes]] = []
    third: list[tuple[bytes, bytes]] = []
    homeless: list[bytes] = []
    for files in batch.values():
        places = _places(tree, target, files)
        if places is None:
            homeless += files.values()
            continue
        for kind, (old, new) in places.items():
            (first if kind == _MESS else third if kind in _LAST else second).append((old, new))
    put_away(homeless)
    for step in (first, second, third):
        link_all(tree, step)
    remove_all(tree, [old for old, _ in (*second, *third)])
    remove_all(tree, [old for old, _ in first])


def _places(tree: "QueueTree", target: "Target", files: dict[bytes, bytes]) -> dict[bytes, tuple[bytes, bytes]] | None:
    """kind -> (staged name, new name); None where one of the new names is another file's."""
    mess = tree.aspect(files[_MESS]) if _MESS in files else None
    if mess is None:
        return None
    places = {kind: (old, target.path(kind, mess.inode)) for kind, old in files.items()}
    for old, new in places.values():
        if not _is_free(tree, old, new):
            return None
    return places


def _is_free(tree: "QueueTree", old: bytes, new: bytes) -> bool:
    """Whether the new name is nobody's, or already this file's."""
    there = tree.aspect(new)
    if there is None:
        return True
    ours = tree.aspect(old)
    return ours is not None and there.identity == ours.identity


def moving(kind: bytes, number: int) -> bytes:
    """The name between two numbers."""
    return b"%b/%d%b" % (kind, number, MOVING)


def link_all(tree: "QueueTree", steps: "Iterable[tuple[bytes, bytes]]") -> None:
    """Second names, durable on return; those that are there already are left. Raises OSError, FileExistsError."""
    changed: dict[bytes, None] = {}
    for old, new in steps:
        changed[directory_of(new)] = None  # also when an interrupted run has made it: it may not be durable
        if tree.aspect(new) is None or not _is_free(tree, old, new):
            tree.link(old, new)
    if changed:
        tree.sync(list(changed))


def remove_all(tree: "QueueTree", paths: "Iterable[bytes]") -> None:
    """Removes names, durably on return. Raises OSError."""
    changed: dict[bytes, None] = {}
    for path in paths:
        tree.discard(path)
        changed[directory_of(path)] = None
    if changed:
        tree.sync(list(changed))


def directory_of(path: bytes) -> bytes:
    """The directory that holds a name."""
    return path.rpartition(b"/")[0]
