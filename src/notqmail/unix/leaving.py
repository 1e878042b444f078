"""How the small programs end early: an exit code, and one line of the program's own for descriptor 2.

`mains.run` is for what nobody expected; this is for the ends that a program's man page lists.
"""

import os


class Leaving(Exception):
    """The program ends here with `code`. `line` is said on descriptor 2 first, with a line feed; None says nothing."""

    def __init__(self, code: int, line: bytes | None = None) -> None:
        super().__init__(code, line)
        self.code, self.line = code, line

    def told(self) -> int:
        """Says the line, and gives the exit code."""
        if self.line is not None:
            try:
                os.write(2, self.line + b"\n")
            except OSError:
                pass  # nobody listens: the exit code still tells
        return self.code
