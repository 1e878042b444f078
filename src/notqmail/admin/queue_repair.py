"""Carrying out a plan (queue_plan.py) so that whatever a kill or power cut leaves, a second run finishes.

Nothing that may be mail is deleted: what has no place goes to lost+found beside the queue, under its path with dashes
for slashes. A name goes only when another name of the same file is durable. Between the steps no message is seen with
another one's envelope, and none that programs of the new layout would take for litter.
"""

import errno

from notqmail.admin.queue_plan import NOTE, as_text, make_plan
from notqmail.admin.queue_renumber import (
    BATCH,
    arrive,
    directory_of,
    leave,
    link_all,
    remove_all,
    resume,
)  # fmt: skip
from notqmail.admin.queue_survey import survey
from notqmail.admin.queue_tree import DIRECTORY
from notqmail.queue.layout import FILES, TCPTO, TCPTO_BYTES, TRIGGER
from notqmail.queue.ledger import ACCEPTED, ENDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from notqmail.admin.queue_plan import Finding, Plan
    from notqmail.admin.queue_target import Target
    from notqmail.admin.queue_tree import QueueTree
    from notqmail.unix.accounts import Accounts

LOST = b"../lost+found"
_ROUNDS = 4  # one does it all; what one uncovers, the next does
_LAST = (b"info", b"todo")
_TRIES = 1_000


class Repair:
    """The repair of one queue that nobody uses. `seen` is called now and then, for whoever shows that it goes on."""

    def __init__(
        self, tree: "QueueTree", target: "Target", accounts: "Accounts", now_s: int, *, with_strange: bool = False,
        seen: "Callable[[], object]" = lambda: None,
    ) -> None:  # fmt: skip
        self._tree, self._target, self._accounts, self._now_s = tree, target, accounts, now_s
        self._with_strange, self._seen = with_strange, seen
        self.lost: list[tuple[bytes, bytes]] = []  # where something was, and where it is now
        self.trouble: dict[str, None] = {}  # what could not be done

    def look(self, target: "Target | None" = None) -> "Plan":
        """What is to be done; with `target`, what it would be for a queue of that layout. Raises OSError."""
        found = survey(self._tree, self._seen)
        return make_plan(found, target or self._target, self._accounts, self._now_s, with_strange=self._with_strange)

    def run(self) -> "list[Finding]":
        """Does it; returns the faults that are left. Raises OSError where going on would not be safe."""
        self._make_durable()
        plan = self.look()
        for _ in range(_ROUNDS):
            before = plan
            if not plan.has_work:
                break
            is_whole = self._one_round(plan)
            plan = self.look()
            if is_whole and _paths(plan) == _paths(before):
                break  # the rest cannot be done
        return [finding for finding in plan.findings if finding.weight != NOTE]

    def _make_durable(self) -> None:
        """All names as they are seen: those that an interrupted run, or a copy, has just made too."""
        found = survey(self._tree)
        self._tree.sync([path for path, aspect in found.aspects.items() if aspect.sort == DIRECTORY])

    def _one_round(self, plan: "Plan") -> bool:
        """All steps of a plan, in the order that is safe; False when an interrupted run had to be put right first."""
        self._put_away(plan.put_away_first)
        for path in plan.directories:
            self._tree.make_directory(path)
        for path in plan.fixtures:
            self._make_fixture(path)
        self._settle(plan)
        self._tree.sync([b"", *[path for path in plan.directories if path]])
        if plan.is_interrupted and resume(self._tree, self._put_away):
            return False  # the plan was made without these
        self._put_away(plan.put_away)
        self._move(plan)
        mess = [path for path in plan.drop if path.startswith(b"mess/")]  # first, as when they are moved
        remove_all(self._tree, mess)
        remove_all(self._tree, [path for path in plan.drop if not path.startswith(b"mess/")])
        if plan.renumber and not plan.is_interrupted:
            self._put_ledger_away()
        if plan.renumber or plan.is_interrupted:
            leave(self._tree, plan.renumber, self._seen)
            arrive(self._tree, self._target, self._put_away, self._seen)
        for path in sorted(plan.remove_directories, reverse=True):
            self._tree.remove_directory(path)
        return True

    def _make_fixture(self, path: bytes) -> None:
        if self._tree.aspect(path) is not None:
            return
        if path == TRIGGER:
            self._tree.make_fifo(path)
            return
        self._tree.create(path, (bytes(TCPTO_BYTES),) if path == TCPTO else ())
        self._tree.sync([path, directory_of(path)])

    def _settle(self, plan: "Plan") -> None:
        """Owners and modes; what needs root is said and left."""
        for path, uid, gid, mode in plan.owners:
            try:
                self._tree.settle(path, uid, gid, mode)
            except PermissionError:
                self.trouble[f"{as_text(path) or '.'}: only root may change its owner"] = None
            except FileNotFoundError:
                continue  # put away, or it was to be made and could not
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                self.trouble[f"{as_text(path)}: {error.strerror}"] = None

    def _move(self, plan: "Plan") -> None:
        """To other directories, with the same number.

        The message file is linked last and unlinked first: where it is, all else is, and a program that sees only the
        rest leaves that alone.
        """
        for start in range(0, len(plan.move), BATCH):
            batch = [step for steps in plan.move[start : start + BATCH] for step in steps]
            groups: list[list[tuple[bytes, bytes]]] = [[], [], []]
            for kind, old, new in batch:
                groups[2 if kind == b"mess" else 1 if kind in _LAST else 0].append((old, new))
            for group in groups:
                link_all(self._tree, group)
            for group in reversed(groups):
                remove_all(self._tree, [old for old, _ in group])
            self._seen()

    def _put_ledger_away(self) -> None:
        """The ledger knows messages by numbers that are about to change: it is begun anew."""
        for directory in (ACCEPTED, ENDED):
            if self._tree.aspect(directory) is None:
                continue
            self._put_away([directory + b"/" + name for name in self._tree.names(directory)])
            current = directory + b"/current"
            self._make_fixture(current)
            role, mode = next((role, mode) for path, role, mode in FILES if path == current)
            gid = None if self._accounts.single_user else self._accounts.gids["queue"]
            self._tree.settle(current, self._accounts.uids[role], gid, mode)

    def _put_away(self, paths: "list[bytes]") -> None:
        """Into lost+found, durably, before the old names go. Raises OSError."""
        if not paths:
            return
        self._tree.make_directory(LOST)
        kept: list[bytes] = []
        for path in paths:
            try:
                self.lost.append((path, self._keep(path)))
            except OSError as error:
                if error.errno not in (errno.EISDIR, errno.EPERM, errno.ENOENT):
                    raise
                self.trouble[f"{as_text(path)}: {error.strerror}: left where it is"] = None
                continue
            kept.append(path)
        self._tree.sync([LOST, b".."])
        remove_all(self._tree, kept)

    def _keep(self, path: bytes) -> bytes:
        """Gives the file a name in lost+found; one that an interrupted run has given it is good."""
        ours = self._tree.aspect(path)
        if ours is None:
            raise FileNotFoundError(errno.ENOENT, "it is gone", path)
        base = LOST + b"/" + path.replace(b"/", b"-")
        for count in range(_TRIES):
            name = base + b".%d" % count if count else base
            there = self._tree.aspect(name)
            if there is None:
                self._tree.link_or_copy(path, name)
                return name
            if there.identity == ours.identity:
                return name
        raise FileExistsError(errno.EEXIST, "lost+found is full of these", base)


def _paths(plan: "Plan") -> set[tuple[bytes, str]]:
    return {(finding.path, finding.what) for finding in plan.findings}
