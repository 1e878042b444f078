"""Looking into todo: what has been accepted (S4), and where its recipients are.

A look begins when the trigger is pulled, and every 25 minutes. It takes the directory bit by bit: a batch a turn, less
when a delivery has ended meanwhile, so that deliveries go on while a flood comes in ("silly qmail"). A message then
goes one of two ways:

- one recipient (most mail): it is tried straight from todo. If that succeeds, info and local or remote are never
  written; todo/N itself is the mark that somebody is left, as local/N would be. If not, it is *settled*: see below.
- else, or when very much waits already, it is settled: S4 becomes S5 (info, local, remote), one barrier a batch, and
  qmail-clean removes todo/N.
"""

from notqmail.queue.store import BadRecord
from notqmail.send.log import safe
from notqmail.send.schedule import FOREVER_S, TODO_S, TROUBLE_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from notqmail.control.rewrite import Routing
    from notqmail.queue.store import Accepted, QueueStore
    from notqmail.send.cleaner_link import CleanerLink
    from notqmail.send.log import Log

BATCH_MAX = 64
DIRECT_MAX = 10_000  # messages that may wait in todo for a slot; beyond it they are settled
_MANY = 200  # with more that nobody has tried yet, looks (each passes over all of them) come apart:
_TRIED_A_SECOND = 1_000  # by less than the time in which those are tried, so that no slot is left without work,
_PAUSE_MAX_S = 1.0  # and at most so long
_NAMES_A_LOOK = 256  # between two questions whether to stop


class Routed:
    """A message with its recipients by channel, and since when it is known. `in_todo`: not settled (yet)."""

    __slots__ = ("birth_s", "in_todo", "number", "recipients", "sender")

    def __init__(self, number: int, sender: bytes, recipients: "Mapping[bytes, Sequence[bytes]]", birth_s: int) -> None:
        self.number, self.sender, self.recipients, self.birth_s = number, sender, recipients, birth_s
        self.in_todo = True


class Preprocessor:
    """The look into todo. `routing` may be replaced (HUP)."""

    def __init__(
        self, store: "QueueStore", log: "Log", cleaner: "CleanerLink", routing: "Routing",
        rearm_trigger: "Callable[[], None]",
    ) -> None:  # fmt: skip
        self._store, self._log, self._cleaner, self.routing = store, log, cleaner, routing
        self._rearm_trigger = rearm_trigger
        self._scan: Iterator[int] | None = None
        self._pulled = False
        self._next_look_s = 0  # the first turn looks
        self._began_s = -_PAUSE_MAX_S  # the last look, by the steady clock
        self._now_s = 0  # at the last turn
        self._aside: dict[int, int] = {}  # number -> when to look at it again (`set_aside`)
        self._half_settled: set[int] = set()  # these may have info, local and remote beside todo/N
        self._looked_once = False
        self._look_for_halves = True  # an earlier life may have left some: the first look asks the disk

    @property
    def looking(self) -> bool:
        """Whether a look is under way: then there is no reason to wait."""
        return self._scan is not None

    @property
    def pulled(self) -> bool:
        """Whether the trigger has been pulled since the last look began."""
        return self._pulled

    def pull(self) -> None:
        """The trigger: there is something new."""
        self._pulled = True

    def look_at_all(self) -> None:
        """ALRM: the next turn looks, also at what was set aside."""
        self._aside.clear()
        self._pulled = True

    def next_look_s(self) -> int:
        """When to look again without being asked to."""
        return min([self._next_look_s, *self._aside.values()])

    def pause_s(self, untried: int, steady_s: float) -> float:
        """How long a look that was asked for still waits, with so many new messages that wait already: with many for a
        moment, since it passes over all of them. FOREVER_S when none was asked for.
        """
        if not self._pulled:
            return FOREVER_S
        pause_s = min(untried / _TRIED_A_SECOND, _PAUSE_MAX_S) if untried > _MANY else 0.0
        return max(0.0, self._began_s + pause_s - steady_s)

    def turn(
        self, known: "Mapping[int, object]", now_s: int, steady_s: float, *, untried: int = 0,
        is_wanted: "Callable[[], bool]" = lambda: False,
    ) -> list[Routed]:  # fmt: skip
        """The next batch of messages that are new, routed. `known` are those in todo that are being tried already,
        `untried` those that wait for their first try; `is_wanted` says that something else must not wait longer.

        What could not be settled stays in todo for a later look. Raises CleanerLost.
        """
        if now_s < self._now_s:
            self._clock_set_back(now_s)
        self._now_s = now_s
        if self._scan is None:
            if self.pause_s(untried, steady_s) and now_s < self.next_look_s():
                return []
            self._pulled = False
            self._rearm_trigger()  # first: a pull from here on asks for another look
            self._scan = self._store.accepted_numbers()
            self._look_for_halves = not self._looked_once
            self._next_look_s = now_s + TODO_S
            self._began_s = steady_s
            self._aside = {number: due_s for number, due_s in self._aside.items() if due_s > now_s}
        direct: list[Routed] = []
        to_settle: list[Routed] = []
        for number in self._new_numbers(known, is_wanted):
            routed = self._route(number, now_s)
            if routed is not None:
                alone = sum(map(len, routed.recipients.values())) == 1 and not self._is_half_settled(number)
                (direct if alone and len(known) + len(direct) < DIRECT_MAX else to_settle).append(routed)
            if len(direct) + len(to_settle) >= BATCH_MAX or is_wanted():
                break
        try:
            return direct + self.settle(to_settle)
        except OSError:
            self._log.warning(b"trouble writing to the queue, will look into todo again")
            self.set_aside(message.number for message in to_settle)
            return direct

    def _clock_set_back(self, now_s: int) -> None:
        """What was planned by the old time must not wait until it comes round again."""
        self._next_look_s = min(self._next_look_s, now_s + TODO_S)
        self._aside = {number: min(due_s, now_s + TROUBLE_S) for number, due_s in self._aside.items()}

    def settle(self, messages: list[Routed]) -> list[Routed]:
        """S4 to S5 for these; returns those it is done for. The others stay in todo, for a later look.

        Raises WriteFailed, CleanerLost.
        """
        written: list[Routed] = []
        paths: list[bytes] = []
        self._half_settled |= {message.number for message in messages}
        for message in messages:
            try:
                paths += self._store.write_preprocessed(
                    message.number, message.sender, message.recipients, message.birth_s
                )
            except OSError as trouble:
                self._log.warning(_complaint(message.number, trouble))
                continue
            written.append(message)
        if not written:
            return []
        self._store.keep_preprocessed(paths)
        removed = self._cleaner.remove([b"todo/%d" % message.number for message in written])
        for message, gone in zip(written, removed, strict=True):
            message.in_todo = not gone
            message.recipients = dict.fromkeys(message.recipients, ())  # they are on disk now, maybe a million
            if gone:
                self._half_settled.discard(message.number)
            else:
                self._log.warning(b"qmail-clean unable to clean up todo/%d" % message.number)
        return [message for message in written if not message.in_todo]

    def _is_half_settled(self, number: int) -> bool:
        """Whether it is to be settled anew even for one recipient: delivered straight from todo it would leave info and
        local behind, and whoever gets its number next would be sent to its recipients.
        """
        return number in self._half_settled or (self._look_for_halves and self._store.has_leftovers(number))

    def set_aside(self, numbers: "Iterable[int]") -> None:
        """These have been tried and could not be settled: the next look, which a pull may bring at once, leaves them
        alone for TROUBLE_S, or each would be tried (and perhaps half delivered) again and again.
        """
        self._aside |= dict.fromkeys(numbers, self._now_s + TROUBLE_S)

    def _new_numbers(self, known: "Mapping[int, object]", is_wanted: "Callable[[], bool]") -> "Iterator[int]":
        """The next numbers of this look that are new; the look is over when they end, unless `is_wanted` ended them."""
        assert self._scan is not None
        try:
            for count, number in enumerate(self._scan, 1):
                if number not in known and number not in self._aside:
                    yield number
                if count % _NAMES_A_LOOK == 0 and is_wanted():
                    return
            self._looked_once = True
        except OSError:
            self._log.alert(b"unable to opendir todo, will look again later")
        self._scan = None

    def _route(self, number: int, now_s: int) -> Routed | None:
        """A message that is new; None when it cannot be read, or is none any more."""
        try:
            accepted = self._store.read_accepted(number)
        except FileNotFoundError as gone:
            if gone.filename != b"todo/%d" % number:
                self._log.warning(_complaint(number, gone))
            return None  # else it has ended since the directory was read
        except (OSError, BadRecord) as trouble:
            self._log.warning(_complaint(number, trouble))
            return None
        self._log.line(b"new msg %d" % number)
        self._log.line(_info_line(accepted))
        self._store.ledger.note(b"n %d %d %d" % (number, accepted.pid, len(accepted.recipients)))
        recipients: dict[bytes, list[bytes]] = {}
        for recipient in accepted.recipients:
            channel, address = self.routing.route(recipient)
            recipients.setdefault(channel, []).append(address)
        return Routed(number, accepted.sender, recipients, now_s)


def _info_line(accepted: "Accepted") -> bytes:
    return b"info msg %d: bytes %d from <%b> qp %d uid %d" % (
        accepted.number, accepted.size, safe(accepted.sender), accepted.pid, accepted.uid,
    )  # fmt: skip


def _complaint(number: int, trouble: Exception) -> bytes:
    if isinstance(trouble, BadRecord):
        return b"unknown record type in " + trouble.path
    assert isinstance(trouble, OSError)
    name = trouble.filename if isinstance(trouble.filename, bytes) else b"todo/%d" % number
    if isinstance(trouble, FileNotFoundError):
        return b"unable to stat " + name
    return b"trouble preprocessing %b: %b" % (name, (trouble.strerror or "unknown error").encode())
