"""What was handed in and what became of it, per message and recipient: the simulation's own book-keeping.

Every message is known by the number of the process that queued it, which its topmost Received line carries. A
delivery that is repeated needs a cause that was written down before (a death between delivery and mark, a connection
lost after the final dot ...): without one it breaks a rule.
"""

import collections
import re

from notqmail.testing.simulation.clockwork import Clockwork, Violation

OFFERED, ACCEPTED, DOUBTFUL, REFUSED = "offered", "accepted", "doubtful", "refused"
_TOP = re.compile(rb"Received: \(qmail (\d+) invoked [^)]*\); [^\n]*\n")
_BREAK = b"--- Below this line is "
_FIRST_PID = 1_000_000


class Effect:
    """One delivery that happened. `place` is the file in a Maildir, or b"" for another host. `cause` explains why
    there may be another one."""

    __slots__ = ("cause", "place")

    def __init__(self, place: bytes, cause: str) -> None:
        self.place, self.cause = place, cause


class Fate:
    """What became of one recipient."""

    __slots__ = ("bounce_cause", "bounced", "discarded", "effects")

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self.bounced, self.discarded = 0, False
        self.bounce_cause = ""  # why there may be another bounce about it


class Letter:
    """A message, whatever became of it. `seen`: qmail-send has logged it as new."""

    __slots__ = ("body", "fates", "of", "pid", "recipients", "seen", "sender", "state")

    def __init__(self, pid: int, sender: bytes, recipients: list[bytes], body: bytes, of: "Letter | None") -> None:
        self.pid, self.sender, self.recipients, self.body, self.of = pid, sender, recipients, body, of
        self.state, self.seen = OFFERED, False
        self.fates = {recipient: Fate() for recipient in recipients}

    def original(self, address: bytes) -> bytes:
        """The recipient as it was given, for an address that routing may have changed. Raises Violation."""
        if address in self.fates:
            return address
        for recipient in self.recipients:
            if address.endswith(b"-" + recipient):
                return recipient
        raise Violation("right recipient", f"message {self.pid} is not for {address.decode()}")


class Account:
    """All letters, those that are not settled in `live`, and counts of what happened."""

    def __init__(self, clock: Clockwork) -> None:
        self._clock = clock
        self.letters: dict[int, Letter] = {}
        self.live: dict[int, Letter] = {}
        self.collected: set[bytes] = set()  # files that their owners have fetched
        self.counts: collections.Counter[str] = collections.Counter()
        self.causes: collections.Counter[str] = collections.Counter()
        self.doubts: collections.Counter[int] = collections.Counter()  # by letter: attempts that qmail-send heard of
        self.again: collections.Counter[int] = collections.Counter()  # by letter: deliveries that were repetitions

    # ── coming in ───────────────────────────────────────────────────────────────────────────────────────

    def offer(self, sender: bytes, recipients: list[bytes], body: bytes, of: Letter | None = None) -> Letter:
        """Somebody is about to hand this in."""
        pid = _FIRST_PID + len(self.letters)
        letter = self.letters[pid] = Letter(pid, sender, recipients, body, of)
        return letter

    def answered(self, letter: Letter, *, accepted: bool, may_be_queued: bool) -> None:
        """What the queue said; no answer at all is a no that may be wrong."""
        letter.state = ACCEPTED if accepted else DOUBTFUL if may_be_queued or letter.seen else REFUSED
        self.counts[letter.state] += 1
        if accepted:
            self.counts["recipients accepted"] += len(letter.recipients)
            self.live[letter.pid] = letter

    # ── reading messages ────────────────────────────────────────────────────────────────────────────────

    def letter_in(self, content: bytes) -> Letter:
        """Which letter this stored message is. Raises Violation when it is not one, whole."""
        top = _TOP.match(content)
        letter = self.letters.get(int(top[1])) if top else None
        if top is None or letter is None:
            raise Violation("whole content", f"a message that nobody wrote: {content[:80]!r}")
        if content[top.end() :] != letter.body:
            raise Violation("whole content", f"message {letter.pid} has {len(content)} bytes, and not those it had")
        return letter

    def bounce_in(self, text: bytes) -> tuple[Letter, list[bytes]]:
        """The letter that a bounce's text is about, and the addresses it tells of."""
        head, _, copy = text.partition(_BREAK)
        start = copy.index(b"\nReturn-Path: <")
        content = copy[copy.index(b"\n", start + 1) + 1 :]
        return self.letter_in(content), addresses_in(head)

    # ── going out ───────────────────────────────────────────────────────────────────────────────────────

    def delivered(self, letter: Letter, recipient: bytes, place: bytes, cause: str = "") -> Effect:
        """Another one has it. Raises Violation for a repetition that nothing explains."""
        if letter.state == REFUSED:
            raise Violation("only accepted mail is delivered", f"{letter.pid} to {recipient.decode()} was refused")
        fate = letter.fates[recipient]
        if fate.effects or fate.bounced:
            self._repeated(letter, recipient, fate, cause)
            self.again[letter.pid] += 1
        effect = Effect(place, cause)
        fate.effects.append(effect)
        self.counts["deliveries"] += 1
        self._clock.note(f"delivered {letter.pid} to {recipient.decode()}{f' ({cause})' if cause else ''}")
        self.settle(letter)
        return effect

    def _repeated(self, letter: Letter, recipient: bytes, fate: Fate, cause: str) -> None:
        earlier = [effect.cause for effect in fate.effects] + [fate.bounce_cause] * bool(fate.bounced)
        if not cause and not all(earlier):
            raise Violation(
                "no duplicate without a cause",
                f"{letter.pid} to {recipient.decode()}: {len(fate.effects)} deliveries, {fate.bounced} bounces before",
            )
        self.counts["duplicates"] += 1
        self.causes[cause or earlier[-1]] += 1

    def told(self, letter: Letter, addresses: list[bytes]) -> None:
        """A bounce that tells of these has been accepted. Raises Violation as `delivered` does."""
        # After a HUP that changed a virtual domain's prefix one bounce may name a recipient in two forms.
        for recipient in dict.fromkeys(map(letter.original, addresses)):
            fate = letter.fates[recipient]
            if fate.bounced or fate.effects:
                self._repeated(letter, recipient, fate, "" if fate.bounced else fate.bounce_cause)
            fate.bounced += 1
            fate.bounce_cause = ""
            self.counts["bounced"] += 1
        self.settle(letter)

    def discard(self, letter: Letter, addresses: list[bytes]) -> None:
        """A triple bounce: nobody is told."""
        for address in addresses:
            fate = letter.fates[letter.original(address)]
            self.counts["discarded"] += not fate.discarded
            fate.discarded = True
        self.settle(letter)

    def collect(self, place: bytes, content: bytes) -> None:
        """The owner of a Maildir has fetched a file. Raises Violation when it is not a whole, expected message."""
        _return_path, delivered_to, message = content.split(b"\n", 2)
        letter = self.letter_in(message)
        recipient = letter.original(delivered_to.removeprefix(b"Delivered-To: "))
        if not any(effect.place == place for effect in letter.fates[recipient].effects):
            raise Violation("nothing appears by itself", f"{place.decode()} holds {letter.pid}: never delivered there")
        self.collected.add(place)
        self.settle(letter)

    def settle(self, letter: Letter) -> None:
        """A letter whose every recipient has got it, or whose failure was told, needs no more looking at."""
        if letter.pid in self.live and all(map(self._is_settled, letter.fates.values())):
            del self.live[letter.pid]

    def _is_settled(self, fate: Fate) -> bool:
        has_it = any(not effect.place or effect.place in self.collected for effect in fate.effects)
        return has_it or fate.bounced > 0 or fate.discarded

    def is_safe(self, fate: Fate, files: "dict[bytes, bytes]") -> bool:
        """Whether nothing more need be done for this recipient, with these files on the disk."""
        return self._is_settled(fate) or any(effect.place in files for effect in fate.effects)


def addresses_in(paragraphs: bytes) -> list[bytes]:
    """Of whom a bounce's paragraphs tell; a half one (the disk was full) may tell of one twice."""
    lines = paragraphs.split(b"\n")
    return list(dict.fromkeys([line[1:-2] for line in lines if line[:1] == b"<" and line[-2:] == b">:"]))
