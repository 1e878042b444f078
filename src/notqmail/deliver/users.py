"""Which user receives a local address: users/cdb first, then the password file, then the alias account.

qmail-users(5) and qmail-getpw(8). In single-user mode nobody's home but ours is looked at: the login name (and
`name-ext`) means the mail system's home itself, everything else its alias directory.
"""

import os
import pwd

from notqmail.control.assign import WILDCARDS_KEY, Assignment, decode, lookup_keys
from notqmail.unix.cdb import Cdb, Damaged
from notqmail.unix.errors import is_temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Exit codes between qmail-lspawn, its children and qmail-getpw (qlx.h). They are the interface: never renumber.
BUG, ROOT, NFS_TROUBLE, NO_ALIAS, CDB_TROUBLE, SYSTEM_TROUBLE = 112, 113, 115, 116, 117, 118
OUT_OF_MEMORY, CANNOT_RUN, CANNOT_RUN_GETPW, CANNOT_RUN_HARD = 119, 120, 121, 126

NAME_BYTES_MAX = 31  # longer account names are not looked for
BREAK = 0x2D  # conf-break


class LookupFailed(Exception):
    """Nobody can say who receives it; `code` is one of the exit codes above."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class AssignedUsers:
    """users/cdb, kept open until the file is another one: every lookup sees what qmail-newu wrote last."""

    __slots__ = ("_cdb", "_identity", "_path", "_wildcards")

    def __init__(self, home: bytes) -> None:
        self._path = home + b"/users/cdb"
        self._cdb: Cdb | None = None
        self._identity: tuple[int, int, int, int] | None = None
        self._wildcards = b""

    def find(self, local: bytes) -> Assignment | None:
        """The assignment of an address, None when there is none (or no cdb). Raises LookupFailed."""
        try:
            self._refresh()
            return self._search(local)
        except (OSError, Damaged) as error:
            self.close()
            raise LookupFailed(CDB_TROUBLE) from error

    def _search(self, local: bytes) -> Assignment | None:
        if self._cdb is None:
            return None
        for key, rest in lookup_keys(local, self._wildcards):
            value = self._cdb.get(key)
            if value is None:
                continue
            assignment = decode(value, rest)
            if assignment is None:
                raise LookupFailed(BUG)
            return assignment
        return None

    def close(self) -> None:
        """Gives the descriptor back; the next lookup opens the file anew."""
        if self._cdb is not None:
            self._cdb.close()
        self._cdb = self._identity = None

    def _refresh(self) -> None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            self.close()
            return
        identity = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        if identity == self._identity:
            return
        self.close()
        self._cdb = Cdb(self._path)
        wildcards = self._cdb.get(WILDCARDS_KEY)
        if wildcards is None:
            raise Damaged("no wildcard record")
        self._wildcards, self._identity = wildcards, identity


def find_account(
    local: bytes, *, lookup: "Callable[[str], pwd.struct_passwd]" = pwd.getpwnam,
    stat: "Callable[[str], os.stat_result]" = os.stat, alias: str = "alias",
) -> Assignment:  # fmt: skip
    """The account of an address by the password file: longest prefix that ends at a break or the end.

    It must not be root's, its home must be there (as far as we may see) and be its own. Else the alias account,
    with the whole address as extension. Raises LookupFailed.
    """
    for end in range(min(len(local), NAME_BYTES_MAX), -1, -1):
        if end < len(local) and local[end] != BREAK:
            continue
        account = _known(lookup, os.fsdecode(local[:end].lower()))
        if account is not None and account.pw_uid and _owns_home(account, stat):
            is_whole = end == len(local)
            return _assignment(account, b"" if is_whole else b"-", local[end + 1 :])
    account = _known(lookup, alias)
    if account is None:
        raise LookupFailed(NO_ALIAS)
    return _assignment(account, b"-", local)


def _known(lookup: "Callable[[str], pwd.struct_passwd]", name: str) -> "pwd.struct_passwd | None":
    try:
        return lookup(name)
    except KeyError:
        return None
    except OSError as error:
        raise LookupFailed(SYSTEM_TROUBLE) from error


def _owns_home(account: "pwd.struct_passwd", stat: "Callable[[str], os.stat_result]") -> bool:
    try:
        return stat(account.pw_dir).st_uid == account.pw_uid
    except OSError as error:
        if is_temporary(error):
            raise LookupFailed(NFS_TROUBLE) from error
        return False


def _assignment(account: "pwd.struct_passwd", dash: bytes, ext: bytes) -> Assignment:
    return Assignment(
        os.fsencode(account.pw_name), account.pw_uid, account.pw_gid, os.fsencode(account.pw_dir), dash, ext
    )


def single_user_account(local: bytes, *, login: bytes, home: bytes, uid: int, gid: int) -> Assignment:
    """Single-user mode's answer: the login's mail is controlled by HOME/.qmail*, all other by HOME/alias/.qmail-*."""
    lower = local.lower()
    if login and lower == login.lower():
        return Assignment(login, uid, gid, home, b"", b"")
    if login and lower.startswith(login.lower() + b"-"):
        return Assignment(login, uid, gid, home, b"-", local[len(login) + 1 :])
    return Assignment(b"alias", uid, gid, home + b"/alias", b"-", local)


def login_name(uid: int, fallback: bytes) -> bytes:
    """The login name of a uid, `fallback` ($USER) where the password file does not know it."""
    try:
        return os.fsencode(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return fallback
