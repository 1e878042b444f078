"""`notqmail queue`: the command lines around queue_show.py and queue_repair.py, what they print, their exit codes.

0: done, or the queue is sound. 1: it is not (or no more than before), or something could not be done. 2: usage.
3: not looked at, because somebody works on the queue.
"""

import argparse
import os
import pwd
import sys

from notqmail.admin import queue_show
from notqmail.admin.command_line import Refused, a_path, absolute, add_home, counted, default_home
from notqmail.admin.queue_guard import Guard, InUse, is_running
from notqmail.admin.queue_plan import HOPELESS, NOTE, Finding, Plan, as_text, by_what
from notqmail.admin.queue_repair import Repair
from notqmail.admin.queue_survey import survey
from notqmail.admin.queue_target import SPLIT_MAX, Target
from notqmail.admin.queue_tree import QueueTree
from notqmail.queue.layout import SPLIT, queue_directory
from notqmail.unix.accounts import GROUPS, USERS, Accounts, accounts_for, is_single_user
from notqmail.unix.clock import Clock
from notqmail.unix.durable import Disk

SOUND, UNSOUND, IN_USE = 0, 1, 3
SHOWN_OF_A_SORT = 10


class Progress:
    """A line a second on a terminal, nothing elsewhere."""

    def __init__(self, clock: Clock, what: str) -> None:
        self._clock, self._what, self._count, self._next_s = clock, what, 0, clock.steady_s() + 1
        self._shows = sys.stderr.isatty()

    def __call__(self) -> None:
        """One more."""
        self._count += 1
        if self._shows and self._count % 64 == 0 and self._clock.steady_s() >= self._next_s:
            self._next_s = self._clock.steady_s() + 1
            print(f"notqmail: {self._what}: {self._count}", file=sys.stderr)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `queue` and what it can do."""
    queue = commands.add_parser("queue", help="what waits in the queue; check, repair or move a queue that is stopped")
    queue.set_defaults(command=_show, home=default_home())
    verbs = queue.add_subparsers(metavar="VERB")

    show = verbs.add_parser("show", help="what waits: how much, since when, for which hosts (also without a verb)")
    add_home(show)
    show.set_defaults(command=_show)

    check = verbs.add_parser(
        "check", help="what is wrong in a queue that is stopped; exit 0 sound, 1 not, 3 somebody uses it"
    )
    check.add_argument("--repair", action="store_true", help="do what is proposed; without it nothing is changed")
    _add_repair_options(check)
    add_home(check)
    check.set_defaults(command=_check)

    split = verbs.add_parser(
        "split", help="move a queue that is stopped to another split number, for C programs, or back to ours"
    )
    split.add_argument("split", type=_split_number, metavar="N", help=f"the split; our programs know {SPLIT} alone")
    split.add_argument("--big-todo", action="store_true", help="split todo and intd as well, as the big-todo patch")
    split.add_argument("--dry-run", action="store_true", help="only say what would be done")
    _add_repair_options(split)
    split.add_argument("--home", type=a_path, default=default_home(), help="(%(default)s)")
    split.set_defaults(command=_split)


def _add_repair_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--unknown", action="store_true", help="put files away that nobody knows")
    parser.add_argument("--accounts", action="store_true", help="owners are to be the classic qmail accounts")
    parser.add_argument("--all", action="store_true", help=f"list every file, not {SHOWN_OF_A_SORT} of a sort")


def _split_number(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= SPLIT_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {SPLIT_MAX}")
    return int(text)


def _home(options: argparse.Namespace) -> bytes:
    """Raises Refused where there is no queue."""
    home = absolute(options.home)
    try:
        os.stat(queue_directory(home))
    except (FileNotFoundError, NotADirectoryError):
        shown = os.fsdecode(home)
        raise Refused(f"{shown} has no queue: `notqmail init {shown}` makes a home") from None
    return home


def _show(options: argparse.Namespace) -> int:
    home, clock = _home(options), Clock()
    running: bool | None
    try:
        running = is_running(home)
    except PermissionError:
        running = None
    disk = Disk(queue_directory(home))
    found = queue_show.summarize(disk, clock.now_s(), is_running=running is not False, seen=Progress(clock, "messages"))
    print(queue_show.as_text(found, clock.now_s(), is_running=running))
    return SOUND


def _check(options: argparse.Namespace) -> int:
    return _work(options, Target(), repair=options.repair)


def _split(options: argparse.Namespace) -> int:
    return _work(options, Target(options.split, big_todo=options.big_todo), repair=not options.dry_run)


def _work(options: argparse.Namespace, target: Target, *, repair: bool) -> int:
    home, clock = _home(options), Clock()
    accounts = _accounts(home, classic=options.accounts, repair=repair)
    try:
        guard = Guard(home)
    except InUse as refusal:
        print(f"notqmail: {refusal}", file=sys.stderr)
        return IN_USE
    try:
        tree = QueueTree(queue_directory(home))
        work = Repair(
            tree, target, accounts, clock.now_s(), with_strange=options.unknown, seen=Progress(clock, "files")
        )  # fmt: skip
        plan = work.look()
        present = survey(tree).looks_like()
        if present != target:
            print(f"note: this queue looks {present}; wanted is {target}")
        _print_findings(plan.findings, everything=options.all)
        if repair:
            return _do(work, target)
        is_move = options.command is _split and present != target
        return _say_what_would_be(plan, work.look(present) if is_move else plan)
    finally:
        guard.release()


def _accounts(home: bytes, *, classic: bool, repair: bool) -> Accounts:
    """Whose everything is to be. `classic`: also where a restored queue belongs to root.

    Raises MissingAccount, and Refused for a repair of another user's home: root would give files away below directories
    in which that user can put a link at any moment.
    """
    if classic:
        return accounts_for(os.path.join(home, b"no queue here"))
    if is_single_user(home):
        if _owner_of(home, b"alias") not in (None, os.geteuid()):
            print("note: the queue is the caller's but alias/ is not: was a classic queue restored? Then --accounts")
        return accounts_for(home)
    owner, sender = _owner_of(home, b"queue"), _owner_of(home, b"queue/info")
    if owner is None or owner == 0 or owner in _classic_uids():
        return accounts_for(home)
    if sender not in (None, owner):
        raise Refused(
            f"{os.fsdecode(home)}: the queue belongs to uid {owner} and queue/info to uid {sender}: that is neither one"
            " user's home nor one of the qmail accounts; --accounts says that it is to be theirs"
        )
    whose = f"{os.fsdecode(home)} is a single-user home of {_name(owner)}"
    if repair:
        raise Refused(
            f"{whose}: nothing was changed; run this as that user (was a classic queue restored as them? Then as root,"
            " with --accounts)"
        )
    print(f"note: {whose}: everything is to be theirs")
    return Accounts(True, dict.fromkeys(USERS, owner), dict.fromkeys(GROUPS, os.stat(queue_directory(home)).st_gid))


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _classic_uids() -> set[int]:
    """Of those qmail accounts that exist."""
    return {entry.pw_uid for entry in pwd.getpwall() if entry.pw_name in USERS.values()}


def _owner_of(home: bytes, path: bytes) -> int | None:
    try:
        return os.stat(os.path.join(home, path)).st_uid
    except OSError:
        return None


def _print_findings(findings: list[Finding], *, everything: bool) -> None:
    for group in by_what(findings):
        shown = group if everything else group[:SHOWN_OF_A_SORT]
        for finding in shown:
            prefix = "note: " if finding.weight == NOTE else ""
            print(f"{prefix}{as_text(finding.path) or '.'}: {finding.what}; {finding.remedy}")
        if len(group) > len(shown):
            print(f"... and {len(group) - len(shown)} more like the last (--all lists them)")


def _say_what_would_be(plan: Plan, before: Plan) -> int:
    """`before` tells what is wrong in the layout that the queue has: the rest of the plan is the move to another."""
    wrong = [finding for finding in before.findings if finding.weight != NOTE]
    known = {(finding.path, finding.what) for finding in wrong}
    steps = sum(finding.weight != NOTE and (finding.path, finding.what) not in known for finding in plan.findings)
    messages = counted(plan.messages, "message")
    move = (
        f"{counted(steps, 'step')} of the move. Nothing was changed." if plan is not before else "Nothing was changed."
    )
    if wrong:
        hopeless = sum(finding.weight == HOPELESS for finding in wrong)
        print(
            f"{messages}; {counted(len(wrong), 'fault')}, {hopeless} of them without a remedy"
            + ("; " if plan is not before else ". ")
            + move
        )
        return UNSOUND
    print(f"The queue is sound: {messages}" + (f"; {move}" if plan is not before else "."))
    return SOUND


def _do(work: Repair, target: Target) -> int:
    left = work.run()
    for old, new in work.lost:
        print(f"put away: queue/{as_text(old)} is now {as_text(new.removeprefix(b'../'))}")
    for trouble in work.trouble:
        print(f"could not: {trouble}")
    messages = counted(work.look().messages, "message")
    if left:
        print(f"{messages}; {counted(len(left), 'fault is', 'faults are')} left:")
        _print_findings(left, everything=False)
        return UNSOUND
    print(f"The queue is sound, {target}: {messages}.")
    if target != Target():
        print(f"Our own programs cannot use it so: `notqmail queue split {SPLIT}` brings it back.")
    return SOUND
