"""The text of an mbox file (mbox(5), the mboxrd kind: a quoted line can always be told from one that was so)."""

from notqmail.message.dates import mbox_date

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_RETURN_PATH = b"Return-Path: <"


def from_line_of_stored(first_line: bytes, modified_s: int) -> bytes:
    """The From_ line for a message of a Maildir, by its first line (without LF) and its file's time.

    The sender is what Return-Path says, with blanks made dashes; `MAILER-DAEMON` when that is empty, `XXX` without one.
    """
    sender = b"XXX"
    if first_line.startswith(_RETURN_PATH):
        address = first_line[len(_RETURN_PATH) :]
        sender = b"MAILER-DAEMON" if address[:1] == b">" else address[:-1].replace(b" ", b"-").replace(b"\t", b"-")
    return b"From %b %b\n" % (sender, mbox_date(modified_s))


def quote_from_lines(chunks: "Iterable[bytes]") -> "Iterator[bytes]":
    """The same text with one more `>` before every line that is `>`s and then `From ` (mboxrd), in any pieces."""
    carry = b""
    at_start = True  # of the current line nothing but `>`s has been given out, and carry
    for chunk in chunks:
        data = carry + chunk
        given = 0
        place = data.find(b"From ")
        while place >= 0:
            line = place  # becomes where the `>`s before it begin
            while line > given and data[line - 1] == 0x3E:
                line -= 1
            if (line == 0 and at_start) or (line > 0 and data[line - 1] == 0x0A):
                yield data[given:place] + b">"
                given = place
            place = data.find(b"From ", place + 5)
        last = data.rfind(b"\n") + 1
        tail = data[last:].lstrip(b">")
        at_start = (last > 0 or at_start) and len(tail) < 5 and b"From ".startswith(tail)
        carry = tail if at_start else b""
        yield data[given : len(data) - len(carry)]
    yield carry
