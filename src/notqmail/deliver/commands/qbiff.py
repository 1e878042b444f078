"""qbiff(1): a line about new mail on each terminal where its recipient is logged in and ran `biff y`.

It never fails and never holds mail up: whatever goes wrong, somebody is not told.
"""

import os
import stat

from notqmail.message.header_fields import HeaderSplitter, HeaderTooLong, field_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

READ_SIZE = 65_536
TEXT_MAX = 78
_WANTS_TO_KNOW = stat.S_IXUSR  # what `biff y` sets on the terminal
_PRINTABLE = frozenset(range(32, 127))


def qbiff(
    environ: "Mapping[bytes, bytes]", sessions: "Iterable[tuple[bytes, bytes]]", *,
    read_more: "Callable[[], bytes]", uid: int, devices: bytes = b"/dev",
) -> None:  # fmt: skip
    """Tells $USER. `sessions` are (user, terminal) pairs, a terminal being a name below `devices`."""
    user, sender, local = environ.get(b"USER"), environ.get(b"SENDER"), environ.get(b"LOCAL")
    if user is None or sender is None or local is None:
        return
    try:
        text = announcement(local, sender, read_more)
    except OSError:
        return
    for name, terminal in sessions:
        if name == user and terminal and not terminal.startswith(b"/") and b"." not in terminal:
            _tell(os.path.join(devices, terminal), text, uid)


def announcement(local: bytes, sender: bytes, read_more: "Callable[[], bytes]") -> bytes:
    """Who writes to whom, then subject and body up to TEXT_MAX bytes, all printable ASCII. Raises OSError."""
    head = _printable(b"*** TO <" + local + b"> FROM <" + sender + b">", b"_")
    return b"\r\n\a" + head + b"\r\n" + _printable(_beginning(read_more), b"/") + b"\r\n"


def _beginning(read_more: "Callable[[], bytes]") -> bytes:
    """Four blanks, subject, body, no more than TEXT_MAX bytes. Raises OSError."""
    splitter = HeaderSplitter()
    text, last = b"    ", b""
    while len(text) < TEXT_MAX:
        data = read_more()
        try:
            if data:
                splitter.receive(data)
            elif splitter.in_body:
                text += b"" if last == b"\n" else b"\n"
            else:
                splitter.finish()
        except HeaderTooLong:
            break  # the beginning of it must do
        for field in splitter.fields:
            if field_name(field) == b"subject":
                text += field.partition(b":")[2].lstrip(b"\t\n\r ")
        splitter.fields.clear()
        text += splitter.body
        last = splitter.body[-1:] or last
        splitter.body = b""
        if not data:
            break
    return text[:TEXT_MAX]


def _printable(text: bytes, instead: bytes) -> bytes:
    return bytes([byte if byte in _PRINTABLE else instead[0] for byte in text])


def _tell(path: bytes, text: bytes, uid: int) -> None:
    try:
        # It must be there already and must not become our terminal; one that takes nothing is not waited for.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return
    try:
        status = os.fstat(descriptor)
        if status.st_mode & _WANTS_TO_KNOW and status.st_uid == uid:
            os.write(descriptor, text)
    except OSError:
        pass  # the terminal is gone
    finally:
        os.close(descriptor)
