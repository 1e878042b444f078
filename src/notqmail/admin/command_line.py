"""What the subcommands of notqmail(8) have in common: which home is meant, paths as they are typed, counts in words."""

import argparse
import os

OWN_HOME, CLASSIC_HOME = "./var", "/var/qmail"


class Refused(Exception):
    """It cannot be done so; str() says why and what to do."""


def default_home(otherwise: str = OWN_HOME) -> str:
    """The home where none is given: $QMAILHOME, without it `otherwise`."""
    return os.environ.get("QMAILHOME") or otherwise


def add_home(parser: argparse.ArgumentParser, otherwise: str = OWN_HOME) -> None:
    """HOME as the last word of a command line."""
    parser.add_argument(
        "home", nargs="?", type=a_path, default=default_home(otherwise), metavar="HOME", help="(%(default)s)"
    )


def a_path(text: str) -> str:
    """For argparse: a path; "" would be the current directory, and nobody means that."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path")
    return text


def absolute(path: str) -> bytes:
    """As the programs get it."""
    return os.path.abspath(os.fsencode(path))


def counted(count: int, one: str, many: str = "") -> str:
    """A count and its noun: "1 message", "2 messages"; `many` where that is not `one` with an s."""
    return f"{count} {noun(count, one, many)}"


def noun(count: int, one: str, many: str = "") -> str:
    """The same without the count."""
    return one if count == 1 else many or one + "s"
