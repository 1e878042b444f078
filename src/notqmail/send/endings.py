"""How finished messages leave the disk: their names first; then, behind a barrier, their files, and with them their
numbers.

qmail-clean removes them in its own time, and deliveries go on meanwhile. Many go together, so that one barrier serves
them all; but todo/N is the only mark of a message that was delivered straight from todo, so of these few may wait. What
fails here is collected after 36 hours (loop.py).
"""

from notqmail.send.cleaner_link import TOGETHER_MAX
from notqmail.send.schedule import FOREVER_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from notqmail.queue.store import QueueStore
    from notqmail.send.cleaner_link import CleanerLink
    from notqmail.send.log import Log
    from notqmail.send.sender import Sender
    from notqmail.unix.clock import Clock

_ENDED_MAX = 128  # ended messages that wait for more of them
_UNMARKED_ASK = 10  # of these in todo, where a kill makes them delivered again: so many are worth a question
_UNMARKED_MAX = 20  # and so many worth waiting for qmail-clean
_ENDED_WAIT_S = 0.05  # and how long when nothing happens
_ENDED_WAIT_MAX_S = 1.0  # or in any case
_DISK_TROUBLE_S = 10
_OVER = object()


class Endings:
    """Removes what the sender has in `ended`, and before that todo/N of what it has in `ended_in_todo`: a message that
    was delivered straight from todo comes into `ended` when todo/N is gone.
    """

    def __init__(
        self, store: "QueueStore", log: "Log", clock: "Clock", sender: "Sender", cleaner: "CleanerLink"
    ) -> None:
        self._store, self._log, self._clock, self._sender, self._cleaner = store, log, clock, sender, cleaner
        self._under_way: Iterator[None] | None = None  # `_finish_ended`, while answers of qmail-clean are to come
        self._asked_in_todo = 0  # messages whose todo/N is being removed
        self._leaving: list[int] = []  # messages whose files are being removed
        self._waiting_since_s: float | None = None  # by the steady clock
        self._not_before_s = 0.0  # the same; after trouble with the disk

    @property
    def waits_for(self) -> list[int]:
        """The descriptor of qmail-clean's answers while some are to come."""
        return [self._cleaner.replies_fd] if self._under_way is not None else []

    @property
    def _waiting(self) -> int:
        return len(self._sender.ended) + len(self._sender.ended_in_todo)

    @property
    def _unmarked(self) -> int:
        """How many would be delivered again after a kill now."""
        return len(self._sender.ended_in_todo) + self._asked_in_todo

    def has(self, number: int) -> bool:
        """Whether this message file is going already: asked for a second time it would be another message's."""
        return number in self._sender.ended or number in self._leaving or number in self._sender.in_todo

    def wait_s(self) -> float:
        """How long the loop may wait without a turn of ours."""
        if self._under_way is not None:
            return 0 if self._cleaner.has_answered else FOREVER_S
        if not self._waiting:
            return FOREVER_S
        return max(_ENDED_WAIT_S, self._not_before_s - self._clock.steady_s())

    def turn(self, ready: "set[int]", *, quiet: bool) -> None:
        """Begins when enough has ended, or nothing else happens (`quiet`); goes on when qmail-clean has answered, and
        waits for it when it is far behind. Raises CleanerLost.
        """
        if self._under_way is not None:
            if self._cleaner.replies_fd in ready or self._cleaner.has_answered:
                self._go_on()
        elif self._is_enough(quiet):
            self._begin(self._finish_ended())
        elif len(self._sender.ended_in_todo) >= _UNMARKED_ASK:
            self._begin(self._leave_todo())
        while self._unmarked >= _UNMARKED_MAX:
            if self._under_way is None:
                self._begin(self._leave_todo())
            else:
                self._cleaner.wait_for_answer()
                self._go_on()

    def _is_enough(self, quiet: bool) -> bool:
        steady_s = self._clock.steady_s()
        if not self._waiting or steady_s < self._not_before_s:
            return False
        if self._waiting_since_s is None:
            self._waiting_since_s = steady_s
        return quiet or self._waiting >= _ENDED_MAX or steady_s >= self._waiting_since_s + _ENDED_WAIT_MAX_S

    def finish_all(self) -> None:
        """Before the exit: all of them. Raises CleanerLost.

        Where the disk fails, files may stay; but nobody who was delivered to stays in todo, or he would be again.
        """
        self._not_before_s = 0.0
        while self._under_way is not None or self._sender.ended_in_todo or (self._waiting and not self._not_before_s):
            if self._under_way is None:
                self._begin(self._finish_ended())
            else:
                self._cleaner.wait_for_answer()
                self._go_on()

    def _begin(self, what: "Iterator[None]") -> None:
        self._under_way = what
        self._go_on()

    def _go_on(self) -> None:
        """As far as qmail-clean has answered."""
        going, self._under_way = self._under_way, None
        if going is not None and next(going, _OVER) is not _OVER:
            self._under_way = going

    def _leave_todo(self) -> "Iterator[None]":
        """Removes todo/N. Yields as long as qmail-clean has not answered. Raises CleanerLost."""
        sender = self._sender
        in_todo = sender.ended_in_todo[:TOGETHER_MAX]
        del sender.ended_in_todo[: len(in_todo)]
        if not in_todo:
            return
        self._asked_in_todo = len(in_todo)
        self._cleaner.ask([b"todo/%d" % number for number in in_todo])
        while (removed := self._cleaner.removed()) is None:
            yield
        self._asked_in_todo = 0
        sender.removed_from_todo(dict(zip(in_todo, removed, strict=True)), self._clock.now_s())
        self._complain_of(b"todo", in_todo, removed)

    def _finish_ended(self) -> "Iterator[None]":
        """The same, and then the files. Raises CleanerLost."""
        sender, cleaner = self._sender, self._cleaner
        self._waiting_since_s = None
        try:
            yield from self._leave_todo()
            sender.books.flush()
            ended = sender.ended[:TOGETHER_MAX]
            self._store.keep_ended(ended)
            del sender.ended[: len(ended)]
            self._leaving = ended
            cleaner.ask([b"foop/%d" % number for number in ended])
            while (removed := cleaner.removed()) is None:
                yield
            self._complain_of(b"foop", ended, removed)
        except OSError:
            self._log.warning(b"trouble syncing the queue; finished messages stay for now")
            self._not_before_s = self._clock.steady_s() + _DISK_TROUBLE_S
        finally:
            self._leaving = []

    def _complain_of(self, command: bytes, numbers: list[int], removed: list[bool]) -> None:
        for number, gone in zip(numbers, removed, strict=True):
            if not gone:
                self._log.warning(b"qmail-clean unable to clean up %b/%d" % (command, number))
