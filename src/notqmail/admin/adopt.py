"""`notqmail adopt`: looks at a C installation, says file by file what would become of it, makes it ours, hands it back.

Without --apply and --undo nothing is changed. What is looked at, and what each group of the report means, is said in
adopt_report.py; the steps in adopt_steps.py.
"""

import argparse
import os
import sys
from collections.abc import Callable

from notqmail.admin.adopt_break import CannotTell, break_of_home
from notqmail.admin.adopt_control import look_at_control
from notqmail.admin.adopt_dotqmail import look_at_aliases, look_at_homes
from notqmail.admin.adopt_programs import DASH, Bin, look_at_bin
from notqmail.admin.adopt_queue import look_at_queue, why_c_could_not
from notqmail.admin.adopt_report import DIFFERS, NO_HOME, SAME, TROUBLE, UNKNOWN, YOURS, Report, as_json, as_text, shown
from notqmail.admin.adopt_services import look_around, look_at_users
from notqmail.admin.adopt_steps import NOTES, BadNotes, Steps, plan
from notqmail.admin.command_line import CLASSIC_HOME, a_path, absolute, add_home
from notqmail.admin.launchers import (
    KEPT_SUFFIX,
    closed_to_others,
    code_directories,
    program_names,
    writable_by_others,
)
from notqmail.admin.new_home import SOCKET_PATH_MAX
from notqmail.admin.queue_guard import Guard, InUse
from notqmail.admin.queue_survey import survey
from notqmail.admin.queue_tree import QueueTree
from notqmail.queue.layout import queue_directory
from notqmail.unix.accounts import is_single_user
from notqmail.unix.clock import Clock

DONE, REFUSED = 0, 1
_NEEDED = (b"bin", b"control", b"queue", b"queue/mess", b"queue/lock/sendmutex")
_REASONS_SHOWN_MAX = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `notqmail adopt`."""
    add_home(parser, CLASSIC_HOME)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--apply", action="store_true", help="do it; qmail-send must not be running")
    what.add_argument("--undo", action="store_true", help="hand it back as it was")
    what.add_argument("--json", action="store_true", help="the report for a program")
    names = program_names()
    parser.add_argument(
        "--take",
        action="append",
        default=[],
        choices=names,
        metavar="PROGRAM",
        help="put ours in the place of a patched one too",
    )
    parser.add_argument(
        "--leave", action="append", default=[], choices=names, metavar="PROGRAM", help="leave this one of C's"
    )  # fmt: skip
    parser.add_argument(
        "--root", type=a_path, default="/", metavar="DIRECTORY",
        help="where etc/ and service/ are looked for (%(default)s)",
    )  # fmt: skip
    parser.set_defaults(command=command)


def command(options: argparse.Namespace) -> int:
    """Runs it; returns the exit code of notqmail(8)."""
    home = absolute(options.home)
    missing = [name for name in _NEEDED if not _is_there(os.path.join(home, name))]
    if missing:
        print(f"notqmail: {options.home} is no qmail home: no {shown(missing[0])} in it", file=sys.stderr)
        return NO_HOME
    try:
        if options.undo:
            return _undo(home)
        found = Bin(home, take=options.take, leave=options.leave)
        report = look(home, found, os.fsencode(options.root), Clock(), _progress)
        if options.json:
            print(as_json(report))
            return report.exit_code
        print(as_text(report), end="", flush=True)
        return _apply(home, found, report) if options.apply else report.exit_code
    except InUse as error:
        print(f"notqmail: nothing was changed: {error}", file=sys.stderr)
        return REFUSED
    except BadNotes as error:
        print(f"notqmail: {error}", file=sys.stderr)
    except OSError as error:
        place = error.filename if isinstance(error.filename, str | bytes) else "the system"
        hint = " (root may)" if isinstance(error, PermissionError) and os.geteuid() else ""
        print(f"notqmail: {shown(place)}: {error.strerror or error}{hint}", file=sys.stderr)
    return TROUBLE


def _is_there(path: bytes) -> bool:
    """Also when we may not look."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _progress(text: str) -> None:
    """For a person who waits; not into anybody's pipe."""
    if sys.stderr.isatty():
        print(f"notqmail: {text}", file=sys.stderr, flush=True)


def look(home: bytes, found: Bin, root: bytes, clock: Clock, say: Callable[[str], object]) -> Report:
    """The whole report; changes nothing. What could not be looked at is in it. `say` hears how far it is. Raises
    OSError.
    """
    report = Report(home)
    report.kind = found.kind()
    if os.path.islink(home):
        report.add(DIFFERS, "home", ".", f"is a symbolic link to {shown(os.readlink(home))}: followed")
    _look_at_break(report, home, found)
    looks: tuple[tuple[str, Callable[[], None]], ...] = (
        ("control", lambda: look_at_control(report, home, found.named_by())),
        ("bin", lambda: look_at_bin(report, found)),
        ("queue", lambda: look_at_queue(report, home, clock)),
        ("users", lambda: look_at_users(report, home)),
        ("alias", lambda: look_at_aliases(report, home)),
        ("homes", lambda: look_at_homes(report, home, clock, say)),
        ("start", lambda: look_around(report, home, root, is_old=found.is_old)),
    )
    for place, looking in looks:
        try:
            looking()
        except OSError as error:
            report.unseen(place, error.filename if isinstance(error.filename, str | bytes) else ".", error)
    _look_at_ourselves(report, home)
    report.plan = plan(home, found)
    return report


def _look_at_break(report: Report, home: bytes, found: Bin) -> None:
    """Asks for it before the programs are looked at: which of them stay hangs on it."""
    try:
        character = break_of_home(home, found)
    except CannotTell as error:
        text = f"cannot be seen ({error}): what parts user and extension; ours is {DASH.decode()}: see qmail-showctl"
        report.add(UNKNOWN, "bin", "conf-break", text)
        return
    if character is not None:
        found.heed_break(character)
        if character == DASH:
            report.add(SAME, "bin", "conf-break", "-, as ours")


def _look_at_ourselves(report: Report, home: bytes) -> None:
    """Whether this package is where the home's programs can use it."""
    if len(home + b"/run/qmail-queue") > SOCKET_PATH_MAX:
        report.add(YOURS, "home", ".", "is too long a path for a Unix socket in it", blocks=True)
    if is_single_user(home):
        return
    for directory in code_directories():
        if writable_by_others(directory):
            report.add(
                YOURS, "package", directory, "can be written by others than root, and root will run what is in it"
            )
    for path in (os.path.realpath(sys.executable), *code_directories()):
        if closed_to_others(path):
            text = "cannot be reached by the qmail accounts: install the package (and Python) where they can"
            report.add(YOURS, "package", path, text, blocks=True)


def _apply(home: bytes, found: Bin, report: Report) -> int:
    if report.blocking:
        return REFUSED
    if not report.is_whole:
        print("notqmail: nothing was changed, for not everything could be looked at", file=sys.stderr)
        return TROUBLE
    guard = Guard(home)  # held, so that nobody starts it while its programs change
    try:
        print("\nas said:")
        Steps(home, lambda text: print(f"  {text}", flush=True)).apply(found)
    finally:
        guard.release()
    print(f"{shown(home)} is ours. Start it as you always do; `notqmail adopt --undo {shown(home)}` hands it back.")
    return DONE


def _undo(home: bytes) -> int:
    guard = Guard(home)
    try:
        reasons = _why_not_back(home)
        if reasons:
            print("notqmail: nothing was changed:", *reasons[:_REASONS_SHOWN_MAX], sep="\n  ", file=sys.stderr)
            return REFUSED
        left = Steps(home, lambda text: print(text, flush=True)).undo()
    finally:
        guard.release()
    if left:
        print("notqmail: the rest is handed back, but", *left, sep="\n  ", file=sys.stderr)
        return REFUSED
    print(f"{shown(home)} is C's again. Start it as you always do.")
    return DONE


def _why_not_back(home: bytes) -> list[str]:
    names = os.listdir(os.path.join(home, b"bin"))
    if not any(name.endswith(KEPT_SUFFIX) for name in names) and not os.path.lexists(os.path.join(home, NOTES)):
        return ["there is nothing to hand back: this home was not adopted"]
    return why_c_could_not(survey(QueueTree(queue_directory(home))))
