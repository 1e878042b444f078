"""Who talks with qmail-send in the simulation: the trigger, the log's reader, qmail-clean, the bounces' way in."""

from notqmail.send.clean import DONE, Cleaner
from notqmail.send.cleaner_link import CleanerLost
from notqmail.send.log import Log
from notqmail.send.loop import Trigger
from notqmail.testing.simulation.account import addresses_in
from notqmail.testing.simulation.disk import Killed, Process, View
from notqmail.wire import queue_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.testing.simulation.account import Letter
    from notqmail.testing.simulation.machine import Machine
    from notqmail.wire.reports import Report

TRIGGER_FD = 15  # a number only: nothing is open


class SimulatedTrigger(Trigger):
    """lock/trigger without a fifo."""

    def __init__(self) -> None:
        super().__init__(lambda: TRIGGER_FD)
        self.descriptor, self.pulled = TRIGGER_FD, False

    def rearm(self) -> None:
        """What was pulled before is forgotten: the look begins now."""
        self.pulled = False


class WatchedLog(Log):
    """qmail-send's log goes into the journal, and what it says is noticed."""

    __slots__ = ("_machine",)

    def __init__(self, machine: "Machine") -> None:
        super().__init__(-1)
        self._machine = machine

    def line(self, text: bytes) -> None:
        """One line."""
        machine = self._machine
        if text.startswith(b"status:"):
            return
        machine.clock.note("send: " + text.decode())
        if b" is in doubt, it may have arrived; " in text:
            machine.account.counts["doubts told"] += 1
        elif text.startswith(b"new msg "):
            self._new(int(text[8:]))
        elif text.startswith(b"end msg "):
            machine.watch.ended(self._letter(int(text[8:])).pid)
        elif text.startswith(b"triple bounce: discarding bounce/"):
            number = int(text[33:])
            text = machine.storage.disk.read(b"bounce/%d" % number)
            machine.account.discard(self._letter(number), addresses_in(text))

    def _letter(self, number: int) -> "Letter":
        content = self._machine.storage.disk.read(b"mess/%d/%d" % (number % 23, number))
        return self._machine.account.letter_in(content)

    def _new(self, number: int) -> None:
        machine = self._machine
        letter = self._letter(number)
        letter.seen = True
        routes: dict[bytes, list[bytes]] = {}
        for recipient in letter.recipients:
            channel, address = machine.preprocessor.routing.route(recipient)
            routes.setdefault(channel, []).append(address)
        machine.watch.new_message(letter.pid, routes)

    def flush(self) -> None:
        """There is nothing to write to."""


class SimulatedCleaner:
    """qmail-clean and both its pipes."""

    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._removed: list[bool] = []
        self._cleaner = Cleaner(View(machine.storage, machine.clean_process), machine.clock)  # type: ignore[arg-type]

    def remove(self, commands: list[bytes]) -> list[bool]:
        """As CleanerLink.remove."""
        done = []
        for command in commands:
            if not self._machine.clean_alive:
                raise CleanerLost
            try:
                done.append(self._cleaner.perform(command) == DONE)
            except Killed:
                self._machine.clean_alive = False
                raise CleanerLost from None
        self._machine.watch.progress += len(done)
        return done

    has_answered = True

    def ask(self, commands: list[bytes]) -> None:
        """As CleanerLink.ask; it is done at once."""
        self._removed = self.remove(commands)

    def wait_for_answer(self) -> None:
        """As CleanerLink.wait_for_answer: it is there."""

    def removed(self) -> list[bool]:
        """As CleanerLink.removed."""
        return self._removed


class BounceSubmission:
    """A bounce's way into the queue (queue/client.py's Submission)."""

    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._parts: list[bytes] = []
        self.qp = 0

    def write(self, data: bytes) -> None:
        """As Submission.write."""
        self._parts.append(data)

    def abandon(self) -> None:
        """As Submission.abandon."""
        self._parts.clear()

    def close(self, sender: bytes, recipients: list[bytes]) -> "Report":
        """As Submission.close."""
        machine, text = self._machine, b"".join(self._parts)
        about, addresses = machine.account.bounce_in(text)
        letter = machine.account.offer(sender, list(recipients), text, about)
        self.qp = letter.pid
        request = machine.request_for(letter, b"for bounce")
        process = Process("qmail-bounce", machine.around.new_pid())
        process.dies_in, machine.writer_dies_in = machine.writer_dies_in, None
        try:
            machine.enqueue(process, [request])
        except Killed:
            machine.answer(letter, request, died=True)
            return queue_exit.CRASHED
        if machine.answer(letter, request, died=False):
            machine.account.told(about, addresses)
            machine.trigger.pulled = True
        return queue_exit.report_for_exit(request.exit_code)
