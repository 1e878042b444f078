"""What was promised and what came: the books that a chaos run is audited by.

Every message carries a number, a length and a checksum in its body, and every recipient is an address of its own, so
each file in a Maildir, each part of an mbox and each transaction at the sink says by itself what it is and whether
it is whole.
"""

import email.utils
import hashlib
import random
import re
from collections import defaultdict

ARRIVES = ("md", "prog", "mbox", "fwd", "sink")  # kinds of recipients that must get it
BOUNCES = ("nobody", "hard")  # kinds whose sender must be told
DOMAIN = {"sink": "sink.test", "hard": "sink.test"}

ACCEPTED, REFUSED, DOUBT, UNFINISHED = "accepted", "refused", "doubt", "unfinished"
"""What the client saw: 250; 5xx; 4xx or silence after the final dot; it left before the final dot."""

_FRAME = re.compile(rb"^BEGIN (\d+) (\d+) ([0-9a-f]{16})\n(.*?)^END \1\n", re.MULTILINE | re.DOTALL)
_OPENING = re.compile(rb"^BEGIN \d+ \d+ [0-9a-f]{16}$", re.MULTILINE)
_RECIPIENT = re.compile(rb"(?:root-)?((?:md|prog|mbox|fwd|sink|nobody|hard)-\d+-\d+)@")
_ALPHABET = bytes(range(32, 127)) + "äöüßé".encode("latin-1")


class Mail:
    """One message: number, recipients as (kind, index), what its client saw."""

    __slots__ = ("answer", "kinds", "number", "size", "when_s")

    def __init__(self, number: int, kinds: list[str], size: int) -> None:
        self.number, self.kinds, self.size = number, kinds, size
        self.answer, self.when_s = UNFINISHED, 0.0

    def recipients(self) -> list[str]:
        """kind-number-index: what tells this recipient from every other of the run."""
        return [f"{kind}-{self.number}-{index}" for index, kind in enumerate(self.kinds)]


def local_part(key: str, user: str) -> str:
    """What stands before the @ for a recipient's key."""
    return key if key.split("-")[0] in ("nobody", "sink", "hard") else f"{user}-{key}"


def addresses(mail: Mail, user: str) -> list[str]:
    """The envelope's recipients."""
    return [f"{local_part(key, user)}@{DOMAIN.get(key.split('-')[0], 'localhost')}" for key in mail.recipients()]


def sender(mail: Mail, user: str) -> str:
    """Bounces come back to an address that names the message."""
    return f"{user}-ret-{mail.number}@localhost"


def payload(mail: Mail, seed: int) -> bytes:
    """The lines between BEGIN and END: the traps of mbox and SMTP among them."""
    chance = random.Random(f"{seed}/{mail.number}")
    lines, length = [], 0
    while length < mail.size:
        kind = chance.random()
        if kind < 0.05:
            line = b"From me to you, 1970"
        elif kind < 0.1:
            line = b">From me"
        elif kind < 0.2:
            line = b"." * chance.randint(1, 3)
        else:
            line = bytes(chance.choices(_ALPHABET, k=chance.randint(0, 200)))
        lines.append(line + b"\n")
        length += len(line) + 1
    return b"".join(lines)


def text(mail: Mail, seed: int, user: str) -> bytes:
    """The whole message with bare newlines."""
    body = payload(mail, seed)
    head = f"From: <{sender(mail, user)}>\nTo: chaos:;\nSubject: chaos {mail.number}\n\n".encode()
    frame = f"BEGIN {mail.number} {len(body)} {hashlib.sha256(body).hexdigest()[:16]}\n".encode()
    return head + frame + body + f"END {mail.number}\n".encode()


def whole_numbers(content: bytes) -> list[int]:
    """The numbers of the messages that are whole in these bytes."""
    found = []
    for match in _FRAME.finditer(content):
        number, length, digest = int(match[1]), int(match[2]), match[3].decode()
        if len(match[4]) == length and hashlib.sha256(match[4]).hexdigest()[:16] == digest:
            found.append(number)
    return found


def queued_s(content: bytes) -> float:
    """When this copy was queued, by the newest Received line: a forward or a bounce is made then, and arrives later."""
    found = re.search(rb"^Received: \(qmail \d+ invoked [^;]*; (.*)$", content, re.MULTILINE)
    return email.utils.parsedate_to_datetime(found[1].decode()).timestamp() if found else 0.0


def unquote_mbox(content: bytes) -> bytes:
    """mboxrd backwards."""
    return re.sub(rb"^>(>*From )", rb"\1", content, flags=re.MULTILINE)


def recipient_keys(content: bytes) -> list[str]:
    """The keys in the Delivered-To lines before the message's own header ends."""
    header = content.partition(b"\n\n")[0]
    lines = [line for line in header.split(b"\n") if line.startswith(b"Delivered-To: ")]
    return [match[1].decode() for line in lines if (match := _RECIPIENT.search(line))]


class Book:
    """One round's promises and arrivals. `arrivals`: key -> for each copy (seconds at which a second one may have been
    begun at the earliest, seconds at which it came): the two differ for what is queued again on its way.
    """

    def __init__(self, seed: int, user: str) -> None:
        self.seed, self.user = seed, user
        self.mails: dict[int, Mail] = {}
        self.arrivals: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.bounces: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.sink_refused: set[str] = set()  # answered 5xx by the sink's whim
        self.sink_repeats: dict[str, int] = defaultdict(int)  # taken, but the connection fell before our 250
        self.bulk_promised: dict[int, int] = {}  # run of smtp-source that ended well -> messages
        self.bulk_arrivals: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)  # (run, number)
        self.bulk_bodies: set[bytes] = set()
        self.faults: list[str] = []
        self.torn_in_mbox = 0

    def fault(self, line: str) -> None:
        """Something that must not be."""
        self.faults.append(line)

    def arrived(self, content: bytes, when_s: float, place: str) -> None:
        """A file that a delivery made: its last Delivered-To of ours says for whom it was."""
        keys = recipient_keys(content)
        numbers = whole_numbers(content)
        if not keys:
            self.fault(f"{place}: mail for nobody we know: {content[:300]!r}")
        elif numbers != [int(keys[-1].split("-")[1])]:
            self.fault(f"{place}: not whole: {keys} holds {numbers}: {len(content)} bytes")
        else:
            self.arrivals[keys[-1]].append((queued_s(content) if keys[-1].startswith("fwd") else when_s, when_s))

    def bounce_arrived(self, content: bytes, when_s: float, place: str) -> None:
        """A bounce names the recipients that failed and has the message whole."""
        header = content.partition(b"\n\n")[0]
        named = re.search(rb"^Delivered-To: \S+-ret-(\d+)@", header, re.MULTILINE)
        report = content.partition(b"\n\n")[2].partition(b"\n--- Below this line")[0]
        failed = re.findall(rb"^<(?:\S+-)?((?:md|prog|mbox|fwd|sink|nobody|hard)-\d+-\d+)@\S+>:", report, re.MULTILINE)
        if not named or not failed or whole_numbers(content) != [int(named[1])]:
            self.fault(f"{place}: strange or torn bounce: {content[:600]!r}")
            return
        for key in set(failed):  # named twice: noted, then a crash before the mark, then noted again
            self.bounces[key.decode()].append((queued_s(content), when_s))

    def bulk_arrived(self, content: bytes, when_s: float, place: str) -> None:
        """A message of smtp-source: all of one run have one body."""
        named = re.search(rb"^Delivered-To: \S+-bulk-(\d+)x(\d+)@", content, re.MULTILINE)
        if not named:
            self.fault(f"{place}: not for bulk: {content[:300]!r}")
            return
        self.bulk_bodies.add(hashlib.sha256(content.partition(b"\n\n")[2]).digest())
        self.bulk_arrivals[(int(named[2]), int(named[1]))].append((when_s, when_s))

    def mbox_arrived(self, content: bytes, when_s: float) -> None:
        """A whole mbox. Its deliveries have no file times, so each copy counts as come at `when_s`."""
        content = unquote_mbox(content)
        parts = re.split(rb"(?=^Return-Path: <)", content, flags=re.MULTILINE)
        for part in parts[1:]:
            keys, numbers = recipient_keys(part), whole_numbers(part)
            if keys and numbers == [int(keys[0].split("-")[1])]:
                self.arrivals[keys[0]].append((when_s, when_s))
            else:
                self.torn_in_mbox += 1

    # ── the audit ───────────────────────────────────────────────────────────────────────────────────────

    def duplicates(self) -> dict[str, list[tuple[float, float]]]:
        """Every recipient (or bounce, or smtp-source message) that came more than once: when."""
        many = {key: times for key, times in self.arrivals.items() if len(times) > 1 + self.sink_repeats[key]}
        many |= {f"bounce of {key}": times for key, times in self.bounces.items() if len(times) > 1}
        many |= {f"bulk {key}": times for key, times in self.bulk_arrivals.items() if len(times) > 1}
        return many

    def audit(self) -> None:
        """Adds a fault for everything that is missing, unasked for, or came in two minds."""
        known = {key: mail for mail in self.mails.values() for key in mail.recipients()}
        for key in [*self.arrivals, *self.bounces]:
            if key not in known:
                self.fault(f"{key}: nobody sent that")
            elif known[key].answer in (REFUSED, UNFINISHED):
                self.fault(f"{key}: came although its client saw: {known[key].answer}")
        for key, mail in known.items():
            self._audit_recipient(key, mail)
        for run, count in self.bulk_promised.items():
            missing = count - len({number for found, number in self.bulk_arrivals if found == run})
            if missing > 0:
                self.fault(f"bulk run {run}: {missing} of {count} accepted messages are lost")
        if len(self.bulk_bodies) > 1:
            self.fault(f"smtp-source's messages came with {len(self.bulk_bodies)} different bodies")

    def _audit_recipient(self, key: str, mail: Mail) -> None:
        kind = key.split("-")[0]
        came, told = bool(self.arrivals.get(key)), bool(self.bounces.get(key))
        if kind in BOUNCES:
            if came:
                self.fault(f"{key}: was delivered, and has nowhere to go")
            if mail.answer == ACCEPTED and not told:
                self.fault(f"{key}: accepted at {mail.when_s:.2f}, undeliverable, and no bounce came")
            return
        if told and key not in self.sink_refused:
            self.fault(f"{key}: bounced without a reason")
        if mail.answer == ACCEPTED and not came and not told:
            self.fault(f"{key}: LOST: accepted at {mail.when_s:.2f}, {mail.size} bytes, to {mail.kinds}")
