"""qmail-send's heart: which message is due on which channel, which delivery runs, what a report changes.

No descriptor is waited for here (loop.py does that) and no file is named (queue/store.py does). The rules are C's:
a message is in at most one pass of a channel; a pass reads the recipients in order while slots are free; a job ends
when its last delivery has reported; then the channel is finished or due again by the schedule; when both channels
are finished the failures are bounced and the message ends. A message with one recipient is tried while it is still
in todo (see todo.py) and is settled only when that try does not finish it.
"""

import heapq

from notqmail.message.bounce_text import EXPIRED, bounce_paragraph
from notqmail.queue.layout import split_path
from notqmail.queue.store import CHANNELS, BadRecord
from notqmail.send.books import Books
from notqmail.send.channels import Attempt, Channel
from notqmail.send.cleaner_link import CleanerLost
from notqmail.send.jobs import Job
from notqmail.send.log import safe
from notqmail.send.passes import Passes
from notqmail.send.schedule import TROUBLE_S, is_dying, next_retry_s
from notqmail.wire.reports import PERMANENT, SUCCESS, Report, permanent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from notqmail.queue.store import QueueStore
    from notqmail.send.bounces import Bouncer
    from notqmail.send.destinations import Batch
    from notqmail.send.log import Log
    from notqmail.send.todo import Preprocessor, Routed

_FRESH_MAX = 10_000  # of the others sender and birth are read again when their turn comes
_BIT = {channel: 1 << index for index, channel in enumerate(CHANNELS)}


class Sender:
    """All messages that wait, and what is being done about them."""

    def __init__(
        self, store: "QueueStore", log: "Log", channels: "Iterable[Channel]", bouncer: "Bouncer",
        preprocessor: "Preprocessor", *, lifetime_s: int, shown_address: "Callable[[bytes], bytes]",
    ) -> None:  # fmt: skip
        self._store, self._log, self._bouncer = store, log, bouncer
        self._preprocessor, self.books = preprocessor, Books(store, log)
        self._lifetime_s, self._shown_address = lifetime_s, shown_address
        self.channels = {channel.name: channel for channel in channels}
        self.passes = {channel.name: self._passes_of(channel) for channel in self.channels.values()}
        self._unfinished: dict[int, int] = {}  # message number -> bits of the channels that still have somebody
        self._fresh: dict[int, Routed] = {}  # not yet tried: what is known without reading files
        self.in_todo: dict[int, Routed] = {}  # tried, or to be tried, straight from todo (Job.in_todo)
        self._tried_in_todo = 0  # so many of these have been started, and may have ended
        self._done: list[tuple[int, int]] = []  # (due, number): both channels finished, to be ended
        self._done_in_todo: list[int] = []  # the same, for which nothing is to be done but that they go
        self.ended: list[int] = []  # their files may go after QueueStore.keep_ended
        self.ended_in_todo: list[int] = []  # the same, once todo/N is gone
        self._stuck: list[tuple[int, int]] = []  # (due, number): todo/N did not go; to be tried again
        self._unsaved: set[tuple[bytes, int]] = set()  # (channel, number): the disk does not say when it is due
        self._last_delivery = 0
        self._cleaner_is_lost = False
        self.exiting = False

    @property
    def untried(self) -> int:
        """How many of `in_todo` wait for their try."""
        return len(self.in_todo) - self._tried_in_todo

    # ── messages come ───────────────────────────────────────────────────────────────────────────────────

    def load(self, now_s: int) -> None:
        """Start-up: what waits in the queue. Raises OSError."""
        for waiting in self._store.waiting():
            self._add(waiting.number, waiting.due_s, now_s)

    def add(self, messages: "Iterable[Routed]") -> None:
        """New messages, settled or still in todo, due now."""
        for message in messages:
            if message.in_todo:
                self.in_todo[message.number] = message
            if message.in_todo or len(self._fresh) < _FRESH_MAX:
                self._fresh[message.number] = message
            self._add(message.number, dict.fromkeys(message.recipients, message.birth_s), message.birth_s)

    def _add(self, number: int, due_s: "Mapping[bytes, int]", now_s: int) -> None:
        bits = 0
        for name, due in due_s.items():
            bits |= _BIT[name]
            self.passes[name].schedule(due, number)
        if bits:
            self._unfinished[number] = bits
        else:
            heapq.heappush(self._done, (now_s, number))

    def make_all_due(self) -> None:
        """ALRM: every waiting message is due now, also one that waits only because the disk was in trouble."""
        for passes in self.passes.values():
            passes.make_all_due()
        self._done = sorted((0, number) for _, number in self._done)
        self._stuck = sorted((0, number) for _, number in self._stuck)
        self._preprocessor.look_at_all()

    # ── deliveries begin ────────────────────────────────────────────────────────────────────────────────

    def start_deliveries(self, now_s: int) -> None:
        """Fills the free slots of every channel, as far as anything is due."""
        for channel in self.channels.values():
            passes = self.passes[channel.name]
            channel.look_at_age(now_s)
            while channel.may_start and not self.exiting:
                batch = passes.next_batch(now_s)
                if batch is None:
                    break
                self._start(channel, batch, now_s)

    def _passes_of(self, channel: Channel) -> Passes:
        return Passes(
            lambda number, now_s: self._open_job(channel, number, now_s), self._looked,
            batch_max=channel.batch_max, host_limit=channel.host_limit,
        )  # fmt: skip

    def _open_job(self, channel: Channel, number: int, now_s: int) -> Job | None:
        fresh = self._fresh.pop(number, None)
        direct = self.in_todo.get(number)
        try:
            birth_s, sender = (
                (fresh.birth_s, fresh.sender) if fresh is not None else self._store.birth_and_sender(number)
            )
            if direct is not None:
                records = b"T%b\0" % direct.recipients[channel.name][0]
            else:
                records = self._store.recipients(number, channel.name)
        except (OSError, BadRecord):
            self._log.warning(b"trouble opening %b; will try again later" % split_path(channel.name, number))
            self.passes[channel.name].schedule(now_s + TROUBLE_S, number)
            return None
        job = Job(number, channel, sender, birth_s, records)
        job.in_todo = direct is not None
        job.goes_alone = is_dying(birth_s, now_s, self._lifetime_s)
        return job

    def _looked(self, job: Job, now_s: int) -> None:
        if job.is_broken:
            self._log.warning(b"unknown record type in %b!" % split_path(job.channel.name, job.number))
        self._close_if_idle(job, now_s)

    def _start(self, channel: Channel, batch: "Batch", now_s: int) -> None:
        job, attempts = batch.job, []
        if job.retry_s is None:
            job.retry_s = next_retry_s(job.birth_s, now_s, channel.name)
            job.dying = is_dying(job.birth_s, now_s, self._lifetime_s)
        for offset, address in batch.recipients:
            self._last_delivery += 1
            attempts.append(Attempt(self._last_delivery, job, offset, address))
            self.books.begun(job.number)
            self._log.line(
                b"starting delivery %d: msg %d to %b %b"
                % (self._last_delivery, job.number, channel.name, safe(address))
            )
        self._tried_in_todo += job.in_todo
        job.open += len(attempts)
        channel.start(attempts, batch.destination, now_s)
        self.log_status()

    # ── reports come ────────────────────────────────────────────────────────────────────────────────────

    def take_reports(self, channel: Channel, reports: "list[tuple[int, Report | None]]", now_s: int) -> None:
        """Deliveries have ended. Failure texts are durable before any recipient is marked done. Raises CleanerLost."""
        ended: list[tuple[Attempt, Report | None]] = []
        for place, report in reports:
            attempt = channel.take(place, report)
            if attempt is None:
                self._log.warning(b"internal error: delivery report out of range")
                continue
            slot = attempt.freed
            if slot is not None and slot.destination is not None:
                self.passes[channel.name].destinations.ended(
                    slot.destination, answered=slot.answered, delivered=slot.delivered, several=len(slot.attempts) > 1,
                )  # fmt: skip
            if report is not None and attempt.job.dying and report.kind not in (SUCCESS, PERMANENT):
                report = permanent(report.text + EXPIRED)
            ended.append((attempt, report))
        self.books.enter(ended)
        ended = self._settle_unfinished(ended)
        told = self._record_failures(ended)
        for attempt, report in ended:
            self._log_report(attempt, report)
            final = report is not None and (report.succeeded or (report.kind == PERMANENT and told))
            self._end_attempt(attempt, now_s, final=final)
            channel.told(attempt)
            self.log_status()
        if self._cleaner_is_lost:  # not before what came with it is noted, or it would be delivered again
            raise CleanerLost

    def _settle_unfinished(self, ended: "list[tuple[Attempt, Report | None]]") -> "list[tuple[Attempt, Report | None]]":
        """Messages tried from todo that are not finished become S5 before anything is noted of them.

        Where the disk does not do it they stay in todo and are forgotten here: a later look tries them anew.
        """
        jobs = [
            attempt.job for attempt, report in ended
            if attempt.job.in_todo and not (report is not None and report.succeeded)
        ]  # fmt: skip
        if not jobs:
            return ended
        unfinished = [self.in_todo.pop(job.number) for job in jobs]
        self._tried_in_todo -= len(unfinished)
        for job in jobs:
            job.in_todo = False
        try:
            settled = {message.number for message in self._preprocessor.settle(unfinished)}
        except (OSError, CleanerLost) as trouble:
            self._log.warning(b"trouble writing to the queue, will look into todo again")
            self._cleaner_is_lost = isinstance(trouble, CleanerLost)
            settled = set()
        lost = {message.number for message in unfinished} - settled
        self._preprocessor.set_aside(lost)
        for attempt, report in ended:
            if attempt.job.number in lost:
                self._log_report(attempt, report)
                attempt.job.channel.told(attempt)
                self.log_status()
                self.books.not_told(attempt, report)
                self._unfinished.pop(attempt.job.number)
        return [(attempt, report) for attempt, report in ended if attempt.job.number not in lost]

    def _record_failures(self, ended: "list[tuple[Attempt, Report | None]]") -> bool:
        failures = [
            (attempt.job.number, bounce_paragraph(self._shown_address(attempt.address), report.text))
            for attempt, report in ended
            if report is not None and report.kind == PERMANENT
        ]
        if not failures:
            return True
        try:
            self._store.append_bounces(failures)
        except OSError:
            # Their recipients stay undone and are tried again: the sender hears of it when the disk works.
            self._log.alert(b"unable to append to bounce message; will try those recipients again")
            for attempt, report in ended:
                self.books.not_told(attempt, report)
            return False
        return True

    def _log_report(self, attempt: Attempt, report: Report | None) -> None:
        if report is None:
            self._log.line(b"delivery %d: report mangled, will defer" % attempt.number)
            return
        word = {SUCCESS: b"success", PERMANENT: b"failure"}.get(report.kind, b"deferral")
        self._log.line(b"delivery %d: %b: %b" % (attempt.number, word, safe(report.text)))

    def _end_attempt(self, attempt: Attempt, now_s: int, *, final: bool) -> None:
        job = attempt.job
        job.open -= 1
        unmarked = None
        if final:
            job.undone -= 1
            if job.in_todo or (job.finished and job.open == 0):
                unmarked = attempt  # the whole file goes at once
            else:
                self._mark_done(attempt)
        self._close_if_idle(job, now_s, unmarked)

    def _mark_done(self, attempt: Attempt) -> None:
        job = attempt.job
        try:
            self._store.mark_done(job.number, job.channel.name, attempt.offset)
        except OSError:
            path = split_path(job.channel.name, job.number)
            self._log.warning(b"trouble marking %b; message will be delivered twice!" % path)

    def _close_if_idle(self, job: Job, now_s: int, unmarked: Attempt | None = None) -> None:
        channel = job.channel
        if not job.is_idle:
            return
        due_s = job.retry_s if job.retry_s is not None else next_retry_s(job.birth_s, now_s, channel.name)
        if job.finished:
            try:
                if not job.in_todo:
                    self._store.channel_done(job.number, channel.name)
            except OSError:
                self._log.warning(b"unable to unlink %b; will try again later" % split_path(channel.name, job.number))
                if unmarked is not None:
                    self._mark_done(unmarked)
                due_s = now_s + TROUBLE_S
            else:
                self._finish_channel(job, now_s)
                return
        self.passes[channel.name].schedule(due_s, job.number)
        self._save_due(job.number, channel.name, due_s)

    def _save_due(self, number: int, channel: bytes, due_s: int) -> bool:
        """Notes on the disk when it is due, for the next start: at once, so that a stop has little to write and a kill
        makes nobody come too soon.
        """
        try:
            self._store.save_due(number, channel, due_s)
        except OSError:
            self._unsaved.add((channel, number))
            return False
        self._unsaved.discard((channel, number))
        return True

    def _finish_channel(self, job: Job, now_s: int) -> None:
        left = self._unfinished.pop(job.number) & ~_BIT[job.channel.name]
        if left:
            self._unfinished[job.number] = left
            return
        self._fresh.pop(job.number, None)
        if job.in_todo:
            self._done_in_todo.append(job.number)
        else:
            heapq.heappush(self._done, (now_s, job.number))

    # ── messages end ────────────────────────────────────────────────────────────────────────────────────

    def end_messages(self, now_s: int, is_wanted: "Callable[[], bool]" = lambda: False) -> None:
        """Bounces and forgets what is finished on both channels; `is_wanted` says that something else must not wait
        longer.
        """
        while self._stuck and self._stuck[0][0] <= now_s:
            self.ended_in_todo.append(heapq.heappop(self._stuck)[1])
        for number in self._done_in_todo:
            self._log.line(b"end msg %d" % number)
            self.books.ended(number)
        self.ended_in_todo += (
            self._done_in_todo
        )  # they stay known until todo/N is gone, or the next look found them new
        self._done_in_todo.clear()
        while self._done and self._done[0][0] <= now_s and not self.exiting:  # the next start ends what is left
            _, number = heapq.heappop(self._done)
            if not self._end(number):
                heapq.heappush(self._done, (now_s + TROUBLE_S, number))
            if is_wanted():
                return

    def _end(self, number: int) -> bool:
        try:
            if not self._bouncer.bounce_if_needed(number):
                return False
            self._log.line(b"end msg %d" % number)
            self.books.ended(number)
            self._store.forget(number)
        except (OSError, BadRecord) as error:
            self._log.warning(b"trouble ending msg %d: %b; will try again later" % (number, str(error).encode()))
            return False
        self.ended.append(number)
        return True

    # ── the rest ────────────────────────────────────────────────────────────────────────────────────────

    def removed_from_todo(self, removed: "Mapping[int, bool]", now_s: int) -> None:
        """Whether these ended messages have left todo: their message files are next, or it is tried once more later."""
        for number, gone in removed.items():
            if gone:
                del self.in_todo[number]
                self._tried_in_todo -= 1
                self.ended.append(number)
            else:
                heapq.heappush(self._stuck, (now_s + TROUBLE_S, number))

    def next_due_s(self) -> int | None:
        """When something will be due, or None. A channel without a free slot waits for reports, not for time."""
        if self.exiting:
            return None
        due = [due_s for channel in self.channels.values() if (due_s := self._next_start_s(channel)) is not None]
        due += [heap[0][0] for heap in (self._done, self._stuck) if heap]
        return min(due, default=None)

    def _next_start_s(self, channel: Channel) -> int | None:
        passes = self.passes[channel.name]
        if channel.may_start:
            return passes.next_due_s()
        return channel.next_slow_s() if channel.alive and passes.has_work else None

    def may_exit(self) -> bool:
        """Whether no delivery is under way on a living channel."""
        return all(channel.in_use == 0 or not channel.alive for channel in self.channels.values())

    def save_schedule(self) -> None:
        """Before a clean exit: the due times that are not in the channel files yet, for the next start. Those are few:
        what could not be noted when it was decided, and what ALRM has made due.
        """
        for channel in self.channels.values():
            for due_s, number in self.passes[channel.name].heap:
                if due_s and (channel.name, number) not in self._unsaved:
                    continue
                if number in self.in_todo:
                    continue  # never tried, and still in todo: the next start finds it there
                if not self._save_due(number, channel.name, due_s):
                    path = split_path(channel.name, number)
                    self._log.warning(b"unable to utime %b; message will be retried too soon" % path)

    def log_status(self) -> None:
        """The status line that follows every start and end of a delivery: one of several that came together is
        counted as under way until its own line.
        """
        counts = b" ".join([b"%b %d/%d" % (channel.name, *channel.status()) for channel in self.channels.values()])
        self._log.line(b"status: %b%b" % (counts, b" exitasap" if self.exiting else b""))
