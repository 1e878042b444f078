"""Is this the password? By a hash of ours (scrypt, hashlib) or one of crypt(3), the C library's own, through ctypes.

A password is a bytearray here, so that whoever has it can overwrite it; copies that C needs are overwritten at once.
A comparison takes the same time wherever the first difference is, and a login that does not exist takes as long as
one that does: `reject` computes a hash for nothing.
"""

from notqmail.control.passwords import Damaged, ScryptHash, is_scrypt, parse_scrypt

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes

# 16 MiB and about a fifth of a second, among the least that OWASP's Password Storage Cheat Sheet names for scrypt.
LOG_N, R, P = 14, 8, 5
SALT_BYTES, KEY_BYTES = 16, 32
_NOBODY = ScryptHash(LOG_N, R, P, bytes(SALT_BYTES), bytes(KEY_BYTES)).encode()


class CannotJudge(Exception):
    """Neither yes nor no: something is broken here, and later may be better. str() is for the log."""


def new_hash(password: bytearray, salt: bytes) -> bytes:
    """The hash to keep of a password. `salt` is SALT_BYTES of chance. Raises CannotJudge."""
    made = ScryptHash(LOG_N, R, P, salt, b"")
    return ScryptHash(LOG_N, R, P, salt, _scrypt(made, password, KEY_BYTES)).encode()


def matches(stored: bytes, password: bytearray) -> bool:
    """Whether `stored` is a hash of the password. Raises CannotJudge."""
    import hmac  # and with it OpenSSL: only who has come this far pays for it

    if b"\0" in password:  # scrypt would take one at the end for none
        return False
    if not is_scrypt(stored):
        computed = _crypt(password, stored)
        return computed is not None and hmac.compare_digest(computed, stored)
    try:
        parts = parse_scrypt(stored)
    except Damaged as damaged:
        raise CannotJudge(f"control/passwords: cannot understand {damaged}") from None
    return hmac.compare_digest(_scrypt(parts, password, len(parts.key)), parts.key)


def reject(password: bytearray, like: bytes | None) -> None:
    """Takes as long as `matches` does for a hash of the kind of `like` (None: ours). Raises CannotJudge."""
    matches(_NOBODY if like is None else like, password)


def can_match(stored: bytes) -> bool:
    """Whether a stored word is a hash at all: `!` and `*` begin those that no password has, and nothing is no hash."""
    return stored[:1] not in (b"", b"!", b"*")


def _scrypt(parts: ScryptHash, password: bytearray, length: int) -> bytes:
    import hashlib

    try:
        return hashlib.scrypt(
            password, salt=parts.salt, n=1 << parts.log_n, r=parts.r, p=parts.p, dklen=length,
            maxmem=parts.memory + 1_048_576,
        )  # fmt: skip
    except (AttributeError, ValueError, MemoryError) as error:
        raise CannotJudge(f"scrypt: {error}") from error


# -- crypt(3) --------------------------------------------------------------------------------------------------


def _crypt(password: bytearray, setting: bytes) -> bytes | None:
    """crypt(3)'s hash of a password by a setting (a stored hash will do), or None where it has none."""
    if b"\0" in setting:
        return None
    import ctypes

    function = _function("crypt")
    if function is None:
        raise CannotJudge("this machine has no crypt(3)")
    function.restype = ctypes.c_char_p
    function.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    copy = ctypes.create_string_buffer(len(password) + 1)
    view = memoryview(copy).cast("B")
    try:
        view[: len(password)] = password
        found: bytes | None = function(copy, setting)
    finally:
        view[:] = bytes(len(view))
    return None if found is None or found.startswith(b"*") else found


def crypt_setting() -> bytes | None:
    """A setting as the C library would choose it for a new password, or None where it chooses none."""
    import ctypes

    function = _function("crypt_gensalt")
    if function is None:
        return None
    function.restype = ctypes.c_char_p
    function.argtypes = [ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_int]
    setting: bytes | None = function(None, 0, None, 0)
    return setting


def _function(name: str) -> "ctypes._FuncPointer | None":
    import ctypes

    for library in ("libcrypt.so.1", "libcrypt.so.2", None):  # None: musl and the BSDs have it in the C library
        try:
            found: ctypes._FuncPointer = getattr(ctypes.CDLL(library), name)
        except (OSError, AttributeError):
            continue
        return found
    return None
