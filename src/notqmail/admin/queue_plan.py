"""What is wrong in a queue, and what to do about each thing. Pure: a survey in, a plan out; queue_repair.py carries it
out.

The legal states are those of the table in queue/layout.py. Two rules keep mail safe: a message file decides (its inode
number is the message's number), and nothing is deleted that is not another name of a file that stays; what has no
place in the queue is put away.
"""

from notqmail.admin.queue_survey import MOVING
from notqmail.admin.queue_target import KINDS, LEDGER, file_owner
from notqmail.admin.queue_tree import DIRECTORY, FIFO, FILE, owner_of
from notqmail.queue.layout import CLEANUP_AGE_S, TCPTO, TCPTO_BYTES, TRIGGER, number_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from notqmail.admin.queue_survey import Found, Survey
    from notqmail.admin.queue_target import Target
    from notqmail.admin.queue_tree import Aspect
    from notqmail.unix.accounts import Accounts

FAULT, NOTE, HOPELESS = "fault", "note", "no remedy"


class Finding:
    """One thing: `path`, what is wrong with it, and the remedy. A NOTE is legal and only worth knowing; what is
    HOPELESS stays as it is and wants a person.
    """

    __slots__ = ("path", "remedy", "weight", "what")

    def __init__(self, path: bytes, what: str, remedy: str, weight: str = FAULT) -> None:
        self.path, self.what, self.remedy, self.weight = path, what, remedy, weight


class Plan:
    """Everything that is to be done, by step, and the findings that say why."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.put_away_first: list[bytes] = []  # in the place of something the queue needs
        self.directories: list[bytes] = []  # to be made
        self.fixtures: list[bytes] = []  # files of every queue, to be made
        self.owners: list[tuple[bytes, int, int | None, int]] = []  # path, uid, gid, mode
        self.put_away: list[bytes] = []
        self.drop: list[bytes] = []  # second names of files that stay
        self.move: list[list[tuple[bytes, bytes, bytes]]] = []  # for each message: kind, from, to
        self.renumber: list[tuple[int, list[tuple[bytes, bytes]]]] = []  # old number; kind and path of its files
        self.is_interrupted = False  # an earlier run was giving messages new numbers
        self.remove_directories: list[bytes] = []
        self.messages = 0

    def find(self, path: bytes, what: str, remedy: str, weight: str = FAULT) -> None:
        """Notes a finding."""
        self.findings.append(Finding(path, what, remedy, weight))

    @property
    def has_work(self) -> bool:
        """Whether anything is to be done."""
        return self.is_interrupted or any(
            (
                self.put_away_first, self.directories, self.fixtures, self.owners, self.put_away, self.drop, self.move,
                self.renumber, self.remove_directories,
            )
        )  # fmt: skip

    @property
    def faults(self) -> int:
        """How many findings are no notes."""
        return sum(finding.weight != NOTE for finding in self.findings)


def make_plan(
    survey: "Survey", target: "Target", accounts: "Accounts", now_s: int, *, with_strange: bool = False
) -> Plan:
    """The plan that leads from what is there to a sound queue of this layout. `with_strange`: what nobody knows is put
    away too.
    """
    plan = Plan()
    _structure(plan, survey, target, accounts)
    _file_systems(plan, survey)
    own_numbers = survey.odd.keys() | {
        number
        for number, files in survey.files.items()
        if any(one.kind == b"mess" and one.aspect.inode == number for one in files)
    }
    claimed = own_numbers | {
        one.aspect.inode for files in survey.staged.values() for one in files if one.kind == b"mess"
    }
    for number in sorted(survey.files.keys() - survey.staged.keys()):  # those can be judged when that is finished
        if number not in survey.odd:
            _Message(plan, target, number, survey, now_s).judge(claimed)
    strange = [*survey.strange, *_odd(plan, survey)]
    for one in survey.written:
        if now_s - one.aspect.accessed_s >= CLEANUP_AGE_S:
            plan.find(one.path, "its writer is dead since more than 36 hours", _PUT_AWAY)
            plan.put_away.append(one.path)
    if survey.staged:
        plan.is_interrupted = True
        count = len(survey.staged)
        plan.find(
            b"mess/*" + MOVING, f"an interrupted repair was giving {count} messages new numbers", "to be finished"
        )
    for path in strange:
        if with_strange:
            plan.find(path, "nobody knows what this is", _PUT_AWAY)
            plan.put_away.append(path)
        else:
            plan.find(path, "nobody knows what this is", "stays (--unknown puts it away too)", NOTE)
    _owners_of_files(plan, survey, accounts)
    return plan


def _odd(plan: Plan, survey: "Survey") -> list[bytes]:
    """What has a message's name and is no file. It may say who waits for the message, so with the message it stays;
    returned is what no message needs.
    """
    alone: list[bytes] = []
    for number, paths in sorted(survey.odd.items()):
        if number in survey.files or number in survey.staged:
            plan.messages += 1
            for path in paths:
                plan.find(path, f"is no plain file, and message {number} may need it", _PERSON, HOPELESS)
        else:
            alone += paths
    return alone


_PUT_AWAY = "to be put into lost+found"
_PERSON = "a person has to look at it"


def _structure(plan: Plan, survey: "Survey", target: "Target", accounts: "Accounts") -> None:
    """Directories, and the files of every queue."""
    ledger = LEDGER in survey.aspects
    for path, role, mode in target.directories(ledger=ledger):
        _place(plan, path, survey.aspects.get(path), DIRECTORY, plan.directories)
        _owner(plan, path, survey.aspects.get(path), accounts, role, mode, DIRECTORY)
    for path, role, mode in target.fixtures(ledger=ledger):
        aspect = survey.aspects.get(path)
        sort = FIFO if path == TRIGGER else FILE
        _place(plan, path, aspect, sort, plan.fixtures)
        if path == TCPTO and aspect is not None and aspect.sort == FILE and aspect.size != TCPTO_BYTES:
            plan.find(
                path, f"has {aspect.size} bytes and not {TCPTO_BYTES}", "to be made anew (it is a memory of time-outs)"
            )
            plan.put_away_first.append(path)
            plan.fixtures.append(path)
        _owner(plan, path, aspect, accounts, role, mode, sort)
    for path, aspect in survey.aspects.items():
        kind, _, name = path.partition(b"/")
        if kind in KINDS and number_of(name) is not None and aspect.sort == DIRECTORY and not target.has_part(path):
            plan.find(path, f"is no directory of a queue {target}", "to be removed when it is empty")
            plan.remove_directories.append(path)


def _file_systems(plan: Plan, survey: "Survey") -> None:
    """A message comes in by second names of files in pid; in todo also by those of files in intd."""
    devices = {path: aspect.device for path, aspect in survey.aspects.items() if aspect.sort == DIRECTORY}
    pid = devices.get(b"pid")
    if pid is None:
        return
    apart = [path for path, device in devices.items() if path.startswith(b"mess/") and device != pid]
    if b"todo" in devices and devices[b"todo"] not in (pid, devices.get(b"intd")):
        apart.append(b"todo")
    if apart:
        what = "is on another file system than pid: qmail-queue cannot put a message there"
        plan.find(apart[0], what, "stays", NOTE)


def _place(plan: Plan, path: bytes, aspect: "Aspect | None", sort: str, missing: list[bytes]) -> None:
    """What every queue needs must be there, and be what it should."""
    if aspect is None:
        plan.find(path or b".", f"is missing (a {sort})", "to be made")
        missing.append(path)
    elif aspect.sort != sort:
        if aspect.sort == DIRECTORY:
            plan.find(path, f"is a directory and should be a {sort}", _PERSON, HOPELESS)
            return
        plan.find(path, f"is a {aspect.sort} and should be a {sort}", f"{_PUT_AWAY}, and a {sort} made")
        plan.put_away_first.append(path)
        missing.append(path)


def _owner(
    plan: Plan, path: bytes, aspect: "Aspect | None", accounts: "Accounts", role: str, mode: int, sort: str
) -> None:
    """Also for what is missing: what is made gets its owner here."""
    uid, gid = owner_of(accounts, role)
    if path.split(b"/", 1)[0] in (*KINDS, b"pid") and sort == FILE:
        gid = None  # a setuid qmail-queue gives its files whatever group the caller has
    if aspect is not None and aspect.sort == sort:
        wrong = _what_is_wrong(aspect, uid, gid, mode)
        if not wrong:
            return
        plan.find(path or b".", wrong, f"to be {_shown(uid, gid, mode)}")
    plan.owners.append((path, uid, gid, mode))


def _what_is_wrong(aspect: "Aspect", uid: int, gid: int | None, mode: int) -> str:
    if aspect.uid == uid and gid in (None, aspect.gid) and aspect.mode == mode:
        return ""
    return f"is {_shown(aspect.uid, aspect.gid if gid is not None else None, aspect.mode)}"


def _shown(uid: int, gid: int | None, mode: int) -> str:
    return f"uid {uid}, " + (f"gid {gid}, " if gid is not None else "") + f"mode {mode:04o}"


def _owners_of_files(plan: Plan, survey: "Survey", accounts: "Accounts") -> None:
    leaving = {*plan.put_away, *plan.drop}
    for files in (*survey.files.values(), *survey.staged.values()):
        for one in files:
            if one.path in leaving:
                continue
            role, mode = file_owner(one.kind)
            _owner(plan, one.path, one.aspect, accounts, role, mode, FILE)


class _Message:
    """All files of one number."""

    def __init__(self, plan: Plan, target: "Target", number: int, survey: "Survey", now_s: int) -> None:
        self._plan, self._target, self._number, self._now_s = plan, target, number, now_s
        self._aspects = survey.aspects
        self._files: dict[bytes, Found] = {}
        for kind in KINDS:
            self._choose(kind, [one for one in survey.files[number] if one.kind == kind])

    def _choose(self, kind: bytes, files: "list[Found]") -> None:
        """One file of each kind: the one that has the number (a message), the one in its place, the first."""
        if not files:
            return
        right = self._target.path(kind, self._number)
        is_mess = kind == b"mess"
        first = min(files, key=lambda one: (is_mess and one.aspect.inode != self._number, one.path != right, one.path))
        self._files[kind] = first
        for one in files:
            if one is first:
                continue
            if one.aspect.identity == first.aspect.identity:
                self._plan.find(one.path, f"is another name of {as_text(first.path)}", "to be removed")
                self._plan.drop.append(one.path)
            else:
                self._put_away(one, f"the message has {as_text(first.path)} already")

    def _put_away(self, one: "Found", why: str) -> None:
        self._plan.find(one.path, why, _PUT_AWAY)
        self._plan.put_away.append(one.path)
        if self._files.get(one.kind) is one:
            del self._files[one.kind]

    def judge(self, claimed: set[int]) -> None:
        """Adds what is to be done; `claimed` are the numbers that are given, to which ours is added."""
        mess = self._files.get(b"mess")
        if mess is None:
            for one in list(self._files.values()):
                self._put_away(one, "there is no message file of this number")
            return
        new = mess.aspect.inode
        if new != self._number and new in claimed:
            for one in list(self._files.values()):
                self._put_away(one, f"its message file is that of message {new} too")
            return
        if not self._judge_state(mess):
            return
        self._plan.messages += 1
        for one in self._files.values():
            if one.fault:
                self._plan.find(one.path, one.fault, _PERSON, HOPELESS)
        if new != self._number:
            claimed.add(new)
            self._renumber(mess, new)
        else:
            self._move()

    def _judge_state(self, mess: "Found") -> bool:
        """Whether the message stays; takes away what is not of its state."""
        files = self._files
        if b"todo" in files:  # S4
            for kind in (b"info", b"local", b"remote", b"bounce"):
                if kind in files:
                    self._plan.find(files[kind].path, "half settled: qmail-send will do it over", _PUT_AWAY, NOTE)
                    self._plan.put_away.append(files.pop(kind).path)
            return True
        if b"info" in files:  # S5
            if b"intd" in files:
                self._put_away(files[b"intd"], "the message is preprocessed: this is left over")
            if b"local" not in files and b"remote" not in files:
                self._plan.find(
                    files[b"info"].path, "nobody waits for the message any more: qmail-send will end it", "stays", NOTE
                )
            return True
        if self._now_s - mess.aspect.accessed_s < CLEANUP_AGE_S:
            return True  # S2, S3: perhaps it is being written
        why = "neither todo nor info say who it is for, and nobody has touched it for 36 hours"
        for one in list(files.values()):
            self._put_away(one, why)
        return False

    def _renumber(self, mess: "Found", new: int) -> None:
        self._plan.find(
            mess.path, f"its inode number is {new}: copied or restored", f"message {self._number} becomes message {new}"
        )
        self._plan.renumber.append((self._number, [(kind, one.path) for kind, one in self._files.items()]))

    def _move(self) -> None:
        steps = []
        for kind, one in self._files.items():
            right = self._target.path(kind, self._number)
            if one.path != right and right in self._aspects:
                self._plan.find(one.path, f"belongs to {as_text(right)}, which is a directory", _PERSON, HOPELESS)
            elif one.path != right:
                self._plan.find(one.path, "is in the wrong place", f"to be {as_text(right)}")
                steps.append((kind, one.path, right))
        if steps:
            self._plan.move.append(steps)


def as_text(path: bytes) -> str:
    """A path as it can be printed."""
    return path.decode("ascii", "backslashreplace")


def by_what(findings: "Iterable[Finding]") -> list[list[Finding]]:
    """Findings of one sort together, wherever they are, numbers in the words left aside: for a person to read."""
    found: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        what = "".join(["#" if letter.isdigit() else letter for letter in finding.what])
        found.setdefault((finding.weight, what), []).append(finding)
    return list(found.values())
