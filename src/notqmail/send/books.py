"""qmail-send's side of the ledger: what it enters, and what it makes good after a crash (queue/ledger.py).

The ledger never holds mail up: when its lines cannot be written they wait. What is entered is always written before
the step it tells of, so after a kill the lines are complete or one step ahead, never behind.
"""

from collections import deque

from notqmail.queue.ledger import which
from notqmail.queue.ledger_events import Events
from notqmail.queue.store import LOCAL, REMOTE, BadRecord
from notqmail.wire.reports import PERMANENT, SUCCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.queue.ledger_account import Account
    from notqmail.queue.store import QueueStore
    from notqmail.send.channels import Attempt
    from notqmail.send.log import Log
    from notqmail.wire.reports import Report

_DIED = (b"Connected to ", b" but connection died. Possible duplicate! (#4.4.2)")  # qmail-remote(8)'s, and C's
_RECENT_MAX = 1_000  # ended messages that may still be in todo at an exit: the loop has 128 at most in hand
_UNCLEAR = b" failed after I sent the message."
_REFUSED = (b"Remote host said: 4", b"Remote host said: 5")
_CRASHED = {LOCAL: b"qmail-local crashed.", REMOTE: b"qmail-remote crashed."}


def is_in_doubt(channel: bytes, report: "Report | None") -> bool:
    """Whether nobody knows if the message has arrived: the connection died after the final dot, the answer to that was
    neither yes nor no, the process that delivered it died before it could tell, or its report cannot be read.

    The first line says so: what follows are the peer's own words, or a user's program's.
    """
    if report is None:
        return True
    if report.kind == SUCCESS:
        return False
    first, _, said = report.text.partition(b"\n")
    if first == _CRASHED[channel]:
        return True
    if channel != REMOTE:
        return False
    if first.endswith(_UNCLEAR):
        return not said.startswith(_REFUSED)
    return first.startswith(_DIED[0]) and first.endswith(_DIED[1])


class Books:
    """Enters events in the store's ledger. Where none is kept nothing here costs anything."""

    def __init__(self, store: "QueueStore", log: "Log") -> None:
        self._store, self._log, self._ledger = store, log, store.ledger
        self._in_trouble = False
        self._under_way: dict[int, int] = {}  # message number -> deliveries
        self._recently_ended: deque[int] = deque(maxlen=_RECENT_MAX)

    def open(self) -> None:
        """At start-up: after a qmail-send that did not stop by itself, makes good what the journal lacks.

        Raises OSError when the queue cannot be read.
        """
        if not self._ledger.kept:
            return
        if self._ledger.last_line() not in (b"stop", b""):  # empty: a ledger that has just been made
            events = Events(forgetful=True)
            events.read(self._ledger.each_line())
            for account in events.living.values():
                if account.known:
                    self._make_good(account)
        self._ledger.note(b"start")
        self.flush()

    def close(self) -> None:
        """At a clean exit: nothing is under way, but what was with a spawner that has died.

        It was not so clean when a message that ended is still in todo, because qmail-clean has died: the next start
        must know that this one comes again.
        """
        for number, count in self._under_way.items():
            self._note_interrupted(number, count, b"its spawner")
        self._under_way.clear()
        if not any(map(self._is_left, self._recently_ended)):
            self._ledger.note(b"stop")
        self.flush()

    def begun(self, number: int) -> None:
        """A delivery to one recipient of this message begins."""
        if not self._ledger.kept:
            return
        self._ledger.note(b"s %d" % number)
        self._under_way[number] = self._under_way.get(number, 0) + 1

    def enter(self, ended: "list[tuple[Attempt, Report | None]]") -> None:
        """What reports say, before anything is marked: no mark is ever without its line."""
        for attempt, report in ended:
            number, channel = attempt.job.number, attempt.job.channel.name
            self._no_longer_under_way(number)
            letter = b"z"
            if report is not None and report.kind == SUCCESS:
                letter = b"k"
            elif is_in_doubt(channel, report):
                is_over = report is not None and report.kind == PERMANENT
                letter = b"u" if is_over else b"?"
                self._log_doubt(attempt, b"its time is over" if is_over else b"will try again")
            elif report is not None and report.kind == PERMANENT:
                letter = b"b"
            recipient = which(channel, attempt.offset)
            if recipient and letter != b"z":
                self._ledger.note(b"%b %d %d" % (letter, number, recipient))
            else:
                self._ledger.note(b"%b %d" % (letter, number))
        self.flush()

    def not_told(self, attempt: "Attempt", report: "Report | None") -> None:
        """A failure that was entered could not be noted for the bounce: the recipient is tried again."""
        if report is not None and report.kind == PERMANENT:
            self._ledger.note(b"r %d" % attempt.job.number)

    def ended(self, number: int) -> None:
        """The message ends; this line is durable before its file goes."""
        self._ledger.note(b"- %d" % number)
        self._recently_ended.append(number)

    def flush(self) -> None:
        """Writes what waits to be written."""
        try:
            self._ledger.flush()
            self._in_trouble = False
        except OSError:
            if not self._in_trouble:  # once, not once a turn
                self._log.warning(b"trouble writing the ledger; will try again")
            self._in_trouble = True

    def _is_in_todo(self, account: "Account") -> bool:
        """Whether it is this message, not another one that has got its number since (the disk was in trouble)."""
        try:
            return self._store.read_accepted(account.number).pid == account.qp
        except (OSError, BadRecord):
            return True

    def _is_left(self, number: int) -> bool:
        try:
            return self._store.is_accepted(number)
        except OSError:
            return True

    def _no_longer_under_way(self, number: int) -> None:
        left = self._under_way.get(number, 1) - 1
        if left:
            self._under_way[number] = left
        else:
            self._under_way.pop(number, None)

    def _log_doubt(self, attempt: "Attempt", then: bytes) -> None:
        self._log.warning(
            b"msg %d: delivery %d is in doubt, it may have arrived; %b" % (attempt.job.number, attempt.number, then)
        )

    def _note_interrupted(self, number: int, count: int, who: bytes) -> None:
        self._log.warning(
            b"msg %d: %d deliveries were under way when %b died; they may be repeated" % (number, count, who)
        )
        self._ledger.note(b"! %d %d" % (number, count))

    def _make_good(self, account: "Account") -> None:
        number = account.number
        if account.under_way > 0:
            self._note_interrupted(number, account.under_way, b"qmail-send")
        undone = None
        if not self._store.is_accepted(number):
            undone = self._store.undone(number)
        elif self._is_in_todo(account):
            return  # all of it is done anew
        lost = account.recipients - (undone or 0) - account.finished
        if lost > 0:
            self._ledger.note(b"m %d %d" % (number, lost))
        if undone is None:
            self._ledger.note(b"- %d" % number)
