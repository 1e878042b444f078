"""users/assign -> the records of users/cdb, and the keys an address is looked up under (qmail-users(5)).

Keys: `=local` becomes `!local\\0`, `+loc` becomes `!loc`, both in lower case; the empty key holds the last
characters of all `+` names, so that a lookup tries only prefixes that can exist. Values: user, uid, gid, home,
dash, ext with a NUL between them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

WILDCARDS_KEY = b""
_FIELDS = 6
_UID_MODULUS = 1 << 32


class BadFormat(Exception):
    """A line that is no assignment, or no final dot line; `line` is its number from 1."""

    def __init__(self, line: int) -> None:
        super().__init__(f"bad format in line {line}")
        self.line = line


class Assignment:
    """Who receives an address: the account, and which `.qmail` files of its home are asked."""

    __slots__ = ("dash", "ext", "gid", "home", "uid", "user")

    def __init__(self, user: bytes, uid: int, gid: int, home: bytes, dash: bytes, ext: bytes) -> None:
        self.user, self.uid, self.gid, self.home, self.dash, self.ext = user, uid, gid, home, dash, ext

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Assignment) and self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash(self.encode())

    def __repr__(self) -> str:
        return f"Assignment({self.encode()!r})"

    def encode(self) -> bytes:
        """The six fields, each ended by NUL: what qmail-getpw prints."""
        return b"%b\0%d\0%d\0%b\0%b\0%b\0" % (self.user, self.uid, self.gid, self.home, self.dash, self.ext)


def records(text: bytes) -> list[tuple[bytes, bytes]]:
    """Key and value of every assignment up to the dot line, then the wildcard record. Raises BadFormat.

    An address that is assigned twice keeps both records; readers take the first.
    """
    found: list[tuple[bytes, bytes]] = []
    wildcards = bytearray()
    lines = text.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if line[:1] == b".":
            break
        name, *fields = line.split(b":")
        if number == len(lines) or not name or len(fields) <= _FIELDS or b"\0" in line:
            raise BadFormat(number)  # the last piece has no newline: the file is cut short
        if name[:1] == b"+":
            if len(name) > 1 and name[-1] not in wildcards:
                wildcards.append(name[-1])
            key = b"!" + name[1:].lower()
        else:
            key = b"!" + name[1:].lower() + b"\0"
        found.append((key, b"\0".join(fields[:_FIELDS])))
    found.append((WILDCARDS_KEY, bytes(wildcards)))
    return found


def lookup_keys(local: bytes, wildcards: bytes) -> "Iterator[tuple[bytes, bytes]]":
    """(key, rest of `local` that goes to the extension) in the order to try: exact, then longest prefix first."""
    lower = b"!" + local.lower()
    yield lower + b"\0", b""
    for end in range(len(lower), 0, -1):
        if end == 1 or lower[end - 1] in wildcards:
            yield lower[:end], local[end - 1 :]


def decode(value: bytes, rest: bytes = b"") -> Assignment | None:
    """The assignment of a record, `rest` appended to its extension; None when fields are missing.

    Ids are scanned as C scans them: leading digits, no digits is 0, and the value wraps at 32 bits.
    """
    fields = (value + rest).split(b"\0")
    if len(fields) < _FIELDS:
        return None
    user, uid, gid, home, dash, ext = fields[:_FIELDS]
    return Assignment(user, _scan_id(uid), _scan_id(gid), home, dash, ext)


def _scan_id(text: bytes) -> int:
    digits = text[: len(text) - len(text.lstrip(b"0123456789"))]
    return int(digits[:20] or b"0") % _UID_MODULUS
