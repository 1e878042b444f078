"""Mailboxes on the same disk as the queue: local mail is delivered for real, into Maildirs and mbox files.

`box...@me.test` has an mbox, every other local address a Maildir, and `no...` is nobody. What must hold is in
`check_mailboxes`.
"""

import re

from machine import World
from queue_states import FixedClock

from notqmail.deliver import envelope_lines
from notqmail.deliver.mailboxes import DeliveryFailed, MaildirJob, UniqueNames, deliver_batch, deliver_mbox
from notqmail.queue.store import LOCAL
from notqmail.testing.fake_disk import FakeDisk
from notqmail.wire.reports import Report, permanent, success, temporary
from notqmail.wire.spawn_link import Delivery

NOBODY = b"Sorry, no mailbox here by that name. (#5.1.1)\n"


class StoredMessage:
    """A short message in memory, in place of an open file."""

    is_short = True

    def __init__(self, head: bytes) -> None:
        self.head = head

    def chunks(self) -> tuple[bytes]:
        return (self.head,)


class Microseconds(FixedClock):
    """Names in a Maildir hold them; time stands still, so they come from a counter."""

    __slots__ = ("given",)

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def now_us(self) -> int:
        self.given += 1
        return self.now * 1_000_000 + self.given


class Houses(World):
    """`reported` is what qmail-send was told: the index of the message and the recipient."""

    def __init__(self, answers: dict[bytes, list[bytes]]) -> None:
        super().__init__(answers)
        self.reported: list[tuple[bytes, bytes]] = []
        self.clock = Microseconds()

    def attempts(self, channel: bytes, commands: list[Delivery], disk: FakeDisk) -> list[Report]:
        """As World.attempts; Maildirs together, as the worker does it."""
        if channel != LOCAL:
            return super().attempts(channel, commands, disk)
        reports: dict[int, Report] = {}
        jobs: dict[int, MaildirJob] = {}
        for index, command in enumerate(commands):
            local = command.recipient.split(b"@")[0]
            message = StoredMessage(disk.read(b"mess/" + command.message))
            top = self._top(command)
            if local.startswith(b"no"):
                reports[index] = permanent(NOBODY)
            elif local.startswith(b"box"):
                reports[index] = self._into_mbox(b"home/%b" % local, top, message, disk)
            else:
                jobs[index] = MaildirJob(b"home/%b/" % local, top.split(b"\n", 1)[1], message)  # type: ignore[arg-type]
        names = UniqueNames(self.clock, pid=7, host=b"h")
        for index, failure in zip(jobs, deliver_batch(list(jobs.values()), disk, names, lambda _: True), strict=True):
            reports[index] = success() if failure is None else temporary(failure)
        for index, command in enumerate(commands):
            if reports[index].succeeded:
                self.reported.append((disk.read(b"mess/" + command.message), command.recipient))
        return [reports[index] for index in range(len(commands))]

    def _top(self, command: Delivery) -> bytes:
        local, domain = command.recipient.split(b"@")
        return (
            envelope_lines.from_line(command.sender, self.clock.now)
            + envelope_lines.return_path(command.sender)
            + envelope_lines.delivered_to(local, domain)
        )

    def _into_mbox(self, path: bytes, top: bytes, message: StoredMessage, disk: FakeDisk) -> Report:
        try:
            deliver_mbox(path, top, message, disk)  # type: ignore[arg-type]
        except DeliveryFailed as failed:
            return temporary(failed.text)
        return success()


class Mailboxes:
    """What lies in the houses: recipient -> messages in order, without From_ line. `torn`: (recipient, text, place)."""

    def __init__(self, disk: FakeDisk, is_whole: re.Pattern[bytes]) -> None:
        self.whole: dict[bytes, list[bytes]] = {}
        self.torn: list[tuple[bytes, bytes, int]] = []
        for path, content in disk.everything().items():
            parts = path.split(b"/")
            if path.startswith(b"home/box"):
                self._read_mbox(parts[1] + b"@me.test", content, is_whole)
            elif path.startswith(b"home/") and parts[2] == b"new":
                assert is_whole.fullmatch(content), f"half a message in {path!r}: {content!r}"
                self.whole.setdefault(parts[1] + b"@me.test", []).append(content)

    def _read_mbox(self, recipient: bytes, content: bytes, is_whole: re.Pattern[bytes]) -> None:
        """As a mail reader does: a From_ line begins a message at the file's start and behind an empty line. NULs that
        a power cut left in place of a piece belong to nobody.
        """
        found = self.whole.setdefault(recipient, [])
        for piece in re.split(rb"(?<=\n\n)(?=From )", content) if content else []:
            line, _, text = piece.partition(b"\n")
            text = text.replace(b"\n>From ", b"\nFrom ")
            if b"\0" in text:
                text = text.rstrip(b"\n\0") + b"\n\n"
            if text.endswith(b"\n\n") and is_whole.fullmatch(text[:-1]):
                found.append(text[:-1])
            else:
                assert b"From s@me.test".startswith(line[:5]), f"no message begins here: {piece!r}"
                self.torn.append((recipient, text.rstrip(b"\n"), len(found)))


def check_mailboxes(disk: FakeDisk, is_whole: re.Pattern[bytes], *, again_at_most: int) -> Mailboxes:
    """Nothing is glued to anything; what is torn is the beginning of a message of which a whole copy follows."""
    found = Mailboxes(disk, is_whole)
    for recipient, text, place in found.torn:
        behind = found.whole[recipient][place:]
        assert any(whole.startswith(text) for whole in behind), f"torn, and no whole copy behind it: {text!r}"
    for recipient, messages in found.whole.items():
        # Two bounces of one message are two messages, by their Received lines.
        queued = [message.split(b"\nReceived: ", 1)[1] for message in messages]
        assert all(queued.count(one) <= 1 + again_at_most for one in queued), f"too often for {recipient!r}"
    return found
