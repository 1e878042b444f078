"""What must be found after a power cut: `faults` is empty, or somebody has been lied to.

Messages are made from a number and a size, so that what is found can be compared to its last byte.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from machine import Machine, World
from power_disk import MountedDisk, QuickDisk
from queue_states import FixedClock, legal_states

from notqmail.queue.layout import number_of, split_path
from notqmail.receive.enqueue import Enqueuer, Request
from notqmail.wire import queue_exit

ACCEPTED, REPORTED = b"accepted", b"reported"  # marks: this word, a space, the message's number
_HEAD = re.compile(rb"^Subject: m(\d+) (\d+)\n", re.MULTILINE)
_ENVELOPE = re.compile(rb"u\d+\0p\d+\0Fs(\d+)@me\.test\0T[a-z]+@me\.test\0")
_TURNS_MAX = 400
GoOn = Callable[[QuickDisk, set[int]], list[str]]
_AFTER_THE_CUT = 999_999  # the number of the message that is sent then


@lru_cache(maxsize=512)
def text_of(number: int, size: int) -> bytes:
    """The message `number`, about `size` bytes long; no two lines of no two messages are alike."""
    lines = [b"Subject: m%d %d\n\n" % (number, size)]
    written = 0
    while written < size:
        lines.append(b"%d of m%d %b\n" % (len(lines), number, b"x" * min(60, size - written)))
        written += len(lines[-1])
    return b"".join(lines) + b"end of m%d\n" % number


def whole(content: bytes) -> int | None:
    """The number of the message that `content` is, header lines before it allowed; None when it is no whole one."""
    found = _HEAD.search(content)
    if found is None:
        return None
    number, size = int(found[1]), int(found[2])
    return number if content[found.start() :] == text_of(number, size) else None


def marked(marks: list[bytes], word: bytes) -> set[int]:
    """The numbers of the messages of which this was said before the cut."""
    return {int(mark.split(b" ")[1]) for mark in marks if mark.startswith(word + b" ")}


def faults(home: Path, marks: list[bytes], go_on: GoOn | None = None) -> list[str]:
    """Looks at a home after a cut, and lets its queue go on; returns what is wrong, in words.

    `go_on` is given the queue and the numbers of the messages that lie in it, and says what is wrong with how it ends;
    None: qmail-send's parts in this process.
    """
    disk = QuickDisk(home / "queue")
    queued, found = _queued(disk)
    delivered, torn = in_maildir(home)
    found += torn
    found += [f"m{number} was accepted and is nowhere" for number in marked(marks, ACCEPTED) - queued - set(delivered)]
    found += [f"m{number} was reported as delivered and is not" for number in marked(marks, REPORTED) - set(delivered)]
    found += [f"m{number} is in the Maildir {count} times" for number, count in delivered.items() if count > 1]
    return found or (go_on or _going_on)(disk, queued)


def in_maildir(home: Path) -> tuple[Counter[int], list[str]]:
    """How often each message has been delivered, and what lies there that is no whole message."""
    delivered, torn = Counter[int](), []
    for path in (home / "Maildir" / "new").iterdir():
        content = path.read_bytes()
        number = whole(content)
        if number is None:
            torn.append(f"torn, in new/: {path.name}, {len(content)} bytes: {content[:40]!r}...")
        else:
            delivered[number] += 1
    return delivered, torn


class _Seen:
    """What lies in a queue, read once."""

    def __init__(self, disk: MountedDisk) -> None:
        self._files = disk.everything()

    def everything(self) -> dict[bytes, bytes]:
        return self._files


def _queued(disk: MountedDisk) -> tuple[set[int], list[str]]:
    """The messages that will be delivered, and what is wrong with the queue."""
    seen = _Seen(disk)
    files = seen.everything()
    try:
        legal_states(seen)  # type: ignore[arg-type]
    except AssertionError as error:
        return set(), [str(error)]
    found, numbers = [], set()
    for path, content in files.items():
        kind, name = path.split(b"/")[0], number_of(path.rsplit(b"/", 1)[1])
        if name is None or kind not in (b"todo", b"info"):
            continue
        message = files[split_path(b"mess", name)]
        number = whole(message)
        if number is None:
            found.append(f"torn, and has a name in {path!r}: {len(message)} bytes, {message[:40]!r}...")
        elif kind == b"info":
            records = [files.get(split_path(channel, name), b"") for channel in (b"local", b"remote")]
            numbers |= {number} if any(record.startswith(b"T") for record in records) else set()
        else:
            envelope = _ENVELOPE.fullmatch(content)
            if envelope is None or int(envelope[1]) != number:
                found.append(f"the envelope of m{number} is {content[:80]!r}, {len(content)} bytes")
            numbers.add(number)
    return numbers, found


def _going_on(disk: QuickDisk, queued: set[int]) -> list[str]:
    """qmail-send starts on what is left, and one more message comes: all must be delivered, and the queue be empty."""
    one = Request(
        [text_of(_AFTER_THE_CUT, 10)],
        [b"s%d@me.test" % _AFTER_THE_CUT, b"r@me.test"],
        uid=7,
        pid=1,
        invoked=b"by uid 7",
    )
    world = World({})
    try:
        Enqueuer(disk, FixedClock(disk.now_s), 9).enqueue([one])
        if one.exit_code != queue_exit.ACCEPTED:
            return [f"nothing can be queued any more: {one.exit_code}"]
        machine = Machine(disk, world, disk.now_s, concurrency=20)  # type: ignore[arg-type]
        for _ in range(_TURNS_MAX):
            machine.loop.turn()
            if disk.is_empty() and not machine.sender.ended and not machine.sender.ended_in_todo:
                break
    except (OSError, AssertionError) as error:
        return [f"the queue does not go on: {error}"]
    delivered = Counter(whole(message) for _, _, message in world.delivered)
    if delivered != Counter({*queued, _AFTER_THE_CUT}):
        return [f"of {sorted(queued)} and one more, delivered are {sorted(map(str, delivered.elements()))}"]
    return []
