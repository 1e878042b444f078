"""Asking a program a question: its exit code is yes, no, or "ask me later" (condredirect, bouncesaying, except)."""

from notqmail.unix.errors import error_text, is_temporary
from notqmail.unix.feeding import NO_CHILD
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import TEMPORARY
from notqmail.unix.named_programs import start_program
from notqmail.unix.processes import wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def holds(words: "Sequence[bytes]", environ: "Mapping[bytes, bytes]", *, fatal: bytes) -> bool:
    """Whether the program exits 0. One that is not there says no.

    Raises Leaving with 111 when it exits 111, is killed, or cannot be run just now; `fatal` begins the complaint.
    """
    try:
        child = start_program(words, environ)
    except OSError as error:
        if error.errno in NO_CHILD:
            raise Leaving(TEMPORARY, fatal + b"unable to fork: " + error_text(error)) from None
        if is_temporary(error):
            raise Leaving(TEMPORARY, fatal + b"temporary child error") from None
        return False
    ended = wait(child)
    if ended.code is None:
        raise Leaving(TEMPORARY, fatal + b"child crashed")
    if ended.code == TEMPORARY:
        raise Leaving(TEMPORARY, fatal + b"temporary child error")
    return ended.code == 0
