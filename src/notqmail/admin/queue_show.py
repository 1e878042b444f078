"""`notqmail queue`: what waits, in a few lines for people.

Changes nothing; safe on a live queue, whose messages may end while we look: those are passed over.
"""

from notqmail.admin.command_line import counted, noun
from notqmail.message.dates import header_date
from notqmail.message.log_text import log_text
from notqmail.queue.store import CHANNELS, LOCAL, REMOTE, BadRecord, QueueStore
from notqmail.send.schedule import next_retry_s

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from notqmail.unix.durable import Disk

HOSTS_SHOWN = 10
_HOST_BYTES_SHOWN = 60
_TRIES_MAX = 1_000  # far more than a lifetime of years holds


class Summary:
    """What was found. Times are in seconds since 1970; `oldest` is (birth, number); 0 or None where there is none."""

    def __init__(self) -> None:
        self.in_todo = self.preprocessed = self.unreadable = 0
        self.waiting = dict.fromkeys(CHANNELS, 0)
        self.waiting_in_todo = self.done = self.bouncing = self.finished = self.bytes = 0
        self.oldest: tuple[int, int] | None = None
        self.next_due_s: int | None = None
        self.hosts: dict[bytes, int] = {}


def summarize(disk: "Disk", now_s: int, *, is_running: bool, seen: "Callable[[], object]" = lambda: None) -> Summary:
    """Looks at the whole queue once. While qmail-send runs, its schedule is worked out from each message's age; a queue
    at rest says itself when it is due. Raises OSError when the queue cannot be read.
    """
    store, found = QueueStore(disk), Summary()
    for number in store.accepted_numbers():
        seen()
        _count_accepted(store, number, found, disk)
    for message in store.waiting():
        seen()
        try:
            birth_s, _ = store.birth_and_sender(message.number)
            mess = store.message_state(message.number)
            records = {channel: store.recipients(message.number, channel) for channel in message.due_s}
        except FileNotFoundError:
            continue  # ended meanwhile
        except (OSError, BadRecord):
            found.unreadable += 1
            continue
        found.preprocessed += 1
        found.bytes += mess.size if mess is not None else 0
        found.bouncing += disk.state(b"bounce/%d" % message.number) is not None
        found.finished += not records
        _age(found, birth_s, message.number)
        for channel, data in records.items():
            undone = _count_records(found, channel, data)
            if undone:
                due_s = _due_s(birth_s, now_s, channel) if is_running else message.due_s[channel]
                found.next_due_s = due_s if found.next_due_s is None else min(found.next_due_s, due_s)
    return found


def _count_accepted(store: QueueStore, number: int, found: Summary, disk: "Disk") -> None:
    try:
        accepted = store.read_accepted(number)
        state = disk.state(b"todo/%d" % number)
    except FileNotFoundError:
        return  # preprocessed or done meanwhile; or damaged, which the check says
    except (OSError, BadRecord):
        found.unreadable += 1
        return
    found.in_todo += 1
    found.bytes += accepted.size
    found.waiting_in_todo += len(accepted.recipients)
    for recipient in accepted.recipients:
        _count_host(found, recipient)
    if state is not None:
        _age(found, state.modified_s, number)


def _count_records(found: Summary, channel: bytes, data: bytes) -> int:
    undone = 0
    for record in data.split(b"\0")[:-1]:
        if record[:1] == b"D":
            found.done += 1
        elif record[:1] == b"T":
            undone += 1
            if channel != LOCAL:
                _count_host(found, record[1:])
    found.waiting[channel] += undone
    return undone


def _count_host(found: Summary, recipient: bytes) -> None:
    host = recipient.rpartition(b"@")[2].lower()
    found.hosts[host] = found.hosts.get(host, 0) + 1


def _age(found: Summary, birth_s: int, number: int) -> None:
    if found.oldest is None or (birth_s, number) < found.oldest:
        found.oldest = birth_s, number


def _due_s(birth_s: int, now_s: int, channel: bytes) -> int:
    """The next of the times at which this age is tried: as if each pass had begun when it was due."""
    due_s = birth_s
    for _ in range(_TRIES_MAX):
        if due_s > now_s:
            break
        due_s = next_retry_s(birth_s, due_s, channel)
    return due_s


def as_text(found: Summary, now_s: int, *, is_running: bool | None) -> str:
    """The summary. `is_running`: whether a qmail-send works on this queue; None when we may not know."""
    state = {True: "qmail-send is running", False: "qmail-send is not running", None: "qmail-send: no right to ask"}
    recipients = found.waiting_in_todo + sum(found.waiting.values())
    lines = [
        f"messages    {found.in_todo + found.preprocessed:>10}   {_size(found.bytes)}",
        f"recipients  {recipients:>10}   who wait: {found.waiting[LOCAL]} local, {found.waiting[REMOTE]} remote"
        f", {found.waiting_in_todo} not sorted yet; {found.done} more are done",
    ]
    notes = (
        (found.in_todo, "not preprocessed (perhaps being tried for the first time)"),
        (found.bouncing, "with failures to tell the sender of"),
        (found.finished, "done with, but for the end"),
        (found.unreadable, "that cannot be read: see `notqmail queue check`"),
    )
    lines += [f"{count:>22}   {noun(count, 'message')} {text}" for count, text in notes if count]
    if found.oldest is not None:
        birth_s, number = found.oldest
        lines.append(f"oldest      {_span(now_s - birth_s):>10}   message {number}, {_date(birth_s)}")
    if found.next_due_s is not None:
        wait_s = found.next_due_s - now_s
        lines.append(f"next due    {_span(wait_s) if wait_s > 0 else 'now':>10}   {_date(found.next_due_s)}")
    if found.hosts:
        lines.append("hosts with most recipients waiting:")
        ranked = sorted(found.hosts.items(), key=lambda one: (-one[1], one[0]))
        lines += [f"{count:>22}   {_host(host)}" for host, count in ranked[:HOSTS_SHOWN]]
        if len(ranked) > HOSTS_SHOWN:
            rest = ranked[HOSTS_SHOWN:]
            lines.append(f"{sum(count for _, count in rest):>22}   at {counted(len(rest), 'more host')}")
    return "\n".join([*lines, f"{state[is_running]}."])


def _date(at_s: int) -> str:
    return header_date(at_s).decode().removesuffix(" -0000") + " UTC"


def _host(host: bytes) -> str:
    shown = log_text(host).decode()
    return (shown if len(shown) <= _HOST_BYTES_SHOWN else shown[:_HOST_BYTES_SHOWN] + "...") or "(no host)"


def _span(span_s: int) -> str:
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if span_s >= 2 * unit_s:
            return f"{span_s // unit_s} {unit}"
    return f"{max(0, span_s)} s"


def _size(size: int) -> str:
    for unit, name in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")):
        if size >= 10 * unit:
            return f"{size // unit} {name}"
    return f"{size} bytes"
