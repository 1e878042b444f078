"""qmail-pw2u(8): makes users/assign of the password file; reads it on descriptor 0, prints on 1."""

import os
import sys

from notqmail.control.mail_users import ANY_HOME, SKIP_MISSING, STOP_AT_MISSING, Assignments, Rules, Unusable
from notqmail.unix.home import home_directory
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import PERMANENT, TEMPORARY, run
from notqmail.unix.options import BadOption, Options
from notqmail.unix.processes import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "usage: qmail-pw2u [ -/ohHuUC ] [ -c char ]    password file on descriptor 0, lines for users/assign on 1\n"
READ_SIZE = 65_536


def main() -> int:
    """Prints everything or, when there is a complaint, nothing."""
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if words == [b"--help"]:
        sys.stdout.write(USAGE)
        return 0
    try:
        rules = rules_of(words)
        text = assignments(rules)
        try:
            write_all(1, text)
        except OSError:
            raise Leaving(TEMPORARY, _fatal(b"unable to write output")) from None
    except Unusable as unusable:
        return Leaving(TEMPORARY, _fatal(unusable.text)).told()
    except Leaving as leaving:
        return leaving.told()
    return 0


def rules_of(words: "Sequence[bytes]") -> Rules:
    """The options. Raises Leaving."""
    rules = Rules()
    try:
        for letter, value in Options(words, flags=b"/ohHuUC", valued=b"c"):
            if letter in (SKIP_MISSING, STOP_AT_MISSING, ANY_HOME):
                rules.homes = letter
            elif letter in b"uU":
                rules.capitals = letter == b"u"
            elif letter == b"/":
                rules.dash = b"-/"
            else:
                rules.break_char = value[:1]
    except BadOption as bad:
        raise Leaving(PERMANENT, b"qmail-pw2u: " + str(bad).encode("latin-1")) from None
    return rules


def assignments(rules: Rules) -> bytes:
    """The whole of the new users/assign. Raises Leaving, Unusable."""
    try:
        os.chdir(home_directory(os.environb))
    except OSError:
        raise Leaving(TEMPORARY, _fatal(b"unable to chdir")) from None
    rules.read(_users_file)
    made = Assignments(rules, _owner)
    lines = list(made.accounts(_standard_input().split(b"\n")))
    lines += made.sub_users((_users_file("subusers") or b"").split(b"\n"))
    appended = _users_file("append") or b""
    lines += [appended, b"" if appended.endswith(b"\n") or not appended else b"\n", b".\n"]
    return b"".join(lines)


def _fatal(text: bytes) -> bytes:
    return b"qmail-pw2u: fatal: " + text


def _users_file(name: str) -> bytes | None:
    try:
        with open("users/" + name, "rb", buffering=0) as file:
            return file.readall()
    except FileNotFoundError:
        return None
    except OSError:
        raise Leaving(TEMPORARY, _fatal(b"unable to read controls")) from None


def _standard_input() -> bytes:
    pieces = []
    try:
        while piece := os.read(0, READ_SIZE):
            pieces.append(piece)
    except OSError:
        raise Leaving(TEMPORARY, _fatal(b"unable to read input")) from None
    return b"".join(pieces)


def _owner(directory: bytes) -> int | None:
    try:
        return os.stat(directory).st_uid
    except FileNotFoundError:
        return None
    except OSError:
        raise Unusable(b"unable to stat " + directory) from None


def start() -> None:
    """What the launcher in HOME/bin calls."""
    run(main)


if __name__ == "__main__":
    start()
