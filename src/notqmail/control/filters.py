"""Which filters a message goes through: words of a command line, lines of control files -> a chain. Pure.

A chain is a list of commands, a command a list of words. In a file each line is a filter, run in that order: words
between blanks, no quotes, no shell. `control/smtpfilters` has nothing else on a line (it is rejectutils' file, where a
line is one word). In `control/remotefilters` and `control/localfilters` a line may begin with a domain and a colon.
"""

from notqmail.control.files import entries, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    ReadControl = Callable[[str], bytes | None]
    Command = list[bytes]

SEPARATOR = b"--"  # between the commands of a command line
TIMEOUT_S = 300  # for one filter: a client waits ten minutes for the answer to its message (RFC 5321 4.5.3.2.6)


class Unusable(Exception):
    """A line that names no program, or a command line with nothing between two separators."""


def chain_of_words(words: "Sequence[bytes]") -> "list[Command]":
    """`f1 a b -- f2` as two commands; one separator may stand at the end. Raises Unusable."""
    chain: list[list[bytes]] = []
    is_open = False
    for word in words:
        if not is_open:
            chain.append([])
        is_open = word != SEPARATOR
        if is_open:
            chain[-1].append(word)
        elif not chain[-1]:
            raise Unusable("there is no filter before a --")
    return chain


def words_of_lines(lines: "Iterable[bytes]") -> list[bytes]:
    """The lines of a file like smtpfilters as that command line."""
    return [word for line in lines for word in (*line.split(), SEPARATOR)]


def delivery_chain(read: "ReadControl", name: str, domain: bytes) -> "list[Command]":
    """The filters of control/`name` for `domain`, in the file's order; none without the file.

    `example.com:program` is for that domain only, `.example.com:program` for all below it, `:program` or `program` for
    every one. What stands before a colon is a domain unless it has a slash in it. Raises Unusable.
    """
    chain = []
    domain = domain.lower()
    for line in entries(read, name) or ():
        pattern, rest = _domain_and_rest(line)
        command = rest.split()
        if not command:
            raise Unusable(f"control/{name}: a line names no program")
        if not pattern or pattern == domain or (pattern[:1] == b"." and domain.endswith(pattern)):
            chain.append(command)
    return chain


def _domain_and_rest(line: bytes) -> tuple[bytes, bytes]:
    first = (line.split(None, 1) or [b""])[0]
    pattern, colon, _ = first.partition(b":")
    if not colon or b"/" in pattern:
        return b"", line
    return pattern.lower(), line.partition(b":")[2]


def filter_timeout_s(read: "ReadControl") -> int:
    """Seconds that one filter may take; never less than one."""
    return max(number(read, "filtertimeout", TIMEOUT_S), 1)
