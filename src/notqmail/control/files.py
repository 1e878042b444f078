"""The text of control files -> values (qmail-control(5)). Pure: `read` is passed in and says None for no file.

Three kinds: one line, one number, a list. An existing empty one-line file is an empty value, not the default.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    ReadControl = Callable[[str], bytes | None]


class Missing(Exception):
    """A control file without which the program cannot work; `name` says which."""

    def __init__(self, name: str) -> None:
        super().__init__(f"control/{name} is missing")
        self.name = name


def one_line(read: "ReadControl", name: str) -> bytes | None:
    """The first line without trailing blanks (leading ones and CR stay), or None when there is no file."""
    text = read(name)
    return None if text is None else text.split(b"\n", 1)[0].rstrip(b" \t\n")


def line_or_me(read: "ReadControl", name: str, default: bytes | None = None) -> bytes:
    """The file's line, else that of control/me, else `default`. Raises Missing when there is none of them."""
    for candidate in (name, "me"):
        line = one_line(read, candidate)
        if line is not None:
            return line
    if default is None:
        raise Missing(name)
    return default


def line_or(read: "ReadControl", name: str, default: bytes) -> bytes:
    """The file's line, else `default`."""
    line = one_line(read, name)
    return default if line is None else line


def leading_digits(text: bytes) -> int | None:
    """The decimal number that `text` begins with, or None: no sign, nothing skipped."""
    end = 0
    while end < len(text) and 0x30 <= text[end] <= 0x39:
        end += 1
    return int(text[: min(end, 20)]) if end else None


def number(read: "ReadControl", name: str, default: int) -> int:
    """The number at the start of the file, else `default` (also for a file without one)."""
    found = leading_digits(one_line(read, name) or b"")
    return default if found is None else found


def entries(read: "ReadControl", name: str) -> list[bytes] | None:
    """The list's lines: trailing blanks removed, empty lines and `#` comments skipped. None when there is no file."""
    text = read(name)
    if text is None:
        return None
    lines = (line.rstrip(b" \t") for line in text.split(b"\n"))
    return [line for line in lines if line and not line.startswith(b"#")]


def name_set(lines: "Iterable[bytes]") -> frozenset[bytes]:
    """Lines as a set to be asked in lower case (ASCII)."""
    return frozenset(line.lower() for line in lines)


def colon_map(lines: "Iterable[bytes]") -> dict[bytes, bytes]:
    """`key:value` lines as a map, keys in lower case; cut at the FIRST colon; no colon: ignored; the last line wins."""
    found = {}
    for line in lines:
        key, colon, value = line.partition(b":")
        if colon:
            found[key.lower()] = value
    return found
