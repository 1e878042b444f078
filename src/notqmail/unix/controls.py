"""Control files as bytes. What the bytes mean is `control/`'s matter; this only reads them.

A missing file is None: the caller has a default. A file that is there and cannot be read is `Unreadable`,
which each program turns into its own temporary failure: a mail server must not guess its settings.
"""

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    ReadControl = Callable[[str], bytes | None]


class Unreadable(Exception):
    """A control file exists but cannot be read; `name` is its name, `error` the OSError."""

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(f"unable to read control/{name}: {error.strerror}")
        self.name, self.error = name, error


def control_reader(home: bytes) -> "ReadControl":
    """A function from a control file's name to its bytes, or None when there is no such file.

    Raises (when called) Unreadable.
    """

    def read(name: str) -> bytes | None:
        try:
            with open(
                os.path.join(home, b"control", name.encode()), "rb", buffering=0, opener=_without_waiting
            ) as file:
                content: bytes | None = file.readall()
                if content is None:
                    raise BlockingIOError(errno.EAGAIN, "somebody still writes it")
                return content
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unreadable(name, error) from error

    return read


def _without_waiting(path: str, flags: int) -> int:
    """As qmail opens control files: a FIFO that stands there holds nobody up."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
