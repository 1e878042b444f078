"""qmail-send's loop: waits for what may happen, then lets the sender, todo and the cleaner do their part.

One turn: signals; reports in; deliveries begin; a bit of todo, and the deliveries that it brings begin; messages end;
a bit of cleaning. A slot must not stay empty because of the rest: so deliveries come before the work that could wait,
and whoever does more of that than takes SLICE_S asks (`_is_wanted`) whether a report has come, and stops if so.
Nobody waits for qmail-clean to remove what has ended, unless it is far behind. Nothing here decides about mail.
"""

import math
import os
import select

from notqmail.queue.layout import CLEANUP_AGE_S
from notqmail.send.channels import Channel, SpawnerLost
from notqmail.send.cleaner_link import CleanerLost
from notqmail.send.endings import Endings
from notqmail.send.schedule import CLEANUP_S, FOREVER_S, FUZZ_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Wait = Callable[[list[int], list[int], float], set[int]]

    from notqmail.queue.store import QueueStore
    from notqmail.send.cleaner_link import CleanerLink
    from notqmail.send.log import Log
    from notqmail.send.sender import Sender
    from notqmail.send.todo import Preprocessor
    from notqmail.unix.clock import Clock

SLICE_S = 0.002  # of work that can wait, before a look at the spawners
_CLEAN_A_TURN = 20  # message files looked at


def poll_wait(wakeup_fd: int) -> "Wait":
    """The real waiting: for these descriptors, a signal (`wakeup_fd`) or the seconds to pass; says which are ready."""

    def wait(readable: list[int], writable: list[int], timeout_s: float) -> set[int]:
        poll = select.poll()
        for descriptor in (*readable, wakeup_fd):
            poll.register(descriptor, select.POLLIN)
        for descriptor in writable:
            poll.register(descriptor, select.POLLOUT)
        ready = {descriptor for descriptor, _ in poll.poll(math.ceil(timeout_s * 1_000))}
        if wakeup_fd in ready:
            os.read(wakeup_fd, 4_096)
        return ready

    return wait


class Trigger:
    """lock/trigger's read side; `descriptor` changes with each `rearm`."""

    def __init__(self, listen: "Callable[[], int]") -> None:
        self._listen, self.descriptor = listen, -1

    def rearm(self) -> None:
        """Opens it anew, so that every pull from now on is seen. Without a fifo only the clock remains."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        try:
            self.descriptor = self._listen()
        except OSError:
            self.descriptor = -1


class Flags:
    """What signals asked for since the last turn."""

    __slots__ = ("child", "exit", "reread", "run")

    def __init__(self) -> None:
        self.child = self.exit = self.reread = self.run = False


class Loop:
    """Everything wired together. `turn` is one round; `run` is rounds until a clean exit is possible."""

    def __init__(
        self, *, store: "QueueStore", log: "Log", clock: "Clock", sender: "Sender", preprocessor: "Preprocessor",
        cleaner: "CleanerLink", trigger: Trigger, flags: Flags, reread: "Callable[[], None]", wait: "Wait",
        writer_is_lost: "Callable[[], bool]" = lambda: False,
    ) -> None:  # fmt: skip
        self._store, self._log, self._clock, self._sender = store, log, clock, sender
        self._preprocessor, self._trigger = preprocessor, trigger
        self._flags, self._reread, self._wait_for = flags, reread, wait
        self._writer_is_lost = writer_is_lost
        self._walk: Iterator[int] | None = None
        self._next_walk_s = 0
        self._endings = Endings(store, log, clock, sender, cleaner)
        self._looked_at_s = 0.0  # by the steady clock: when the spawners were last looked at

    def run(self) -> None:
        """Until TERM (or a lost child) and no delivery is under way."""
        while not (self._sender.exiting and self._sender.may_exit()):
            self.turn()
        try:
            self._endings.finish_all()
        except CleanerLost:
            self._lost_cleaner()
        self._sender.save_schedule()
        self._sender.books.close()
        self._log.line(b"status: exiting")
        self._log.flush()

    def turn(self) -> None:
        """Waits, then one round."""
        self._obey_flags()
        self._log.flush()
        timeout_s = self._timeout_s(self._clock.now_s())
        ready = self._wait(timeout_s)
        now_s = self._clock.now_s()
        self._looked_at_s = self._clock.steady_s()
        for channel in self._sender.channels.values():
            self._exchange(channel, now_s, readable=channel.reports_fd in ready)
        if self._trigger.descriptor in ready:
            self._preprocessor.pull()
        self._sender.start_deliveries(now_s)
        if any(channel.unsent for channel in self._sender.channels.values()):
            self._push(now_s)
        if not self._sender.exiting and self._preprocess(now_s):
            self._sender.start_deliveries(now_s)
        self._push(now_s)
        self._sender.end_messages(now_s, self._is_wanted)
        if not self._sender.exiting:
            self._clean(now_s)
        try:
            self._endings.turn(ready, quiet=timeout_s > 0 and not ready)
        except CleanerLost:
            self._lost_cleaner()

    def _is_wanted(self) -> bool:
        """Whether what can wait has taken its time, and a report has come meanwhile."""
        if self._clock.steady_s() < self._looked_at_s + SLICE_S:
            return False
        reports = [channel.reports_fd for channel in self._sender.channels.values() if channel.alive]
        if self._wait_for(reports, [], 0):
            return True
        self._looked_at_s = self._clock.steady_s()
        return False

    def _push(self, now_s: int) -> None:
        self._sender.books.flush()  # before the spawners hear of it: a delivery is never without its line
        for channel in self._sender.channels.values():
            self._exchange(channel, now_s, readable=False)

    def _obey_flags(self) -> None:
        if self._flags.run:
            self._flags.run = False
            self._sender.make_all_due()
        if self._flags.reread:
            self._flags.reread = False
            self._reread()
        if self._flags.exit:
            self._sender.exiting = True
        if self._flags.child:
            self._flags.child = False
            if self._writer_is_lost() and not self._sender.exiting:
                self._sender.exiting = True
                self._log.alert(b"oh no! lost qmail-queue --serve! dying...")

    def _timeout_s(self, now_s: int) -> float:
        """How long there is nothing to do by ourselves; 0 when there is something now."""
        if self._sender.exiting:
            return 0 if self._sender.may_exit() else FOREVER_S  # then only a report matters
        if self._preprocessor.looking or self._walk is not None:
            return 0
        due_s = [now_s + FOREVER_S, self._preprocessor.next_look_s(), self._next_walk_s]
        next_due_s = self._sender.next_due_s()
        if next_due_s is not None:
            due_s.append(next_due_s)
        wait_s = min(due_s) - now_s
        if wait_s <= 0:
            return 0
        pause_s = self._preprocessor.pause_s(self._sender.untried, self._clock.steady_s())
        return min(wait_s + FUZZ_S, pause_s, self._endings.wait_s())

    def _wait(self, timeout_s: float) -> set[int]:
        living = [channel for channel in self._sender.channels.values() if channel.alive]
        readable = [channel.reports_fd for channel in living]
        if self._trigger.descriptor >= 0 and not self._preprocessor.pulled:
            readable.append(self._trigger.descriptor)
        readable += self._endings.waits_for
        return self._wait_for(readable, [channel.commands_fd for channel in living if channel.unsent], timeout_s)

    def _exchange(self, channel: Channel, now_s: int, *, readable: bool) -> None:
        if not channel.alive:
            return
        try:
            channel.push()
            if readable:
                self._sender.take_reports(channel, channel.reports(), now_s)
        except CleanerLost:
            self._lost_cleaner()
        except SpawnerLost:
            channel.alive = False
            self._sender.exiting = True
            self._log.alert(b"oh no! lost spawn connection! dying...")

    def _preprocess(self, now_s: int) -> bool:
        """Whether there is new mail."""
        try:
            sender = self._sender
            new = self._preprocessor.turn(
                sender.in_todo, now_s, self._clock.steady_s(), untried=sender.untried, is_wanted=self._is_wanted
            )
        except CleanerLost:
            self._lost_cleaner()
        except OSError:
            self._log.warning(b"trouble writing to the queue, will look into todo again")
        else:
            self._sender.add(new)
            return bool(new)
        return False

    def _lost_cleaner(self) -> None:
        if not self._sender.exiting:
            self._log.alert(b"oh no! lost qmail-clean connection! dying...")
        self._sender.exiting = True
        self._sender.ended, self._sender.ended_in_todo = [], []  # collected, or delivered again, after the restart

    def _clean(self, now_s: int) -> None:
        """A bit of the walk through mess: files that no writer and no message owns any more."""
        if self._walk is None:
            if now_s < self._next_walk_s:
                return
            self._walk = self._store.message_numbers()
        try:
            for _ in range(_CLEAN_A_TURN):
                number = next(self._walk, None)
                if number is None:
                    self._walk = None
                    self._next_walk_s = now_s + CLEANUP_S
                    return
                self._collect(number, now_s)
        except OSError:
            self._walk = None
            self._next_walk_s = now_s + CLEANUP_S
            self._log.warning(b"trouble reading mess; stale files stay for now")
        except CleanerLost:
            self._lost_cleaner()

    def _collect(self, number: int, now_s: int) -> None:
        state = self._store.message_state(number)
        if state is None or now_s <= state.accessed_s + CLEANUP_AGE_S:
            return
        if self._endings.has(number):
            return  # it goes already; asked for twice, the second would be another message's
        if not self._store.is_known(number):
            self._store.forget_leftovers(number)
            self._sender.ended.append(number)  # its file goes with the next others
