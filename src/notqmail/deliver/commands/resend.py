"""The message on descriptor 0 goes back into the queue, $DTLINE on top: what forward and condredirect share."""

import os

from notqmail.queue.client import open_submission
from notqmail.unix.errors import error_text
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import PERMANENT, TEMPORARY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from notqmail.queue.client import Submission

READ_SIZE = 65_536


def required(environ: "Mapping[bytes, bytes]", name: bytes, *, fatal: bytes) -> bytes:
    """A variable that qmail-local sets for its programs. Raises Leaving with 100 without it."""
    value = environ.get(name)
    if value is None:
        raise Leaving(PERMANENT, fatal + name + b" not set")
    return value


def resend(
    sender: bytes, recipients: "Sequence[bytes]", *, dtline: bytes, home: bytes, environ: "Mapping[bytes, bytes]",
    fatal: bytes, message_fd: int = 0,
    submission_for: "Callable[[bytes, Mapping[bytes, bytes]], Submission]" = open_submission,
) -> int:  # fmt: skip
    """Queues it; returns the number to print as `qp`. Raises Leaving: then nothing has been queued.

    `dtline`, with its line feed, is what stops a message that goes round in a circle.
    """
    try:
        submission = submission_for(home, environ)
    except OSError as error:
        raise Leaving(TEMPORARY, fatal + b"unable to fork: " + error_text(error)) from None
    submission.write(dtline)
    try:
        while data := os.read(message_fd, READ_SIZE):
            submission.write(data)
    except OSError as error:
        submission.abandon()
        raise Leaving(TEMPORARY, fatal + b"unable to read message: " + error_text(error)) from None
    report = submission.close(sender, recipients)
    if not report.succeeded:
        raise Leaving(PERMANENT if report.kind == b"D" else TEMPORARY, fatal + report.text)
    return submission.qp
