"""What qmail-send says to qmail-lspawn and qmail-rspawn, and what they answer (INTERNALS of qmail, qmail-lspawn(8)).

Command: one byte, the delivery slot; then message path, sender and recipient, each ended by NUL.
Report: one byte, the slot; then text, its first byte K, Z or D; then NUL. The slot byte may itself be NUL, so a
NUL ends a report only after the slot byte. A spawner's first byte, before any report, is how many slots it has.
Two ends that are both ours may agree on more: wire/wide_link.py.
"""

from notqmail.wire.reports import Report

SPAWN_SLOTS = 120  # conf-spawn
REPORT_MAX = 10_000  # qmail-send keeps no more of one report
COMMAND_FIELD_MAX = 65_536  # no honest field is near this; more is a broken peer


class Delivery:
    """A command: try this once. `message` is the path under queue/mess, such as b"14/2540341".

    One recipient, `recipient`; by the wide link it may be several, of which that is the first.
    """

    __slots__ = ("message", "recipient", "recipients", "sender", "slot")

    def __init__(self, slot: int, message: bytes, sender: bytes, *recipients: bytes) -> None:
        self.slot, self.message, self.sender, self.recipients = slot, message, sender, recipients
        self.recipient = recipients[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Delivery) and self._all == other._all

    def __hash__(self) -> int:
        return hash(self._all)

    def __repr__(self) -> str:
        return f"Delivery{self._all!r}"

    @property
    def _all(self) -> tuple[int | bytes, ...]:
        return (self.slot, self.message, self.sender, *self.recipients)

    def encode(self) -> bytes:
        """The bytes for the spawner's command pipe."""
        return b"%c%b\0%b\0%b\0" % (self.slot, self.message, self.sender, self.recipient)


class BadCommand(Exception):
    """A field without end: the peer is not a qmail-send."""


class CommandReader:
    """A spawner's ear: bytes in, deliveries out, whatever way the pipe cuts them."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def receive(self, data: bytes) -> list[Delivery]:
        """The commands that are complete now. Raises BadCommand."""
        buffer = self._buffer + data
        found, start = [], 0
        while True:
            first = buffer.find(b"\0", start + 1)
            second = buffer.find(b"\0", first + 1) if first >= 0 else -1
            third = buffer.find(b"\0", second + 1) if second >= 0 else -1
            if third < 0:
                break
            found.append(
                Delivery(
                    buffer[start],
                    buffer[start + 1 : first],
                    buffer[first + 1 : second],
                    buffer[second + 1 : third],
                )
            )
            start = third + 1
        self._buffer = buffer[start:]
        if len(self._buffer) > 3 * COMMAND_FIELD_MAX:
            raise BadCommand("field without end")
        return found


def encode_report(slot: int, report: Report, slot_bytes: int = 1) -> bytes:
    """The bytes for the report pipe; a NUL in the text would end it early, so the text is cut there."""
    return b"%b%b\0" % (slot.to_bytes(slot_bytes, "little"), report.encode().split(b"\0", 1)[0])


class ReportReader:
    """qmail-send's ear for one channel: bytes in, (slot, report) out. The hello byte is read by the caller."""

    __slots__ = ("_buffer", "_slot_bytes")

    def __init__(self, slot_bytes: int = 1) -> None:
        self._buffer, self._slot_bytes = b"", slot_bytes

    def receive(self, data: bytes) -> list[tuple[int, Report | None]]:
        """Complete reports; None stands for a text without K, Z or D (`report mangled`)."""
        buffer = self._buffer + data
        found: list[tuple[int, Report | None]] = []
        start = 0
        while (end := buffer.find(b"\0", begin := start + self._slot_bytes)) >= 0:
            text = buffer[begin:end][:REPORT_MAX]
            known = text[:1] in (b"K", b"Z", b"D")
            slot = int.from_bytes(buffer[start:begin], "little")
            found.append((slot, Report(text[:1], text[1:]) if known else None))
            start = end + 1
        self._buffer = buffer[start:][: self._slot_bytes + REPORT_MAX]  # an endless report keeps its beginning
        return found
