"""qmail-send's side of the ledger: what it enters, and what it makes good after a crash (queue/ledger.py).

The ledger never holds mail up: when its lines cannot be written they wait. What is entered is always written before
the step it tells of, so after a kill the lines are complete or one step ahead, never behind.
"""

from notqmail.queue.ledger_book import Account, Events
from notqmail.wire.reports import PERMANENT, SUCCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.queue.store import QueueStore
    from notqmail.send.channels import Attempt
    from notqmail.send.log import Log
    from notqmail.wire.reports import Report

IN_DOUBT = b"Possible duplicate! "  # what qmail-remote(8) says when the connection died after the final dot


_NEWEST_TO_SEE_A_STOP = 2  # journals: the newest may have been begun by a flush that a power cut has torn
_NEWEST_AFTER_A_CRASH = 8  # of 16 MB each; a message begun in an older one is not made good


class Books:
    """Enters events in the store's ledger. Where none is kept nothing here costs anything."""

    def __init__(self, store: "QueueStore", log: "Log") -> None:
        self._store, self._log, self._ledger = store, log, store.ledger
        self._in_trouble = False

    def open(self) -> None:
        """At start-up: after a qmail-send that did not stop by itself, makes good what the journal lacks.

        Raises OSError when the queue cannot be read.
        """
        if not self._ledger.kept:
            return
        if not self._stopped_by_itself():
            events = Events()
            events.read(self._store.ledger_lines(_NEWEST_AFTER_A_CRASH))
            for account in events.living.values():
                if account.known:
                    self._make_good(account)
        self._ledger.note(b"start")
        self.flush()

    def _stopped_by_itself(self) -> bool:
        """Whether the last qmail-send's last line is its `stop`; true for a journal that is still empty."""
        lines = self._store.ledger_lines(_NEWEST_TO_SEE_A_STOP)
        return not lines or lines[-1] == b"stop"

    def close(self) -> None:
        """At a clean exit: nothing is under way."""
        self._ledger.note(b"stop")
        self.flush()

    def begun(self, number: int) -> None:
        """A delivery to one recipient of this message begins."""
        self._ledger.note(b"s %d" % number)

    def enter(self, ended: "list[tuple[Attempt, Report | None]]") -> None:
        """What reports say, before anything is marked: no mark is ever without its line."""
        for attempt, report in ended:
            kind = report.kind if report is not None else b""
            if report is not None and kind in (SUCCESS, PERMANENT):
                letter = b"k" if kind == SUCCESS else b"b"
            else:
                letter = b"?" if report is not None and IN_DOUBT in report.text else b"z"
            self._ledger.note(b"%b %d" % (letter, attempt.job.number))
        self.flush()

    def not_told(self, attempt: "Attempt", report: "Report | None") -> None:
        """A failure that was entered could not be noted for the bounce: the recipient is tried again."""
        if report is not None and report.kind == PERMANENT:
            self._ledger.note(b"r %d" % attempt.job.number)

    def ended(self, number: int) -> None:
        """The message ends; this line is durable before its file goes."""
        self._ledger.note(b"- %d" % number)

    def flush(self) -> None:
        """Writes what waits to be written."""
        try:
            self._ledger.flush()
            self._in_trouble = False
        except OSError:
            if not self._in_trouble:  # once, not once a turn
                self._log.warning(b"trouble writing the ledger; will try again")
            self._in_trouble = True

    def _make_good(self, account: Account) -> None:
        number = account.number
        if account.under_way > 0:
            self._log.warning(
                b"msg %d: %d deliveries were under way when qmail-send died; they may be repeated"
                % (number, account.under_way)
            )
            self._ledger.note(b"! %d %d" % (number, account.under_way))
        if self._store.is_accepted(number):
            return  # all of it is done anew
        undone = self._store.undone(number)
        lost = account.recipients - (undone or 0) - account.finished
        if lost > 0:
            self._ledger.note(b"m %d %d" % (number, lost))
        if undone is None:
            self._ledger.note(b"- %d" % number)
