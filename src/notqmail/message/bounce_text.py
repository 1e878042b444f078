"""The text of bounces in QSBMF, the qmail-send bounce message format (qmail-send(8), cr.yp.to/proto/qsbmf.txt). Pure.

Programs read it: the opening `Hi. This is the`, one paragraph `<address>:` for each failed recipient, blank
lines only between paragraphs, and the break line that begins with `---`. Every byte here is part of that
interface.
"""

from notqmail.message.address import quote_address, quote_box
from notqmail.message.dates import header_date
from notqmail.message.verp import bounce_sender

_SINGLE_OPENING = (
    b"I'm afraid I wasn't able to deliver your message to the following addresses.\n"
    b"This is a permanent error; I've given up. Sorry it didn't work out.\n"
)
_DOUBLE_OPENING = b"I tried to deliver a bounce message to this address, but the bounce bounced!\n"
_SINGLE_BREAK = b"--- Below this line is a copy of the message.\n"
_DOUBLE_BREAK = b"--- Below this line is the original bounce.\n"

EXPIRED = b"I'm not going to try again; this message has been in the queue too long.\n"
"""What is added to a temporary failure's text when the message is too old to be tried again."""


def bounce_paragraph(address: bytes, report: bytes) -> bytes:
    """One failed recipient, as appended to bounce/N, with the blank line after it.

    `address` is what `Routing.strip_virtual_prefix` gives, shown unquoted. A line feed that follows another
    one becomes `/`, or the report could look like two paragraphs. The last byte is not looked at (as in
    qmail), so a report that ends in two line feeds does leave one more blank line, which is harmless.
    """
    text = b"<" + address.replace(b"\n", b"_") + b">:\n" + report
    lines = text.removesuffix(b"\n").split(b"\n")
    inner = b"".join([line + b"\n" if line else b"/" for line in lines[:-1]])
    return inner + lines[-1] + b"\n\n"


def bounce_head(
    *, now_s: int, bounce_from: bytes, bounce_host: bytes, recipient: bytes, original_sender: bytes
) -> bytes:
    """The bounce message up to the contents of bounce/N. `recipient` is that of the bounce; an empty
    `original_sender` (after `bounce_sender`) makes it a double bounce."""
    opening = _SINGLE_OPENING if bounce_sender(original_sender) else _DOUBLE_OPENING
    return (
        b"Date: " + header_date(now_s) + b"\n"
        b"From: " + quote_box(bounce_from) + b"@" + bounce_host + b"\n"
        b"To: " + quote_address(recipient) + b"\n"
        b"Subject: failure notice\n"
        b"\n"
        b"Hi. This is the qmail-send program at " + bounce_host + b".\n" + opening + b"\n"
    )


def bounce_middle(original_sender: bytes) -> bytes:
    """What stands between the contents of bounce/N and the complete original message."""
    shown = bounce_sender(original_sender)
    return (_SINGLE_BREAK if shown else _DOUBLE_BREAK) + b"\nReturn-Path: <" + quote_address(shown) + b">\n"
