"""The link between qmail-send and a spawner of ours when both want more than the classic one says (qmail-rspawn(8)).

Wider in two ways: up to 65,536 slots, and several recipients of one message in one command, so that they can ride in
one SMTP transaction; each is still reported for itself. It begins classic. qmail-send asks with a command for slot 255,
which no classic spawner has: that answers Z, "delnum too big", and everything stays classic. One of ours answers K with
its number of slots and how many recipients it takes at once; from then on both sides speak as follows.

Command: slot (two bytes, low one first); message path, sender, each recipient, each ended by NUL; one more NUL.
Report: slot (two bytes), which recipient of the command (two bytes, from 0), then K, Z or D with its text, NUL.
A slot is free when each of its recipients has its report.
"""

from notqmail.wire.reports import Report, success
from notqmail.wire.spawn_link import BadCommand, Delivery, ReportReader, encode_report

ASKING_SLOT = 255
SLOTS_MAX = 65_536
COMMAND_MAX = 1 << 20  # bytes; qmail-send ends a command at a hundredth of it
_QUESTION = b"wide"
_BITS = 16
_PLACE_BYTES = 4  # a place is slot and recipient as they stand in a report


class Terms:
    """What a spawner offers: how many slots, how many recipients in one command."""

    __slots__ = ("recipients", "slots")

    def __init__(self, slots: int, recipients: int) -> None:
        self.slots, self.recipients = slots, recipients

    def answer(self) -> Report:
        """The answer to the question."""
        return success(b"%d %d" % (self.slots, self.recipients))


def question() -> bytes:
    """What qmail-send asks, classic in form."""
    return Delivery(ASKING_SLOT, _QUESTION, b"", b"").encode()


def is_question(delivery: Delivery) -> bool:
    """Whether a classic command is the question."""
    return delivery.slot == ASKING_SLOT and delivery.message == _QUESTION


def terms_from(report: Report | None) -> Terms | None:
    """What the answer offers; None: the spawner is a classic one, or makes no sense."""
    if report is None or not report.succeeded:
        return None
    slots, _, recipients = report.text.partition(b" ")
    if not (slots.isdigit() and recipients.isdigit() and len(report.text) < 20):
        return None
    terms = Terms(min(int(slots), SLOTS_MAX), min(int(recipients), SLOTS_MAX))
    return terms if terms.slots and terms.recipients else None


def place_of(slot: int, index: int) -> int:
    """Slot and recipient as one number; of the first recipient it is the slot itself, as in the classic link."""
    return slot | index << _BITS


def slot_and_index(place: int) -> tuple[int, int]:
    """The inverse of `place_of`."""
    return place & SLOTS_MAX - 1, place >> _BITS


def encode_command(delivery: Delivery) -> bytes:
    """The bytes for the spawner's command pipe.

    An empty recipient, which only a queue file written by hand can have, goes as `-`: refused too, for want of a host.
    """
    head = b"%b%b\0%b\0" % (delivery.slot.to_bytes(2, "little"), delivery.message, delivery.sender)
    return b"%b%b\0\0" % (head, b"\0".join([recipient or b"-" for recipient in delivery.recipients]))


class WideCommandReader:
    """A spawner's ear: bytes in, deliveries out, whatever way the pipe cuts them."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def receive(self, data: bytes) -> list[Delivery]:
        """The commands that are complete now. Raises BadCommand."""
        buffer = self._buffer + data
        found, start = [], 0
        while True:
            first = buffer.find(b"\0", start + 2)
            second = buffer.find(b"\0", first + 1) if first >= 0 else -1
            stop = buffer.find(b"\0\0", second) if second >= 0 else -1
            if stop < 0:
                break
            if stop == second:
                raise BadCommand("nobody to deliver to")
            slot = int.from_bytes(buffer[start : start + 2], "little")
            recipients = buffer[second + 1 : stop].split(b"\0")
            found.append(Delivery(slot, buffer[start + 2 : first], buffer[first + 1 : second], *recipients))
            start = stop + 2
        self._buffer = buffer[start:]
        if len(self._buffer) > COMMAND_MAX:
            raise BadCommand("command without end")
        return found


def encode_wide_report(place: int, report: Report) -> bytes:
    """The bytes for the report pipe."""
    return encode_report(place, report, _PLACE_BYTES)


class WideReportReader(ReportReader):
    """qmail-send's ear for one channel: bytes in, (place, report) out."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_PLACE_BYTES)
