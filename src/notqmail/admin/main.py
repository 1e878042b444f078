"""The `notqmail` command: for people, not for programs. notqmail(8).

notqmail init [HOME]               make a home, or complete one
notqmail run                       the whole mail system in the foreground
notqmail ledger [HOME]             what was accepted, and what became of it
notqmail queue [check|split ...]   what waits; what is wrong in a queue, and its repair
notqmail adopt [HOME]              what would become of a C installation; makes it ours, hands it back
notqmail launcher PROGRAM PATH     one of our programs, for an installation of another kind
"""

import argparse
import os
import sys

from notqmail import __version__
from notqmail.admin import adopt, launchers, ledger, new_home, queue_command, run_command
from notqmail.admin.command_line import CLASSIC_HOME, Refused, a_path, absolute, add_home, default_home
from notqmail.admin.queue_tree import QueueTree
from notqmail.admin.settings import DEFAULT_HOST
from notqmail.unix.accounts import MissingAccount, is_single_user

FAILED = 1


def run() -> None:
    """The entry point: leaves with the exit code."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Runs one subcommand: 0 done, 1 could not (a line on descriptor 2 says why), 2 bad usage."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (new_home.CannotMake, run_command.CannotRun, ledger.NoLedger, MissingAccount, Refused) as refusal:
        _complain(str(refusal))
    except launchers.Foreign as foreign:
        _complain(f"{foreign} is not a launcher of ours; --replace keeps it as {foreign}.before-python")
    except OSError as error:
        place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "the system"
        _complain(f"{place}: {error.strerror or error}")
    return FAILED


def _complain(text: str) -> None:
    print(f"notqmail: {text}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="notqmail", description="Set up and run notqmail in Python.")
    parser.add_argument("--version", action="version", version=f"notqmail {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    init = commands.add_parser("init", help="make a home, or complete one; overwrites no setting and no mail")
    add_home(init)
    init.add_argument(
        "--host",
        help=f"this machine's name, for the control files that are not there yet ({os.fsdecode(DEFAULT_HOST)})",
    )  # fmt: skip
    init.add_argument("--accounts", action="store_true", help="as root: use the classic qmail accounts")
    init.set_defaults(command=_init)

    running = commands.add_parser("run", help="run the whole mail system here, as you, until Ctrl-C")
    running.add_argument("--home", type=a_path, default=default_home(), help="made when missing (%(default)s)")
    running.add_argument(
        "--smtp", default="127.0.0.1:2525", metavar="ADDRESS:PORT", help="where to take mail in (%(default)s)"
    )
    running.add_argument("--no-first-message", action="store_true", help="do not send yourself a message at the start")
    running.set_defaults(command=_run)

    books = commands.add_parser(
        "ledger", help="what was accepted, and what became of it; exit 1 when it does not balance"
    )
    add_home(books)
    books.set_defaults(command=_ledger)

    queue_command.add_parser(commands)

    adoption = commands.add_parser(
        "adopt", help="look at a C installation: what would become of it; --apply makes it ours, --undo hands it back"
    )
    adopt.add_arguments(adoption)

    launcher = commands.add_parser("launcher", help="write the launcher of one program")
    launcher.add_argument(
        "program", choices=launchers.program_names(), metavar="PROGRAM", help="which of ours, such as qmail-remote"
    )
    launcher.add_argument(
        "path", type=a_path, metavar="PATH", help="the file to write, such as /var/qmail/bin/qmail-remote"
    )
    launcher.add_argument(
        "--home", type=a_path, default=default_home(CLASSIC_HOME), help="the home it is to use (%(default)s)"
    )
    launcher.add_argument("--replace", action="store_true", help="keep a foreign PATH as PATH.before-python")
    launcher.add_argument("--force", action="store_true", help="also where the qmail accounts cannot run it")
    launcher.set_defaults(command=_launcher)
    return parser


def _init(options: argparse.Namespace) -> int:
    home = absolute(options.home)
    host = None if options.host is None else os.fsencode(options.host)
    for notice in new_home.make_home(home, host=host, classic=options.accounts):
        print(f"note: {notice}")
    print(f"{os.fsdecode(home)} is ready: {' '.join(launchers.program_names())}")
    return 0


def _run(options: argparse.Namespace) -> int:
    home = absolute(options.home)
    address = run_command.parse_address(options.smtp)
    if new_home.is_foreign_queue(home):
        raise run_command.CannotRun(
            f"the queue in {os.fsdecode(home)} belongs to another user: "
            "a classic home is started by its service manager (see packaging/)"
        )
    if not os.path.isdir(os.path.join(home, b"queue")):
        run_command.look_port_is_free(address)  # before a home is made that nobody can use yet
    for notice in new_home.make_home(home, host=None, classic=False):
        print(f"note: {notice}", flush=True)
    return run_command.run_home(home, address, os.environb, prove=not options.no_first_message)


def _ledger(options: argparse.Namespace) -> int:
    totals = ledger.steady_look(absolute(options.home))
    print(ledger.as_text(totals))
    return FAILED if totals.faults else 0


def _launcher(options: argparse.Namespace) -> int:
    home, path = absolute(options.home), absolute(options.path)
    if not is_single_user(home):
        out_of_reach = new_home.reach_notices()
        if out_of_reach and new_home.is_foreign_queue(home) and not options.force:
            raise Refused(
                f"nothing was changed: {'; '.join(out_of_reach)}; install the package (and Python) where they can, or "
                f"insist with --force (for a program that root alone runs)"
            )
        for notice in new_home.code_notices():
            print(f"note: {notice}", flush=True)
    try:
        launchers.write_launcher(path, options.program, home, replace_foreign=options.replace)
        QueueTree().sync([os.path.dirname(path)])
    except OSError as error:
        what = f"{os.fsdecode(path)}: {error.strerror or error}"
        if isinstance(error, FileExistsError) and error.filename == path + launchers.KEPT_SUFFIX:
            what = f"{os.fsdecode(error.filename)}: {error.strerror}"
        raise Refused(f"{what} ({launchers.what_is_there(path)})") from None
    return 0
