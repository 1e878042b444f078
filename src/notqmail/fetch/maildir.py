"""A Maildir as its reader sees it (maildir(5)): made, swept, listed.

Paths are relative to the Maildir, `new/NAME` or `cur/NAME`, as the disk that is given has it for a root.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.unix.durable import Disk

MESSAGES_MAX = 1_000_000  # in one listing; some 200 bytes of memory each
SWEEP_AGE_S = 36 * 60 * 60  # whoever writes to tmp/ has given up long before


class CannotList(Exception):
    """new/ or cur/ cannot be read: `directory` is which, `error` the OSError."""

    def __init__(self, directory: bytes, error: OSError) -> None:
        super().__init__(directory, error)
        self.directory, self.error = directory, error


class CannotMake(Exception):
    """`step` (what could not be done, such as `mkdir x/tmp`) and `error`, the OSError."""

    def __init__(self, step: bytes, error: OSError) -> None:
        super().__init__(step, error)
        self.step, self.error = step, error


class Stored:
    """A message: its path, its size in bytes as stored, and when it was last modified, in seconds."""

    __slots__ = ("modified_s", "path", "size")

    def __init__(self, path: bytes, size: int, modified_s: int) -> None:
        self.path, self.size, self.modified_s = path, size, modified_s


def make(path: bytes) -> None:
    """A new Maildir, all of it 0700: the directory, then tmp, new, cur. Raises CannotMake at the first that fails."""
    for name in (b"", b"/tmp", b"/new", b"/cur"):
        try:
            os.mkdir(path + name, 0o700)
        except OSError as error:
            raise CannotMake(b"mkdir " + path + name, error) from error


def sweep(disk: "Disk", now_s: int) -> None:
    """Removes what unfinished deliveries left in tmp/ and nobody touched for SWEEP_AGE_S. Failures do not matter."""
    try:
        for name in disk.names(b"tmp"):
            if not name.startswith(b"."):
                _sweep_one(disk, b"tmp/" + name, now_s)
    except OSError:
        pass  # no tmp/, or not for us to see: listing is what was asked for


def _sweep_one(disk: "Disk", path: bytes, now_s: int) -> None:
    try:
        state = disk.state(path)
        if state is not None and now_s > state.accessed_s + SWEEP_AGE_S:
            disk.unlink(path)
    except OSError:
        pass  # somebody else's, or gone: the next one


def messages(disk: "Disk", now_s: int) -> list[Stored]:
    """The messages in new/ and cur/, the oldest first, within a second by name. Raises CannotList.

    What was modified in the second `now_s` is left for the next time: more of that second may be to come, and the
    numbers of messages must not depend on it. Beyond MESSAGES_MAX they are left out as the directory gives them.
    """
    found: list[Stored] = []
    for directory in (b"new", b"cur"):
        try:
            for name in disk.each_name(directory):
                stored = None if name.startswith(b".") else _stored(disk, directory + b"/" + name)
                if stored is not None and stored.modified_s < now_s and len(found) < MESSAGES_MAX:
                    found.append(stored)
        except OSError as error:
            raise CannotList(directory, error) from error
    found.sort(key=lambda stored: (stored.modified_s, stored.path[4:]))
    return found


def _stored(disk: "Disk", path: bytes) -> Stored | None:
    """None when it is gone again, or a link that leads nowhere."""
    try:
        state = disk.state(path)
    except OSError:
        return None
    return None if state is None else Stored(path, state.size, state.modified_s)
