"""The readable log of `notqmail run`: whole lines of all programs, time and name in front of each.

Programs write bytes, and some of those come from strangers: what is not printable ASCII or valid UTF-8 is
shown as an escape, so no line can move a terminal's cursor or look like another program's.
"""

import os
import time

LINE_MAX = 4096  # bytes; what a longer line has beyond is not shown
NAME_WIDTH = 12


class Console:
    """Writes to one descriptor; `closed` when its reader has gone, and writing is then a no-op."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self.closed = False

    def say(self, text: str = "") -> None:
        """A line of our own, as it is."""
        data = text.encode("utf-8", "backslashreplace") + b"\n"
        while data and not self.closed:
            try:
                data = data[os.write(self._descriptor, data) :]
            except OSError:  # `| head` has left, or the terminal is gone: the caller looks at closed
                self.closed = True

    def log(self, name: str, line: str) -> None:
        """A line of a program (or of ours while it runs), with time and name."""
        self.say(f"{time.strftime('%H:%M:%S')} {name:<{NAME_WIDTH}} {line}")


class Lines:
    """Cuts a stream of bytes into lines to show."""

    def __init__(self, name: str) -> None:
        self._prefix = f"{name}: "
        self._rest = b""  # of the line that is not complete, no more than can be shown

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes, printable, without the program's own name in front; each the same however
        the pipe cut it, and no longer than LINE_MAX bytes.
        """
        first, *more = data.split(b"\n")
        *whole, rest = [self._rest + first[: LINE_MAX - len(self._rest)], *more]
        self._rest = rest[:LINE_MAX]
        return [printable(line[:LINE_MAX]).removeprefix(self._prefix) for line in whole]

    def end(self) -> list[str]:
        """The unfinished last line, if there is one."""
        return self.feed(b"\n") if self._rest else []


def printable(line: bytes) -> str:
    """Text a terminal shows and does nothing with."""
    text = line.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
