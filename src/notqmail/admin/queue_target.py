"""How a queue is laid out: by which number it is split, and whether todo and intd are split too (big-todo).

Our own programs, and notqmail as it comes, know one: split by 23, todo flat (queue/layout.py). Patched and
differently compiled C programs have others; those are targets that a stopped queue can be moved to, and from.
"""

from notqmail.queue.layout import DIRECTORIES, FILES, SPLIT, SPLIT_KINDS, number_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = (b"mess", b"intd", b"todo", b"info", b"local", b"remote", b"bounce")
TODO_KINDS = (b"todo", b"intd")
LEDGER = b"ledger"
SPLIT_MAX = 10_000
_FILE_OWNERS = {
    b"pid": ("queue", 0o644), b"mess": ("queue", 0o644), b"intd": ("queue", 0o644), b"todo": ("queue", 0o644),
    b"info": ("send", 0o600), b"local": ("send", 0o600), b"remote": ("send", 0o600), b"bounce": ("send", 0o600),
}  # fmt: skip


class Target:
    """A layout. Two are equal when all paths are."""

    __slots__ = ("big_todo", "split")

    def __init__(self, split: int = SPLIT, *, big_todo: bool = False) -> None:
        self.split, self.big_todo = split, big_todo

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Target) and (self.split, self.big_todo) == (other.split, other.big_todo)

    def __hash__(self) -> int:
        return hash((self.split, self.big_todo))

    def __str__(self) -> str:
        return f"split by {self.split}" + (", todo and intd too (big-todo)" if self.big_todo else "")

    def is_split(self, kind: bytes) -> bool:
        """Whether files of this kind are in numbered directories."""
        return kind in SPLIT_KINDS or (self.big_todo and kind in TODO_KINDS)

    def path(self, kind: bytes, number: int) -> bytes:
        """Where a file of a message belongs."""
        if self.is_split(kind):
            return b"%b/%d/%d" % (kind, number % self.split, number)
        return b"%b/%d" % (kind, number)

    def directories(self, *, ledger: bool) -> "Iterator[tuple[bytes, str, int]]":
        """All directories with owner's role and mode, parents first; those of the ledger if asked."""
        for path, owner, mode in DIRECTORIES:
            if _is_of_ledger(path) and not ledger:
                continue
            yield path, owner, mode
            if self.is_split(path):
                for part in range(self.split):
                    yield b"%b/%d" % (path, part), owner, mode

    def fixtures(self, *, ledger: bool) -> "Iterator[tuple[bytes, str, int]]":
        """The files that every queue has, with owner's role and mode."""
        for path, owner, mode in FILES:
            if ledger or not _is_of_ledger(path):
                yield path, owner, mode

    def has_part(self, path: bytes) -> bool:
        """Whether a numbered directory, such as b"mess/22", is of this layout."""
        kind, _, name = path.partition(b"/")
        part = number_of(name)
        return self.is_split(kind) and part is not None and part < self.split


def file_owner(kind: bytes) -> tuple[str, int]:
    """Role and mode of a message's file of this kind."""
    return _FILE_OWNERS[kind]


def _is_of_ledger(path: bytes) -> bool:
    return path.split(b"/", 1)[0] == LEDGER
