"""sendmail(8), mailq and newaliases: for software that knows no other way to send mail."""

import os
import sys

from notqmail.receive.sendmail import INJECT, USAGE, Command, Refused, sendmail_command
from notqmail.unix.home import home_directory
from notqmail.unix.launchers import is_ours
from notqmail.unix.mains import TEMPORARY, run
from notqmail.unix.processes import write_all


def main() -> int:
    """Chooses the program for the command line and becomes it; the message stays on descriptor 0."""
    name, *words = [os.fsencode(word) for word in sys.argv]
    if words == [b"--help"]:
        sys.stdout.write(USAGE)
        return 0
    try:
        try:
            os.chdir(home_directory(os.environb))
        except OSError:
            raise Refused(b"fatal: unable to switch to qmail home directory\n", TEMPORARY) from None
        return _become(sendmail_command(os.path.basename(name), words, os.environb))
    except Refused as refused:
        try:
            write_all(2, b"sendmail: " + refused.text)
        except OSError:
            pass  # nobody listens: the exit code still tells
        return refused.code


def _become(command: Command) -> int:
    if command.program == INJECT and is_ours(INJECT):
        # The same code without a second start of the interpreter, which costs more than the submission.
        from notqmail.programs.qmail_inject import submit

        return submit(command.arguments, command.environ)
    try:
        os.execve(command.program, [command.program, *command.arguments], command.environ)
    except OSError:
        short = os.path.basename(command.program)
        raise Refused(b"fatal: unable to run " + short + b"\n", TEMPORARY) from None


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
