"""qmail-send's loop: waits for what may happen, then lets the sender, todo and the cleaner do their part, in C's order.

One turn: signals; commands out; reports in; a batch of todo; deliveries begin; messages end; a bit of cleaning.
Nothing here decides about mail.
"""

import os
import select

from notqmail.queue.layout import CLEANUP_AGE_S
from notqmail.send.channels import Channel, SpawnerLost
from notqmail.send.cleaner_link import CleanerLost
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

_CLEAN_A_TURN = 20  # message files looked at
_ENDED_MAX = 128  # ended messages that wait for more of them, so that one sync serves many
_ENDED_WAIT_S = 0.05  # and how long
_DISK_TROUBLE_S = 10


def poll_wait(wakeup_fd: int) -> "Wait":
    """The real waiting: for these descriptors, a signal (`wakeup_fd`) or the seconds to pass; says which are ready."""

    def wait(readable: list[int], writable: list[int], timeout_s: float) -> set[int]:
        poll = select.poll()
        for descriptor in (*readable, wakeup_fd):
            poll.register(descriptor, select.POLLIN)
        for descriptor in writable:
            poll.register(descriptor, select.POLLOUT)
        ready = {descriptor for descriptor, _ in poll.poll(int(timeout_s * 1_000))}
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
        self._preprocessor, self._cleaner, self._trigger = preprocessor, cleaner, trigger
        self._flags, self._reread, self._wait_for = flags, reread, wait
        self._writer_is_lost = writer_is_lost
        self._walk: Iterator[int] | None = None
        self._next_walk_s = 0
        self._finish_after_s = 0  # after trouble with the disk: not before

    def run(self) -> None:
        """Until TERM (or a lost child) and no delivery is under way."""
        while not (self._sender.exiting and self._sender.may_exit()):
            self.turn()
        self._finish_ended()
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
        for channel in self._sender.channels.values():
            self._exchange(channel, now_s, readable=channel.reports_fd in ready)
        if self._trigger.descriptor in ready:
            self._preprocessor.pull()
        if not self._sender.exiting:
            self._preprocess(now_s)
        self._sender.start_deliveries(now_s)
        self._sender.books.flush()  # before the spawners hear of it: a delivery is never without its line
        for channel in self._sender.channels.values():
            self._exchange(channel, now_s, readable=False)
        self._sender.end_messages(now_s)
        if not self._sender.exiting:
            self._clean(now_s)
        quiet = timeout_s > 0 and not ready
        if (quiet or self._ended() >= _ENDED_MAX) and now_s >= self._finish_after_s:
            self._finish_ended()

    def _ended(self) -> int:
        return len(self._sender.ended) + len(self._sender.ended_in_todo)

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
        due_s = [now_s + FOREVER_S, self._preprocessor.next_look_s(len(self._sender.in_todo)), self._next_walk_s]
        next_due_s = self._sender.next_due_s()
        if next_due_s is not None:
            due_s.append(next_due_s)
        wait_s = min(due_s) - now_s
        if wait_s <= 0:
            return 0
        if not self._ended():
            return wait_s + FUZZ_S
        trouble_s = self._finish_after_s - now_s
        return min(wait_s, trouble_s) + FUZZ_S if trouble_s > 0 else _ENDED_WAIT_S

    def _wait(self, timeout_s: float) -> set[int]:
        living = [channel for channel in self._sender.channels.values() if channel.alive]
        readable = [channel.reports_fd for channel in living]
        if self._trigger.descriptor >= 0 and not self._preprocessor.pulled:
            readable.append(self._trigger.descriptor)
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

    def _preprocess(self, now_s: int) -> None:
        try:
            self._sender.add(self._preprocessor.turn(self._sender.in_todo, now_s))
        except CleanerLost:
            self._lost_cleaner()
        except OSError:
            self._log.warning(b"trouble writing to the queue, will look into todo again")

    def _finish_ended(self) -> None:
        """Names first, and durably; then the message files. What fails here is collected after 36 hours."""
        if not self._ended():
            return
        sender = self._sender
        try:
            in_todo, sender.ended_in_todo = sender.ended_in_todo, []
            removed = self._cleaner.remove([b"todo/%d" % number for number in in_todo])
            sender.removed_from_todo(dict(zip(in_todo, removed, strict=True)), self._clock.now_s())
            self._complain_of(b"todo", in_todo, removed)
            self._sender.books.flush()
            self._store.keep_ended(sender.ended)
            ended, sender.ended = sender.ended, []
            self._complain_of(b"foop", ended, self._cleaner.remove([b"foop/%d" % number for number in ended]))
        except CleanerLost:
            self._lost_cleaner()
        except OSError:
            self._log.warning(b"trouble syncing the queue; finished messages stay for now")
            self._finish_after_s = self._clock.now_s() + _DISK_TROUBLE_S

    def _complain_of(self, command: bytes, numbers: list[int], removed: list[bool]) -> None:
        for number, gone in zip(numbers, removed, strict=True):
            if not gone:
                self._log.warning(b"qmail-clean unable to clean up %b/%d" % (command, number))

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
        if state is None or now_s <= state.accessed_s + CLEANUP_AGE_S or number in self._sender.ended:
            return
        if not self._store.is_known(number):
            self._store.forget_leftovers(number)
            self._sender.ended.append(number)  # its file goes after the next sync, like every other
