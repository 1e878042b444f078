"""Which face a program with `--listen` shows: one client on descriptors 0 and 1, or a resident."""

import os

from notqmail.unix.clock import Clock
from notqmail.unix.home import home_directory
from notqmail.unix.mains import PERMANENT, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from notqmail.receive.listen_options import ListenOptions

    Environ = Mapping[bytes, bytes]

LISTEN_USAGE = """usage: {0}    one client on descriptors 0 and 1
       {0} --listen ADDRESS:PORT [--listen ...] [--rules FILE.cdb] [--limit N]
                   [--limit-per-address N] [--backlog N] [--memory MB] [--user NAME]
"""


def show(
    name: str, arguments: list[str], *, once: "Callable[[bytes, Environ, Clock], int]",
    listen: "Callable[[bytes, Environ, Clock, ListenOptions], int]",
) -> int:  # fmt: skip
    """Becomes the one or the other; returns the exit code.

    Arguments that do not begin with `--` are ignored, as they always were (AUTH patches to qmail-smtpd take some).
    """
    home, clock = home_directory(os.environb), Clock()
    if not arguments or not arguments[0].startswith("--"):
        return once(home, os.environb, clock)
    from notqmail.receive.listen_options import BadOptions, listen_options

    try:
        options = listen_options(arguments)
    except BadOptions as error:
        complain(f"{name}: usage: {error}")
        return PERMANENT
    return listen(home, os.environb, clock, options)
