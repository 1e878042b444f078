"""Looking at the queue for `notqmail adopt`: its layout and owners, what waits in it, whether somebody works on it.

Ours and C share a queue as it lies, but for its layout: ours know notqmail's as it comes (queue/layout.py). Reads the
envelopes; writes nothing. Whether qmail-send runs is asked of its trigger, or of its lock without waiting.
"""

import fcntl
import os
import pwd

from notqmail.admin.adopt_report import DIFFERS, SAME, YOURS, shown
from notqmail.admin.command_line import counted
from notqmail.admin.queue_guard import is_running
from notqmail.admin.queue_plan import NOTE, make_plan
from notqmail.admin.queue_survey import Survey, survey
from notqmail.admin.queue_target import Target
from notqmail.admin.queue_tree import QueueTree
from notqmail.queue.layout import SENDMUTEX, SPLIT, TRIGGER, queue_directory
from notqmail.unix.accounts import USERS, MissingAccount, accounts_for, is_single_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.admin.adopt_report import Report
    from notqmail.unix.clock import Clock

STATES = (  # what a message has, what that means
    ("S2", "being written, or left by a writer that died"),
    ("S3", "envelope being written, or left by a writer that died"),
    ("S4", "accepted, not yet preprocessed"),
    ("S5", "waiting"),
)
_RUNNING = (
    "qmail-send is running: stop it as you always do (svc -d /service/qmail-send, systemctl stop qmail-send, TERM to"
    " the process); it finishes its deliveries first"
)
_REPAIR = ": stop mail, and `notqmail queue check --repair`"
_PERSON = (
    ": neither C nor ours can read it. Somebody has to look at it, and to mend it or move all files of this number out"
    " of the queue, before C's programs and ours can change places"
)
_SHOWN_MAX = 8


def state_counts(found: Survey) -> dict[str, int]:
    """How many messages are in each state of queue/layout.py."""
    counts = dict.fromkeys([name for name, _ in STATES], 0)
    for files in found.files.values():
        kinds = {one.kind for one in files}
        if b"mess" not in kinds:
            continue
        if b"todo" in kinds:
            counts["S4"] += 1
        elif b"info" in kinds:
            counts["S5"] += 1
        else:
            counts["S3" if b"intd" in kinds else "S2"] += 1
    return counts


def look_at_queue(report: "Report", home: bytes, clock: "Clock") -> None:
    """Adds the findings. Raises OSError when the queue cannot be read."""
    queue = queue_directory(home)
    if os.path.islink(queue):
        report.add(DIFFERS, "queue", ".", f"is a symbolic link to {shown(os.readlink(queue))}: followed")
    if is_running(home) or _mutex_is_held(queue):
        report.add(YOURS, "queue", "lock/sendmutex", _RUNNING, blocks=True)
    tree = QueueTree(queue)
    found = survey(tree)
    _look_at_layout(report, found)
    _look_at_contents(report, found)
    _look_at_accounts(report, home, queue)
    _look_at_faults(report, home, found, clock)


def _mutex_is_held(queue: bytes) -> bool:
    """Whether somebody holds qmail-send's lock, asked without waiting and with a lock that others can share. Only where
    there is no trigger to tell it: a qmail-send that starts in this very moment would find the lock taken.
    """
    if os.path.exists(os.path.join(queue, TRIGGER)):
        return False
    descriptor = os.open(os.path.join(queue, SENDMUTEX), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _look_at_layout(report: "Report", found: Survey) -> None:
    target = found.looks_like()
    if target == Target():
        report.add(SAME, "queue", ".", f"split by {SPLIT}, as ours has it")
        return
    report.add(
        YOURS, "queue", ".",
        f"is laid out otherwise than ours ({target}; ours: {Target()}): `notqmail queue split {SPLIT}` brings it into"
        " our layout when it is stopped; programs of the other layout cannot use it then",
        blocks=True,
    )  # fmt: skip


def _look_at_contents(report: "Report", found: Survey) -> None:
    counts = state_counts(found)
    for name, meaning in STATES:
        if counts[name]:
            report.add(
                SAME, "queue", f"{counted(counts[name], 'message')} in {name}", f"{meaning}: taken over as they lie"
            )
    if not any(counts.values()):
        report.add(SAME, "queue", "no messages", "nothing is waiting")
    bounces = sum(any(one.kind == b"bounce" for one in files) for files in found.files.values())
    if bounces:
        report.add(SAME, "queue", counted(bounces, "bounce"), "begun by qmail-send: ours goes on with them")
    if found.written:
        report.add(
            SAME, "queue", f"{counted(len(found.written), 'file')} under pid", "being written, or left by a dead writer"
        )


def _look_at_accounts(report: "Report", home: bytes, queue: bytes) -> None:
    if is_single_user(home):
        report.add(SAME, "queue", "owner", "is you: everything will run as you (single-user mode)")
        return
    try:
        accounts_for(home)
    except MissingAccount as error:
        report.add(
            YOURS, "queue", "accounts",
            f"{str(error).removeprefix('fatal: ')}: ours look accounts up by the names that qmail has",
            blocks=True,
        )  # fmt: skip
        return
    for path, role in ((b".", "queue"), (b"info", "send"), (b"lock/tcpto", "remote")):
        try:
            uid = os.stat(os.path.join(queue, path)).st_uid
        except FileNotFoundError:
            continue  # the layout's fault, and said there
        name = _account(uid)
        if name == USERS[role]:
            report.add(SAME, "queue", f"{shown(path)} of {name}", "the account that ours use")
        else:
            report.add(
                YOURS,
                "queue",
                path,
                f"belongs to {name}; ours look for {USERS[role]} (conf-users was changed)",
                blocks=True,
            )


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _look_at_faults(report: "Report", home: bytes, found: Survey, clock: "Clock") -> None:
    if report.blocking and found.looks_like() != Target():
        return  # every file would be in the wrong place
    try:
        accounts = accounts_for(home)
    except MissingAccount:
        return  # said already
    reasons = unreadable_for_c(found)
    for path, what in reasons[:_SHOWN_MAX]:
        report.add(YOURS, "queue", path, what, blocks=True)
    if len(reasons) > _SHOWN_MAX:
        rest = f"{len(reasons) - _SHOWN_MAX} more"
        report.add(YOURS, "queue", rest, "of such files: `notqmail queue check --all` names them", blocks=True)
    told = {path for path, _ in reasons}
    plan = make_plan(found, Target(), accounts, clock.now_s())
    faults = [one for one in plan.findings if one.weight != NOTE and one.path not in told]
    for one in faults[:_SHOWN_MAX]:
        report.add(YOURS, "queue", one.path or b".", f"{one.what} (`notqmail queue check --repair` mends a queue)")
    if len(faults) > _SHOWN_MAX:
        report.add(YOURS, "queue", f"{len(faults) - _SHOWN_MAX} more", "wrong in the queue: `notqmail queue check`")


def why_c_could_not(found: Survey) -> list[str]:
    """What in a queue C's programs could not use, for handing it back; a sentence for each thing. `adopt --apply` is
    refused for the same things.
    """
    reasons = []
    if found.looks_like() != Target():
        reasons.append(f"the queue is now {found.looks_like()}: `notqmail queue split {SPLIT}` brings it back")
    return reasons + [f"{shown(path)}: {what}" for path, what in unreadable_for_c(found)]


def unreadable_for_c(found: Survey) -> list[tuple[bytes, str]]:
    """The files that stand in the way of going to and fro: path, and what is wrong and what to do."""
    reasons = []
    if found.staged:
        reasons.append((b"mess", f"a repair of the queue was interrupted{_REPAIR}"))
    for number, files in sorted(found.files.items()):
        will_be_done_over = any(one.kind == b"todo" for one in files)  # whatever else is there, by either qmail-send
        for one in files:
            if one.fault and (one.kind == b"todo" or not will_be_done_over):
                reasons.append((one.path, f"{one.fault}{_PERSON}"))
            if one.kind == b"mess" and one.aspect.inode != number:
                reasons.append((one.path, f"its inode number is {one.aspect.inode}{_REPAIR}"))
    return reasons
