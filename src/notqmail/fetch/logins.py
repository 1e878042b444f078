"""Who may log in and what they become: by control/passwords where there is one, else by the system's accounts.

Nothing here changes the process. `Doorman.admit` gives the account, or None for a login that is wrong in any way; the
answer does not tell in which.
"""

import os
import pwd
import stat

from notqmail.control.passwords import Damaged, Entry, parse_passwords
from notqmail.fetch.passwords import CannotJudge, can_match, crypt_setting, matches, reject
from notqmail.unix.accounts import is_single_user
from notqmail.unix.errors import error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    ShadowHash = Callable[[bytes], tuple[bytes, int] | None]

PASSWORDS = b"control/passwords"
PASSWORDS_MAX = 67_108_864  # bytes of that file
_SECONDS_A_DAY = 86_400


class Account:
    """What a program that is started for somebody becomes; `home` is where it begins."""

    __slots__ = ("gid", "home", "name", "shell", "uid")

    def __init__(self, name: bytes, uid: int, gid: int, home: bytes, shell: bytes) -> None:
        self.name, self.uid, self.gid, self.home, self.shell = name, uid, gid, home, shell


class Doorman:
    """`home` is the mail system's; `shadow_hash` looks up the system's hash of a name (see `system_shadow`)."""

    __slots__ = ("_home", "_now_s", "_shadow_hash")

    def __init__(self, home: bytes, now_s: int, shadow_hash: "ShadowHash") -> None:
        self._home, self._now_s, self._shadow_hash = home, now_s, shadow_hash

    def admit(self, login: bytes, password: bytearray) -> Account | None:
        """The account of a good login, None for any other. Raises CannotJudge."""
        single = is_single_user(self._home)
        entries = read_passwords(self._home + b"/" + PASSWORDS)
        if entries is not None:
            return self._by_file(entries, login, password, single=single)
        if single:
            raise CannotJudge("control/passwords is missing, and a single-user home has no other accounts")
        return self._by_system(login, password)

    def _by_file(self, entries: list[Entry], login: bytes, password: bytearray, *, single: bool) -> Account | None:
        entry = next((entry for entry in entries if entry.login == login), None)
        if entry is None:
            reject(password, next((entry.hash for entry in entries if can_match(entry.hash)), None))
            return None
        if not can_match(entry.hash):
            reject(password, None)
            return None
        if not matches(entry.hash, password):
            return None
        if single:
            return _owner_of(self._home)
        found = _known(entry.account)
        if found is None:
            raise CannotJudge(f"control/passwords: no account {os.fsdecode(entry.account)}")
        return _account(found) if found.pw_uid else None

    def _by_system(self, login: bytes, password: bytearray) -> Account | None:
        found = _known(login)
        stored = None if found is None else self._hash_of(found)
        if found is None or stored is None:
            reject(password, crypt_setting())
            return None
        return _account(found) if matches(stored, password) and found.pw_uid else None

    def _hash_of(self, found: pwd.struct_passwd) -> bytes | None:
        """None when there is no password that could be right: none set, or the account has expired."""
        shadow = self._shadow_hash(os.fsencode(found.pw_name))
        if shadow is None:
            if found.pw_passwd == "x" and os.geteuid() != 0:  # not every C library says that it may not look
                raise CannotJudge("the shadow passwords can only be read by root")
            shadow = os.fsencode(found.pw_passwd), -1
        stored, expires_day = shadow
        expired = 0 <= expires_day <= self._now_s // _SECONDS_A_DAY
        return stored if can_match(stored) and not expired else None


def read_passwords(path: bytes) -> list[Entry] | None:
    """The entries of control/passwords, or None when there is no such file. Raises CannotJudge."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CannotJudge(f"control/passwords: {error_text(error).decode()}") from error
    try:
        return parse_passwords(_guarded_text(descriptor))
    except OSError as error:
        raise CannotJudge(f"control/passwords: {error_text(error).decode()}") from error
    except Damaged as damaged:
        raise CannotJudge(f"control/passwords: cannot understand {damaged}") from None
    finally:
        os.close(descriptor)


def _guarded_text(descriptor: int) -> bytes:
    """All of a file that nobody but its owner can read. Raises CannotJudge, OSError."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > PASSWORDS_MAX:
        raise CannotJudge("control/passwords is no file, or too large")
    if found.st_mode & 0o077:
        raise CannotJudge("control/passwords can be read by others: chmod 600")
    text = b""
    while chunk := os.read(descriptor, 1_048_576):
        text += chunk
    return text


def _known(name: bytes) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(os.fsdecode(name))
    except (KeyError, ValueError):
        return None


def _account(found: pwd.struct_passwd) -> Account:
    name, home, shell = map(os.fsencode, (found.pw_name, found.pw_dir, found.pw_shell))
    return Account(name, found.pw_uid, found.pw_gid, home, shell or b"/bin/sh")


def _owner_of(home: bytes) -> Account:
    """Ourselves, in the mail system's home: in single-user mode that is where the Maildir is."""
    try:
        found = pwd.getpwuid(os.geteuid())
        name, shell = os.fsencode(found.pw_name), os.fsencode(found.pw_shell)
    except KeyError:
        name, shell = b"%d" % os.geteuid(), b""
    return Account(name, os.geteuid(), os.getegid(), home, shell or b"/bin/sh")


def system_shadow(name: bytes) -> tuple[bytes, int] | None:
    """(hash, the day since 1970 on which the account expires or -1) by getspnam(3); None when it knows none.

    Raises CannotJudge when we may not look.
    """
    import ctypes
    import errno

    class Shadow(ctypes.Structure):  # struct spwd of shadow.h
        _fields_ = [
            ("name", ctypes.c_char_p), ("hash", ctypes.c_char_p), ("changed", ctypes.c_long), ("least", ctypes.c_long),
            ("most", ctypes.c_long), ("warning", ctypes.c_long), ("inactive", ctypes.c_long),
            ("expires", ctypes.c_long), ("flag", ctypes.c_ulong),
        ]  # fmt: skip

    try:
        getspnam = ctypes.CDLL(None, use_errno=True).getspnam
    except AttributeError:
        return None  # a system whose password file is guarded itself
    getspnam.restype = ctypes.POINTER(Shadow)
    getspnam.argtypes = [ctypes.c_char_p]
    ctypes.set_errno(0)
    found = getspnam(name)
    if not found:
        if ctypes.get_errno() in (0, errno.ENOENT):
            return None
        raise CannotJudge(f"getspnam: {os.strerror(ctypes.get_errno())}: the shadow passwords can only be read by root")
    return found.contents.hash or b"", found.contents.expires
