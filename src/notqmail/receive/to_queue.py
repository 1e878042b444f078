"""How a resident hands a finished message to the queue without waiting: one way in, and answers that come later.

Most messages go over the link to `qmail-queue --serve`. Where the site put another program in its place, with
QMAILQUEUE in the connection's environment or as HOME/bin/qmail-queue, that program is run for each message by the
classic client, in one of a few threads.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from notqmail.queue.client import open_submission, queue_program
from notqmail.queue.link import QueueLink
from notqmail.queue.spool import SpooledMessage
from notqmail.wire import queue_exit
from notqmail.wire.reports import Report, temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAMS_MAX = 20  # queue programs at a time, as many as remote deliveries by default
_NO_EXTRA_PROGRAM: "dict[bytes, bytes]" = {}


class QueueDoor:
    """The way in for all sessions of one resident."""

    def __init__(self, home: bytes) -> None:
        self._home = home
        self._link = QueueLink(home)
        self._threads: ThreadPoolExecutor | None = None
        self._own_program = os.path.join(home, b"bin/qmail-queue")
        self._looked_at: tuple[int, int, int, int] | None = None
        self._is_foreign = False

    def submit(
        self, message: SpooledMessage, environ: "Mapping[bytes, bytes]", sender: bytes, recipients: list[bytes]
    ) -> "asyncio.Future[tuple[Report, int]]":
        """Begins to queue the message, which is ours from here on. The future's result: report and qp number."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[Report, int]]
        if message.failed:
            message.close()
            future = loop.create_future()
            future.set_result((queue_exit.report_for_exit(queue_exit.WRITE_FAILED), 0))
        elif self._needs_program(environ):
            if self._threads is None:
                self._threads = ThreadPoolExecutor(PROGRAMS_MAX)
            future = loop.run_in_executor(self._threads, run_program, self._home, environ, message, sender, recipients)
        elif (whole := message.in_memory()) is not None:
            message.close()
            future = self._link.post(whole, sender, recipients)
        else:
            future = loop.create_task(self._submit_file(message, sender, recipients))
        return future

    async def _submit_file(self, message: SpooledMessage, sender: bytes, recipients: list[bytes]) -> tuple[Report, int]:
        try:
            return await self._link.submit_file(message.descriptor, message.length, sender, recipients)
        finally:
            message.close()

    def _needs_program(self, environ: "Mapping[bytes, bytes]") -> bool:
        """Whether another program stands where our queue would; HOME/bin is looked at for each message, read if new."""
        if b"QMAILQUEUE" in environ:
            return True
        try:
            status = os.stat(self._own_program)
        except OSError:
            return False  # nothing there to run: the link it is
        looked_at = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if looked_at != self._looked_at:
            self._is_foreign = queue_program(self._home, _NO_EXTRA_PROGRAM) is not None
            self._looked_at = looked_at
        return self._is_foreign

    def close(self) -> None:
        """Gives the connection to the queue back. Programs under way end by themselves."""
        self._link.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False)


def run_program(
    home: bytes, environ: "Mapping[bytes, bytes]", message: SpooledMessage, sender: bytes, recipients: list[bytes]
) -> tuple[Report, int]:
    """The classic way, waiting: for a thread. Never raises for trouble with the program or the spool file."""
    try:
        submission = open_submission(home, environ, resident=True)
    except OSError:
        message.close()
        return temporary(b"qqt failure (#4.3.0)"), 0
    try:
        for chunk in message.chunks():
            submission.write(chunk)
    except OSError:
        submission.abandon()
        return queue_exit.report_for_exit(queue_exit.READ_FAILED), 0
    finally:
        message.close()
    return submission.close(sender, recipients), submission.qp
