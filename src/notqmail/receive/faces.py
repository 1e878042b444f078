"""Which face a program with `--listen` shows: one client on descriptors 0 and 1, or a resident."""

from notqmail.unix.mains import PERMANENT, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from notqmail.receive.listen_options import ListenOptions

LISTEN_USAGE = """usage: {0}    one client on descriptors 0 and 1
       {0} --listen ADDRESS:PORT [--listen ...] [--rules FILE.cdb] [--limit N]
                   [--limit-per-address N] [--backlog N] [--memory MB] [--user NAME]
"""


def choose(name: str, arguments: list[str], once: "Callable[[], int]", listen: "Callable[[ListenOptions], int]") -> int:
    """Arguments that do not begin with `--` are ignored, as they always were."""
    if not arguments or not arguments[0].startswith("--"):
        return once()
    from notqmail.receive.listen_options import BadOptions, listen_options

    try:
        options = listen_options(arguments)
    except BadOptions as error:
        complain(f"{name}: usage: {error}")
        return PERMANENT
    return listen(options)
