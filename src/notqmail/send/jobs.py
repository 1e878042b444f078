"""A job: one message on one channel, from the moment a pass over its recipients begins until all have reported."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.send.channels import Channel


class Job:
    """With its first delivery it has begun: then `retry_s` is when to try again if somebody is left, and `dying` says
    that deferrals are now failures. `goes_alone`: no recipient shares a transaction, for this may be the last try.
    `in_todo`: it is tried straight from todo, and todo/N is the mark that it is not done (send/todo.py).
    """

    __slots__ = (
        "_data", "_position", "birth_s", "channel", "dying", "goes_alone", "in_todo", "is_at_end", "is_broken",
        "number", "open", "retry_s", "sender", "undone", "waiting",
    )  # fmt: skip

    def __init__(self, number: int, channel: "Channel", sender: bytes, birth_s: int, records: bytes) -> None:
        self.number, self.channel, self.sender, self.birth_s = number, channel, sender, birth_s
        self._data, self._position = records, 0
        self.retry_s: int | None = None
        self.dying = self.goes_alone = self.in_todo = False
        self.is_at_end = False  # the pass has seen every recipient
        self.is_broken = False  # or came to a record that is neither T nor D, and the message waits
        self.waiting = 0  # recipients seen that have no slot yet
        self.open = 0  # deliveries under way
        self.undone = 0  # recipients seen and not finished for good

    def next_window(self, most: int) -> list[tuple[int, bytes]]:
        """(offset of its record, address) of the next ones to do, in order; they count as waiting from now on."""
        data, position = self._data, self._position
        found: list[tuple[int, bytes]] = []
        while (end := data.find(b"\0", position)) >= 0 and len(found) < most:
            letter = data[position : position + 1]
            if letter == b"T":
                found.append((position, data[position + 1 : end]))
            elif letter != b"D":
                self.is_broken = True
                break
            position = end + 1
        self._position = position
        self.is_at_end = self.is_broken or end < 0
        self.waiting += len(found)
        self.undone += len(found)
        return found

    @property
    def is_idle(self) -> bool:
        """Nothing of this pass is under way or still to come."""
        return self.is_at_end and not self.waiting and not self.open

    @property
    def finished(self) -> bool:
        """Nobody on this channel is left."""
        return self.is_at_end and not self.is_broken and self.undone == 0
