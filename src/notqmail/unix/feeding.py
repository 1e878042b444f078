"""A program fed with some lines of ours and then all of descriptor 0: what preline, predate and mailsubj do.

Promises: when descriptor 0 cannot be read to its end, the program is killed before it could take what it has for the
whole; when it reads less than it is given, that is its own affair and its exit code counts, however long the message.
"""

import errno
import os

from notqmail.unix.errors import error_text
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import TEMPORARY
from notqmail.unix.named_programs import start_program
from notqmail.unix.processes import wait, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

READ_SIZE = 65_536
_SIGKILL = 9
NO_CHILD = (errno.EAGAIN, errno.ENOMEM)  # what fork(2) says when there can be no more processes


def feed(
    words: "Sequence[bytes]", environ: "Mapping[bytes, bytes]", head: "Callable[[], bytes]", *,
    fatal: bytes, code_when_not_run: "Callable[[OSError], int]", input_fd: int = 0,
) -> int:  # fmt: skip
    """Runs the program with `head()` and then the input on its descriptor 0; returns its exit code.

    `fatal` begins each line of complaint (`preline: fatal: `). Raises Leaving.
    """
    try:
        reader, writer = os.pipe()
    except OSError as error:
        raise Leaving(TEMPORARY, fatal + b"unable to create pipe: " + error_text(error)) from None
    try:
        child = start_program(words, environ, stdin_fd=reader)
    except OSError as error:
        os.close(writer)
        if error.errno in NO_CHILD:
            raise Leaving(TEMPORARY, fatal + b"unable to fork: " + error_text(error)) from None
        raise Leaving(
            code_when_not_run(error), fatal + b"unable to run " + words[0] + b": " + error_text(error)
        ) from None
    finally:
        os.close(reader)
    try:
        _copy(head(), input_fd, writer)
    except OSError as error:
        os.kill(child, _SIGKILL)
        os.close(writer)
        wait(child)
        raise Leaving(TEMPORARY, fatal + b"unable to copy input: " + error_text(error)) from None
    os.close(writer)
    ended = wait(child)
    if ended.code is None:
        raise Leaving(TEMPORARY, fatal + b"child crashed")
    return ended.code


def _copy(head: bytes, input_fd: int, writer: int) -> None:
    """Raises OSError when the input cannot be read."""
    data = head
    try:
        while True:
            write_all(writer, data)
            data = os.read(input_fd, READ_SIZE)
            if not data:
                return
    except BrokenPipeError:
        pass  # the program wants no more; its exit code says what that means
