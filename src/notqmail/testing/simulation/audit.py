"""Looking through the whole queue: every file in a legal state, every accepted recipient accounted for.

Done after each power cut, at each start of qmail-send, now and then, and at the end. It reads the files as
qmail's documents describe them and uses none of our own readers.
"""

import re

from notqmail.testing.simulation.account import ACCEPTED, Account, Letter, addresses_in
from notqmail.testing.simulation.clockwork import Violation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.testing.fake_disk import FakeDisk

_QUEUE_FILE = re.compile(rb"(?:(mess|info|local|remote)/\d+|(intd|todo|bounce))/(\d+)")
_BESIDE_TODO = {b"mess", b"intd", b"todo", b"info", b"local", b"remote", b"bounce"}


class Entry:
    """One message number in the queue: its files by kind."""

    __slots__ = ("files", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.files: dict[bytes, bytes] = {}

    @property
    def is_accepted(self) -> bool:
        """S4."""
        return b"todo" in self.files

    @property
    def waits(self) -> bool:
        """S4 or S5: somebody may still have to get it."""
        return b"todo" in self.files or b"info" in self.files

    def to_do(self, channel: bytes) -> list[bytes]:
        """The addresses in a channel's file (or in todo) that are not done."""
        records = self.files.get(channel, b"").split(b"\0")
        return [record[1:] for record in records if record[:1] == b"T"]


def entries(disk: "FakeDisk") -> dict[int, Entry]:
    """The queue, number by number."""
    found: dict[int, Entry] = {}
    for path, content in disk.everything().items():
        match = _QUEUE_FILE.fullmatch(path)
        if match:
            number = int(match[3])
            found.setdefault(number, Entry(number)).files[match[1] or match[2]] = content
    return found


def check_states(queue: dict[int, Entry]) -> None:
    """Raises Violation for a number that is in none of the states S1 to S5 (queue/layout.py)."""
    for number, entry in queue.items():
        kinds = set(entry.files)
        s2 = b"mess" in kinds and kinds <= {b"mess", b"local", b"remote", b"bounce"}
        s3 = kinds == {b"mess", b"intd"}
        s4 = {b"mess", b"todo"} <= kinds <= _BESIDE_TODO
        s5 = {b"mess", b"info"} <= kinds and not kinds & {b"intd", b"todo"}
        if not (s2 or s3 or s4 or s5):
            names = b" ".join(sorted(kinds)).decode()
            raise Violation("only legal queue states", f"message {number} has {names}")


def check_conservation(queue: dict[int, Entry], disk: "FakeDisk", account: Account) -> None:
    """accepted = delivered + bounced + discarded + waiting, for each recipient. Raises Violation."""
    waiting: set[tuple[int, bytes]] = set()
    for entry in queue.values():
        if entry.waits:
            letter = account.letter_in(entry.files[b"mess"])
            waiting |= {(letter.pid, recipient) for recipient in unfinished(entry, letter)}
    files = disk.everything()
    for letter in account.live.values():
        if letter.state != ACCEPTED:
            continue
        for recipient, fate in letter.fates.items():
            if (letter.pid, recipient) not in waiting and not account.is_safe(fate, files):
                raise Violation("nothing accepted is lost", f"{letter.pid} to {recipient.decode()} is nowhere")


def unfinished(entry: Entry, letter: Letter) -> set[bytes]:
    """The recipients that are to be tried, or whose failure is written down and not told yet."""
    if entry.is_accepted:
        return set(entry.to_do(b"todo"))
    addresses = entry.to_do(b"local") + entry.to_do(b"remote") + addresses_in(entry.files.get(b"bounce", b""))
    return {letter.original(address) for address in addresses}


def explain_repetitions(queue: dict[int, Entry], account: Account, cause: str) -> None:
    """After a death: who has a message and is still to be tried may get it again, because of `cause`."""
    for entry in queue.values():
        if not entry.waits:
            continue
        letter = account.letter_in(entry.files[b"mess"])
        for recipient in unfinished(entry, letter):
            fate = letter.fates[recipient]
            for effect in fate.effects:
                effect.cause = effect.cause or cause
            fate.bounce_cause = fate.bounce_cause or cause
