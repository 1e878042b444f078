"""qreceipt(1): a success notice for a sender who asked for one with Notice-Requested-Upon-Delivery-To.

Only the header is read. Nothing is sent to a bounce's sender, nor to an address with a line end in it, which could
write header fields of its own into the notice.
"""

import os

from notqmail.message.address import quote_address
from notqmail.message.header_fields import HeaderSplitter, HeaderTooLong, field_name
from notqmail.unix.leaving import Leaving
from notqmail.unix.mains import PERMANENT, TEMPORARY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from notqmail.message.tokens822 import Token
    from notqmail.queue.client import Submission

USAGE = b"qreceipt: usage: qreceipt deliveryaddress"
REQUEST_FIELD = b"notice-requested-upon-delivery-to"
READ_SIZE = 65_536
_FATAL = b"qreceipt: fatal: "


def qreceipt(
    words: "Sequence[bytes]", *, home: bytes, environ: "Mapping[bytes, bytes]",
    read_more: "Callable[[], bytes] | None" = None,
    submission_for: "Callable[[bytes, Mapping[bytes, bytes]], Submission] | None" = None,
) -> None:  # fmt: skip
    """Sends a notice where one is asked for. Raises Leaving."""
    sender = environ.get(b"SENDER")
    if not words or sender is None:
        raise Leaving(PERMANENT, USAGE)
    target = words[0]
    requested, message_id = False, b""
    for field in _fields(read_more or _standard_input):
        name = field_name(field)
        if name == b"message-id":
            message_id = field
        elif name == REQUEST_FIELD:
            requested = requests(field, target) or requested
    if requested and sender not in (b"", b"#@[]") and b"\n" not in sender and b"\r" not in sender:
        _send(notice(sender, target, message_id), sender, home, environ, submission_for or _open_submission)


def _standard_input() -> bytes:
    return os.read(0, READ_SIZE)


def _fields(read_more: "Callable[[], bytes]") -> "Iterator[bytes]":
    """The header's fields as they come. Raises Leaving."""
    splitter = HeaderSplitter()
    try:
        while not splitter.in_body:
            data = read_more()
            if data:
                splitter.receive(data)
            else:
                splitter.finish()
            yield from splitter.fields
            splitter.fields.clear()
            if not data:
                return
    except HeaderTooLong:
        return  # nobody's request for a notice looks like that; the message itself is none of our business
    except OSError:
        raise Leaving(TEMPORARY, _FATAL + b"read error") from None


def requests(field: bytes, target: bytes) -> bool:
    """Whether the field's addresses have `target` among them, to the letter. Raises Leaving."""
    from notqmail.message.tokens822 import Unparsable, plain_address, rewrite_addresses, tokenize

    found = False

    def look(address: "list[Token]") -> "list[Token]":
        nonlocal found
        try:
            found = found or plain_address(address) == target
        except Unparsable:
            pass  # it has a NUL: no argument has one, so it is another address
        return address

    try:
        rewrite_addresses(tokenize(field.removesuffix(b"\n")), look)
    except Unparsable:
        raise Leaving(PERMANENT, _FATAL + b"unable to parse this: " + field.removesuffix(b"\n")) from None
    return found


def notice(sender: bytes, target: bytes, message_id: bytes) -> bytes:
    """The whole notice. `message_id` is the field of the message delivered, or nothing."""
    quoted = quote_address(sender)
    return (
        b"From: DELIVERY NOTICE SYSTEM <" + quoted + b">\nTo: <" + quoted + b">\nSubject: success notice\n\n"
        b"Hi! This is the qreceipt program. Your message was delivered to the\n"
        b"following address: " + target + b". Thanks for asking.\n" + (b"Your " + message_id if message_id else b"")
    )


def _open_submission(home: bytes, environ: "Mapping[bytes, bytes]") -> "Submission":
    from notqmail.queue.client import open_submission  # few messages ask for a notice

    return open_submission(home, environ)


def _send(
    text: bytes, sender: bytes, home: bytes, environ: "Mapping[bytes, bytes]",
    submission_for: "Callable[[bytes, Mapping[bytes, bytes]], Submission]",
) -> None:  # fmt: skip
    try:
        submission = submission_for(home, environ)
    except OSError:
        raise Leaving(TEMPORARY, _FATAL + b"unable to fork") from None
    submission.write(text)
    report = submission.close(b"", [sender])
    if report.kind == b"D":
        raise Leaving(PERMANENT, _FATAL + b"permanent qmail-queue error")
    if not report.succeeded:
        raise Leaving(TEMPORARY, _FATAL + b"temporary qmail-queue error")
