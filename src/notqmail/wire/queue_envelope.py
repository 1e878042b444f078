"""The envelope as a queue program gets it on descriptor 1: `Fsender NUL`, `Trecipient NUL` for each, NUL. Pure.

Specified by qmail-queue(8) and envelopes(5). What follows the end is ignored; addresses are any bytes but NUL.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class BadEnvelope(Exception):
    """It is no envelope. `is_cut`: all that is there is right, and its end is missing: whoever wrote it gave up."""

    def __init__(self, *, is_cut: bool) -> None:
        super().__init__(is_cut)
        self.is_cut = is_cut


def parse_envelope(data: bytes) -> tuple[bytes, list[bytes]]:
    """(sender, recipients). Raises BadEnvelope."""
    found: list[bytes] = []
    *records, rest = data.split(b"\0")
    for record in records:
        if not record and found:
            return found[0], found[1:]
        if record[:1] != (b"T" if found else b"F"):
            raise BadEnvelope(is_cut=False)
        found.append(record[1:])
    raise BadEnvelope(is_cut=rest[:1] in (b"", b"T" if found else b"F"))


def encode_envelope(sender: bytes, recipients: "Iterable[bytes]") -> bytes:
    """The inverse."""
    return b"F" + sender + b"\0" + b"".join([b"T" + recipient + b"\0" for recipient in recipients]) + b"\0"
