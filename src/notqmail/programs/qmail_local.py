"""qmail-local(8): message on fd 0, eight arguments, the report on fd 1 and 2; the exit code is the answer."""

import os
import sys

from notqmail.deliver import local
from notqmail.unix.clock import Clock
from notqmail.unix.durable import Disk
from notqmail.unix.home import home_directory
from notqmail.unix.mains import PERMANENT, TEMPORARY, run
from notqmail.unix.processes import write_all


def main() -> int:
    """Delivers, or with -n says what it would do."""
    os.umask(0o077)
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if words == [b"--help"]:
        write_all(1, local.USAGE + b"\n")
        return 0
    options = take_flags(words, b"nN")
    if options is None or len(words) != 8:
        write_all(2, local.USAGE + b"\n")
        return PERMANENT
    dry_run = options[-1:] == b"n"
    try:
        plan = local.resolve(local.Request(*words), 0, dry_run=dry_run)
        if plan.warning:
            write_all(2, plan.warning + b"\n")
        if dry_run:
            text, failure = local.describe(plan)
            write_all(1, text)
            if failure:
                raise local.Stopped(TEMPORARY, failure)
        else:
            tools = local.Tools(home_directory(os.environb), os.environb, Disk(), Clock())
            write_all(1, local.perform(plan, tools))
    except local.Stopped as stopped:
        if stopped.text:
            write_all(2, stopped.text + b"\n")
        return stopped.code
    return 0


def take_flags(words: list[bytes], known: bytes) -> bytes | None:
    """Removes the leading flags from `words` and returns their letters; None (and a line on fd 2) for an unknown.

    `--` ends them and goes; a lone `-` ends them and stays.
    """
    letters = b""
    while words and words[0][:1] == b"-" and words[0] != b"-":
        word = words.pop(0)
        if word == b"--":
            break
        for letter in word[1:]:
            if letter not in known:
                write_all(2, b"qmail-local: illegal option -- %c\n" % letter)
                return None
        letters += word[1:]
    return letters


def start() -> None:
    """Entry of the launcher."""
    run(main)


if __name__ == "__main__":
    start()
