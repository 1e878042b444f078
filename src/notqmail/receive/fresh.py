"""Control files and rules that a resident looks at for each connection, but reads only when they changed.

A one-shot program reads its files when it starts, so a site expects that the next connection knows a changed file. What
is remembered here is dropped when the inode, size, mtime or ctime of any of the files differs from what it was before
reading. What changed within the last second is not remembered: it could change again within one tick of the file
system's clock and look the same. For files that do not exist the directory is looked at: it changes when one appears.
"""

import os

from notqmail.policy.relay import check_more_hosts
from notqmail.unix import tcprules
from notqmail.unix.controls import control_reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from notqmail.control.files import ReadControl
    from notqmail.control.smtpd_settings import SmtpdSettings
    from notqmail.unix.clock import Clock

_SETTLED_NS = 1_000_000_000
_REMEMBERED_ADDRESSES_MAX = 10_000


def look(paths: "Sequence[bytes]") -> list[tuple[int, int, int, int] | None]:
    """What tells a changed file from an unchanged one, for each path; None where there is no such file.

    Raises OSError when a file may not even be looked at.
    """
    found: list[tuple[int, int, int, int] | None] = []
    for path in paths:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return found


def is_settled(looks: "Sequence[tuple[int, int, int, int] | None]", now_us: int) -> bool:
    """Whether no file changed so lately (or in the future) that one more change could go unseen."""
    latest_ns = max((max(one[2], one[3]) for one in looks if one is not None), default=0)
    return latest_ns + _SETTLED_NS < now_us * 1000


class FreshSettings:
    """What `read_settings` makes of the control files `names`, as they are now."""

    __slots__ = ("_all_paths", "_clock", "_directory", "_home", "_known", "_looks", "_paths", "_read_settings")

    def __init__(
        self, home: bytes, clock: "Clock", names: "Sequence[str]",
        read_settings: "Callable[[ReadControl], SmtpdSettings]",
    ) -> None:  # fmt: skip
        self._home, self._clock, self._read_settings = home, clock, read_settings
        directory = os.path.join(home, b"control")
        self._directory = directory
        self._all_paths = [os.path.join(directory, name.encode()) for name in names]
        self._paths: list[bytes] = []  # the directory, and the files that were in it
        self._looks: list[tuple[int, int, int, int] | None] | None = None
        self._known: SmtpdSettings | None = None

    def current(self) -> "SmtpdSettings":
        """Raises Missing, Unreadable, OSError: then nothing is remembered, and the next call reads again."""
        if self._known is not None and look(self._paths) == self._looks:
            return self._known
        self._known = None
        # A link that leads nowhere is looked at as well: what it leads to may appear elsewhere.
        paths = [self._directory, *filter(os.path.lexists, self._all_paths)]
        looks = look(paths)
        settings = self._read_settings(control_reader(self._home))
        check_more_hosts(self._home)
        if is_settled(looks, self._clock.now_us()):
            self._paths, self._looks, self._known = paths, looks, settings
        return settings


class FreshRules:
    """A tcprules file as it is now."""

    __slots__ = ("_clock", "_known", "_looks", "_path")

    def __init__(self, path: bytes, clock: "Clock") -> None:
        self._path, self._clock = path, clock
        self._looks: list[tuple[int, int, int, int] | None] | None = None
        self._known: dict[bytes, tcprules.Verdict] = {}

    def look_up(self, address: bytes) -> tcprules.Verdict:
        """The verdict on a client whose name and user are not known. Raises OSError, cdb.Damaged."""
        looks = look([self._path])
        if looks != self._looks or len(self._known) >= _REMEMBERED_ADDRESSES_MAX:
            self._known.clear()
            self._looks = looks if is_settled(looks, self._clock.now_us()) else None
        verdict = self._known.get(address)
        if verdict is None:
            verdict = tcprules.look_up(self._path, address)
            if self._looks is not None:
                self._known[address] = verdict
        return verdict
