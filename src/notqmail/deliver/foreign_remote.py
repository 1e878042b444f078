"""A qmail-remote that is not ours: where it is, and its runs, one for each recipient (qmail-rspawn(8)).

It is run as the classic contract says: `qmail-remote HOST SENDER RECIPIENT`, message on 0, report pipe on 1. Its 2 is
our log: in C it is the report pipe too, where any complaint spoils the report.
"""

import asyncio
import os

from notqmail.deliver.remote_report import report_for_end
from notqmail.deliver.spawn import CANNOT_FORK, CANNOT_PIPE, split_recipient
from notqmail.unix.launchers import is_ours
from notqmail.unix.processes import Ended, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from notqmail.deliver.remote_async import Tell
    from notqmail.wire.reports import Report
    from notqmail.wire.spawn_link import Delivery

OUTPUT_MAX = 100_000  # qmail-send keeps a tenth of it
_EXEC_FAILED = 111  # whatever the reason: a missing qmail-remote must not bounce the mail (notqmail issue 244)
_READ_BYTES = 65_536
_ENDED_POLL_S = 0.02


def foreign_program(home: bytes, environ: "Mapping[bytes, bytes]") -> bytes | None:
    """The qmail-remote to execute, or None when it is ours (or there is none) and the agent here does its work.

    $QMAILREMOTE, else `qmail-remote` on the PATH as C finds it. HOME/bin is looked at too, first of all when the PATH
    does not name it: another installation's qmail-remote there must not be taken for this home's.
    """
    path = environ.get(b"PATH", b"/bin:/usr/bin").split(b":")
    bin_directory = os.path.join(home, b"bin")
    if bin_directory not in path:
        path.insert(0, bin_directory)
    name = environ.get(b"QMAILREMOTE", b"qmail-remote")
    places = [name] if b"/" in name else [os.path.join(directory or b".", name) for directory in path]
    for place in places:
        if os.path.isfile(place) and os.access(place, os.X_OK):
            return None if is_ours(place, b"qmail-remote") else place
    return name if b"QMAILREMOTE" in environ else None  # set, and not there: its exec fails, which is reported


async def run_for_each(
    program: bytes, delivery: "Delivery", message_fd: int, environ: "Mapping[bytes, bytes]", tell: "Tell"
) -> None:
    """One run for each recipient. There is more than one only when the program came after our answer about terms:
    then one after the other, each reported as it ends.
    """
    for index, recipient in enumerate(delivery.recipients):
        os.lseek(message_fd, 0, os.SEEK_SET)
        tell(index, await _run_for(recipient, program, delivery.sender, message_fd, environ))


async def _run_for(
    recipient: bytes, program: bytes, sender: bytes, message_fd: int, environ: "Mapping[bytes, bytes]"
) -> "Report":
    try:
        read_fd, write_fd = os.pipe()
    except OSError:
        return CANNOT_PIPE
    try:
        _, host = split_recipient(recipient)
        pid = spawn(
            [program, host, sender, recipient],
            descriptors={0: message_fd, 1: write_fd, 2: 2}, environ=environ,
            exit_on_failure=lambda _error: _EXEC_FAILED,
        )  # fmt: skip
    except OSError:
        os.close(read_fd)
        return CANNOT_FORK
    finally:
        os.close(write_fd)
    output = await _read_output(read_fd)
    return report_for_end(await _ended(pid), output)


async def _read_output(read_fd: int) -> bytes:
    """Everything to the end of file, keeping OUTPUT_MAX bytes."""
    kept = bytearray()
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def read() -> None:
        chunk = os.read(read_fd, _READ_BYTES)
        kept.extend(chunk[: OUTPUT_MAX - len(kept)])
        if not chunk and not done.done():
            done.set_result(None)

    loop.add_reader(read_fd, read)
    try:
        await done
    finally:
        loop.remove_reader(read_fd)
        os.close(read_fd)
    return bytes(kept)


async def _ended(pid: int) -> Ended:
    """Waits for a child that has closed its output, so it is about to end: asking now and then is enough, and leaves
    SIGCHLD to the event loop.
    """
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return Ended(status)
        await asyncio.sleep(_ENDED_POLL_S)
