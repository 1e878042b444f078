"""A message while it comes in: in memory while small, in a file without a name when it gets large.

Promises that no message is whole in memory when it is larger than INLINE_MAX bytes, and that nothing is left of it
once it is closed or the process is gone.
"""

import os

from notqmail.unix.processes import write_all
from notqmail.wire.qmqp import INLINE_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK_BYTES = 65_536


class SpooledMessage:
    """Written once, read once. A disk that fails shows as `failed`: the message is then of no use."""

    __slots__ = ("_parts", "descriptor", "failed", "length")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.descriptor = -1  # of the file, once there is one
        self.length = 0
        self.failed = False

    def write(self, data: bytes) -> None:
        """Takes more of the message; never raises."""
        self.length += len(data)
        if self.failed:
            return
        self._parts.append(data)
        if self.length > INLINE_MAX:
            try:
                self._spill()
            except OSError:
                self.failed = True
                self._parts.clear()

    def _spill(self) -> None:
        if self.descriptor < 0:
            self.descriptor = unnamed_file()
        write_all(self.descriptor, b"".join(self._parts))
        self._parts.clear()

    def in_memory(self) -> bytes | None:
        """The whole message, or None when it is in the file."""
        return b"".join(self._parts) if self.descriptor < 0 else None

    def chunks(self) -> "Iterator[bytes]":
        """The message in order, in pieces. Raises OSError."""
        if self.descriptor < 0:
            yield from self._parts
            return
        position = 0
        while chunk := os.pread(self.descriptor, _CHUNK_BYTES, position):
            yield chunk
            position += len(chunk)

    def close(self) -> None:
        """Gives memory and file back; more than once is no harm."""
        self._parts.clear()
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def unnamed_file() -> int:
    """A descriptor of a file that has no name and is gone with its last descriptor. Raises OSError."""
    directory = os.environb.get(b"TMPDIR", b"/tmp")
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except (OSError, AttributeError):  # a file system, or a system, without O_TMPFILE
        import tempfile

        descriptor, name = tempfile.mkstemp(dir=directory)
        os.unlink(name)
        return descriptor
