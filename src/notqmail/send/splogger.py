"""splogger(8): lines from descriptor 0 into syslog, each with the second and microsecond at which it came.

A long line goes in pieces, for syslog cuts: the first is `STAMP text`, each further one `STAMP+text` with the same
stamp and the same priority. Bytes that a terminal might obey become `?`.
"""

from notqmail.control.files import leading_digits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PIECE_MAX = 799  # bytes of text
ALERT, WARNING, INFORMATION = 1, 4, 6  # RFC 5424 6.2.1
MAIL_FACILITY = 2
_CLEAN = bytes(byte if 32 <= byte <= 126 else 0x3F for byte in range(256))
_INT_RANGE = 2**32


def facility_code(text: bytes) -> int:
    """What openlog(3) wants for a facility's number; it takes no number for 0. Too large ones wrap as in C."""
    return (((leading_digits(text) or 0) << 3) + _INT_RANGE // 2) % _INT_RANGE - _INT_RANGE // 2


class LineLogger:
    """Give `receive` what comes in, in any pieces, and `finish` at the end."""

    __slots__ = ("_continues", "_log", "_now_us", "_piece", "_priority", "_stamp")

    def __init__(self, log: "Callable[[int, str], object]", now_us: "Callable[[], int]") -> None:
        """`log` takes a priority and a text."""
        self._log, self._now_us = log, now_us
        self._piece = b""  # at most PIECE_MAX bytes, their line not yet ended
        self._continues = False
        self._priority = INFORMATION
        self._stamp = ""

    def receive(self, data: bytes) -> None:
        """Takes more, and logs what is complete."""
        first, *others = data.split(b"\n")
        self._add(first)
        for line in others:
            self._flush()
            self._continues = False
            self._add(line)

    def finish(self) -> None:
        """The end: a last line without line feed is a line too."""
        self._flush()

    def _add(self, text: bytes) -> None:
        while text:
            if len(self._piece) == PIECE_MAX:
                self._flush()
            room = PIECE_MAX - len(self._piece)
            self._piece += text[:room]
            text = text[room:]

    def _flush(self) -> None:
        if not self._piece:
            return
        text = self._piece.translate(_CLEAN).decode("ascii")
        if self._continues:
            self._log(self._priority, f"{self._stamp}+{text}")
        else:
            self._priority = WARNING if text.startswith("warning:") else INFORMATION
            if text.startswith("alert:"):
                self._priority = ALERT
            seconds, microseconds = divmod(self._now_us(), 1_000_000)
            self._stamp = f"{seconds}.{microseconds:06d}"
            self._log(self._priority, f"{self._stamp} {text}")
            self._continues = True
        self._piece = b""
