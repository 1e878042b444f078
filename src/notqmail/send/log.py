"""qmail-send's log: the lines of qmail-log(5), written together once a turn."""

import os
import select

from notqmail.message.log_text import log_text


class Log:
    """Lines for descriptor `descriptor`. `flush` blocks when the logger does, as in C: no unlogged mail."""

    __slots__ = ("_descriptor", "_lines")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: list[bytes] = []

    def line(self, text: bytes) -> None:
        """One line; the caller has made strangers' text safe (`safe`)."""
        self._lines.append(text + b"\n")

    def warning(self, text: bytes) -> None:
        """Something is wrong and will be tried again."""
        self.line(b"warning: " + text)

    def alert(self, text: bytes) -> None:
        """Something is wrong that a person must look at; written at once."""
        self.line(b"alert: " + text)
        self.flush()

    def flush(self) -> None:
        """Writes what has gathered. A logger that is gone loses the lines, not the mail."""
        if not self._lines:
            return
        data = memoryview(b"".join(self._lines))
        self._lines.clear()
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                self._wait()  # somebody made the pipe non-blocking: we wait all the same
            except OSError:
                return  # nobody to tell

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        poll.poll()


safe = log_text
