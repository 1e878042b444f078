"""What an errno is called, and whether trying again may help.

The texts are qmail's own short ones (log analysers know them), not strerror's; the list of temporary
errors is qmail's too: everything else is permanent where a caller asks.
"""

import errno

_TEXTS = {
    errno.ENOENT: b"file does not exist",
    errno.EACCES: b"access denied",
    errno.EPERM: b"permission denied",
    errno.EEXIST: b"file already exists",
    errno.ENOSPC: b"out of disk space",
    errno.EIO: b"input/output error",
    errno.ENOMEM: b"out of memory",
    errno.ETIMEDOUT: b"timed out",
    errno.ECONNREFUSED: b"connection refused",
    errno.EDQUOT: b"disk quota exceeded",
    errno.ENOTDIR: b"not a directory",
    errno.EISDIR: b"is a directory",
    errno.EMFILE: b"process cannot open more files",
    errno.ENFILE: b"system cannot open more files",
    errno.EROFS: b"read-only file system",
    errno.EPIPE: b"broken pipe",
    errno.ECONNRESET: b"connection reset",
    errno.EHOSTUNREACH: b"host unreachable",
    errno.ENETUNREACH: b"network unreachable",
    errno.ELOOP: b"symbolic link loop",
    errno.ENAMETOOLONG: b"file name too long",
    errno.ENOEXEC: b"exec format error",
    errno.EINVAL: b"invalid argument",
}

_TEMPORARY = frozenset(
    {
        errno.EINTR, errno.ENOMEM, errno.ETXTBSY, errno.EIO, errno.ETIMEDOUT, errno.EWOULDBLOCK, errno.EAGAIN,
        errno.EDEADLK, errno.EBUSY, errno.ENFILE, errno.EMFILE, errno.EFBIG, errno.ENOSPC, errno.ENETDOWN,
        errno.ENETUNREACH, errno.ENETRESET, errno.ECONNABORTED, errno.ECONNRESET, errno.ENOBUFS,
        errno.ETOOMANYREFS, errno.ECONNREFUSED, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EUSERS, errno.EDQUOT,
        errno.ESTALE, errno.ENOLCK,
    }
)  # fmt: skip


def error_text(error: OSError) -> bytes:
    """The short name of an error, as qmail's error_str(3) gives it; `unknown error` when it has none."""
    return _TEXTS.get(error.errno or 0, b"unknown error")


def is_temporary(error: OSError) -> bool:
    """Whether the same call may succeed later (qmail's error_temp(3))."""
    return error.errno in _TEMPORARY
