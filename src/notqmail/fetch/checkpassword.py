"""checkpassword: a login on descriptor 3, and on success the next program as that user, in that user's home.

The interface is D. J. Bernstein's (cr.yp.to/checkpwd.html), which qmail-popup and SMTP's AUTH speak: at most 512 bytes,
login, password and perhaps a timestamp, each ended by NUL; exit code 1 for a login that is not good, 2 for misuse, 111
for trouble. APOP sends a digest in place of the password: no hash can be compared with that, so it never is good.
"""

import os

from notqmail.fetch.logins import Account
from notqmail.fetch.secret import overwrite
from notqmail.unix.accounts import become
from notqmail.unix.errors import error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

LOGIN_FD = 3
RECORD_MAX = 512
BAD_LOGIN, MISUSED, TROUBLE = 1, 2, 111


class Leave(Exception):
    """The program ends with `code`; `text`, unless it is empty, is for the log."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(code, text)
        self.code, self.text = code, text


def read_record(descriptor: int) -> bytearray:
    """What is on the descriptor, to its end. Raises Leave."""
    record = bytearray(RECORD_MAX + 1)
    view, filled = memoryview(record), 0
    try:
        while count := os.readv(descriptor, [view[filled:]]):
            filled += count
            if filled > RECORD_MAX:
                overwrite(record)
                raise Leave(BAD_LOGIN)
    except OSError as error:
        overwrite(record)
        raise Leave(TROUBLE, f"unable to read descriptor {descriptor}: {error_text(error).decode()}") from error
    finally:
        view.release()
    del record[filled:]
    return record


def split_record(record: bytearray) -> tuple[bytes, bytearray]:
    """(login, password); what follows them must end in NUL if there is anything. Raises Leave."""
    first = record.find(b"\0")
    second = record.find(b"\0", first + 1) if first >= 0 else -1
    if second < 0 or (second + 1 < len(record) and record.find(b"\0", second + 1) < 0):
        raise Leave(MISUSED, "descriptor 3 has no login and password")
    return bytes(record[:first]), record[first + 1 : second]


def become_and_run(account: Account, command: "Sequence[bytes]", environ: "Mapping[bytes, bytes]") -> "NoReturn":
    """Gives up all other rights and becomes `command`, found by PATH. Raises Leave."""
    import signal  # what is started must find SIGPIPE as any program does, and Python has it ignored

    try:
        become(account.uid, account.gid)
    except OSError as error:
        raise Leave(TROUBLE, f"unable to become {os.fsdecode(account.name)}: {error_text(error).decode()}") from error
    try:
        os.chdir(account.home)
    except OSError as error:
        raise Leave(TROUBLE, f"unable to enter {os.fsdecode(account.home)}: {error_text(error).decode()}") from error
    theirs = {**environ, b"USER": account.name, b"HOME": account.home, b"SHELL": account.shell}
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), theirs)
    except OSError as error:
        raise Leave(TROUBLE, f"unable to run {os.fsdecode(command[0])}: {error_text(error).decode()}") from error
