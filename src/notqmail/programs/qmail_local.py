"""qmail-local(8): message on fd 0, eight arguments, the report on fd 1 and 2; the exit code is the answer."""

import os
import sys

from notqmail.deliver.local import Tools, perform
from notqmail.deliver.local_plan import MISUSE, USAGE, Request, Stopped, describe, resolve
from notqmail.unix.clock import Clock
from notqmail.unix.durable import Disk
from notqmail.unix.home import home_directory
from notqmail.unix.mains import PERMANENT, TEMPORARY, complain, run
from notqmail.unix.options import BadOption, Options
from notqmail.unix.processes import write_all


def main() -> int:
    """Delivers, or with -n says what it would do."""
    os.umask(0o077)
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if words == [b"--help"]:
        sys.stdout.write(USAGE)
        return 0
    options = Options(words, flags=b"nN")
    dry_run = False
    try:
        for letter, _ in options:
            dry_run = letter == b"n"
        if len(options.rest) != 8:
            raise Stopped(PERMANENT, MISUSE)
        plan = resolve(Request(*options.rest), 0, dry_run=dry_run)
        if plan.warning:
            write_all(2, plan.warning + b"\n")
        if dry_run:
            text, failure = describe(plan)
            write_all(1, text)
            if failure:
                raise Stopped(TEMPORARY, failure)
        else:
            tools = Tools(home_directory(os.environb), os.environb, Disk(), Clock())
            write_all(1, perform(plan, tools))
    except BadOption as bad:
        complain(f"qmail-local: {bad}")
        write_all(2, MISUSE + b"\n")
        return PERMANENT
    except Stopped as stopped:
        if stopped.text:
            write_all(2, stopped.text + b"\n")
        return stopped.code
    return 0


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
