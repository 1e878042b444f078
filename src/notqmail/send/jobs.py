"""A job: one message on one channel, from the moment a pass over its recipients begins until all have reported."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.send.channels import Channel


class BadRecord(Exception):
    """The channel file holds something that is neither T nor D: the pass ends, the message waits."""


class Job:
    """`retry_s` is when to try again if somebody is left; `dying` says that deferrals are now failures."""

    __slots__ = ("_data", "_position", "channel", "dying", "exhausted", "number", "open", "retry_s", "sender", "undone")

    def __init__(
        self, number: int, channel: "Channel", sender: bytes, retry_s: int, records: bytes, *, dying: bool
    ) -> None:
        self.number, self.channel, self.sender, self.retry_s, self.dying = number, channel, sender, retry_s, dying
        self._data, self._position = records, 0
        self.open = 0  # deliveries under way
        self.undone = 0  # recipients begun and not finished for good
        self.exhausted = False  # the pass has seen every recipient

    def next_recipient(self) -> tuple[int, bytes] | None:
        """(offset of its record, address) of the next one to do, or None at the end. Raises BadRecord."""
        data, position = self._data, self._position
        while (end := data.find(b"\0", position)) >= 0:
            letter = data[position : position + 1]
            self._position = end + 1
            if letter == b"T":
                return position, data[position + 1 : end]
            if letter != b"D":
                raise BadRecord
            position = end + 1
        return None

    @property
    def is_at_end(self) -> bool:
        """Whether no record is left to read."""
        return self._data.find(b"\0", self._position) < 0

    @property
    def finished(self) -> bool:
        """Nobody on this channel is left."""
        return self.exhausted and self.undone == 0
