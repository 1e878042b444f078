"""control/passwords: who may log in, and the hash of each password (checkpassword(8)).

A line is `LOGIN:HASH` or `LOGIN:HASH:ACCOUNT`; empty lines and those that begin with `#` do not count. HASH is ours,
`$scrypt$ln=14,r=8,p=5$SALT$KEY` (RFC 7914; salt and key in base64 without padding, which other programs write too),
or one of crypt(3). A file with any other line is refused whole: half of it might be somebody's half-written change.
"""

from binascii import Error as NotBase64
from binascii import a2b_base64, b2a_base64

_SCRYPT = b"$scrypt$"
MEMORY_MAX = 128 * 1024 * 1024  # bytes that one scrypt hash may ask for
PARALLEL_MAX = 16


class Damaged(Exception):
    """The file, or a hash in it, cannot be understood; str() says where."""


class Entry:
    """What the file says of one login."""

    __slots__ = ("account", "hash", "login")

    def __init__(self, login: bytes, stored: bytes, account: bytes) -> None:
        self.login, self.hash, self.account = login, stored, account


class ScryptHash:
    """A hash of ours: 2^`log_n`, `r` and `p` are scrypt's costs, `salt` and `key` bytes."""

    __slots__ = ("key", "log_n", "p", "r", "salt")

    def __init__(self, log_n: int, r: int, p: int, salt: bytes, key: bytes) -> None:
        self.log_n, self.r, self.p, self.salt, self.key = log_n, r, p, salt, key

    @property
    def memory(self) -> int:
        """Bytes it takes to compute."""
        return 128 * self.r * ((1 << self.log_n) + self.p)

    def encode(self) -> bytes:
        """As it stands in the file."""
        costs = b"ln=%d,r=%d,p=%d" % (self.log_n, self.r, self.p)
        return _SCRYPT + b"$".join((costs, _base64(self.salt), _base64(self.key)))


def _base64(data: bytes) -> bytes:
    return b2a_base64(data, newline=False).rstrip(b"=")


def parse_passwords(text: bytes) -> list[Entry]:
    """The file's entries in order. Raises Damaged."""
    entries = []
    for number, line in enumerate(text.split(b"\n"), 1):
        if not line or line.startswith(b"#"):
            continue
        fields = line.split(b":")
        if len(fields) not in (2, 3) or b"" in fields or b"\0" in line:
            raise Damaged(f"line {number}")
        entries.append(Entry(fields[0], fields[1], fields[2] if len(fields) == 3 else fields[0]))
    return entries


def is_scrypt(stored: bytes) -> bool:
    """Whether a hash is of our kind; else it is crypt(3)'s."""
    return stored.startswith(_SCRYPT)


def parse_scrypt(stored: bytes) -> ScryptHash:
    """A hash of ours -> its parts. Raises Damaged, also for one that would take more than a login may."""
    parts = stored.removeprefix(_SCRYPT).split(b"$")
    if len(parts) != 3:
        raise Damaged("a hash")
    costs = [_cost(field, name) for field, name in zip(parts[0].split(b","), (b"ln=", b"r=", b"p="), strict=False)]
    if len(costs) != 3 or parts[0].count(b",") != 2:
        raise Damaged("the costs of a hash")
    found = ScryptHash(costs[0], costs[1], costs[2], _decoded(parts[1]), _decoded(parts[2]))
    if found.p > PARALLEL_MAX or found.log_n > 20 or found.memory > MEMORY_MAX:
        raise Damaged("a hash with costs too high")
    if not 16 <= len(found.key) <= 64:
        raise Damaged("the length of a hash")
    return found


def _cost(field: bytes, name: bytes) -> int:
    digits = field.removeprefix(name)
    if not field.startswith(name) or not digits.isdigit() or len(digits) > 4 or int(digits) < 1:
        raise Damaged("the costs of a hash")
    return int(digits)


def _decoded(text: bytes) -> bytes:
    try:
        data = a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except NotBase64:
        raise Damaged("the base64 of a hash") from None
    if _base64(data) != text:  # bits that no byte needs
        raise Damaged("the base64 of a hash")
    return data
