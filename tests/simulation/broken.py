"""Mail systems that are broken on purpose: what is changed, and which rules may notice it.

Each changes one thing in the real rooms. The simulation must say so within a few seeds; a variant that it lets pass
is a hole in its rules.
"""

from collections.abc import Callable, Sequence

import pytest

from notqmail.deliver.mailboxes import MaildirJob
from notqmail.queue.ledger import Journal
from notqmail.queue.store import QueueStore
from notqmail.receive.enqueue import Enqueuer, Request
from notqmail.send import books
from notqmail.send import sender as sender_module
from notqmail.send.books import Books
from notqmail.send.bounces import Bouncer
from notqmail.send.channels import Attempt, Channel
from notqmail.send.destinations import Batch, Destination
from notqmail.send.jobs import Job
from notqmail.send.loop import Loop
from notqmail.send.schedule import next_retry_s
from notqmail.send.sender import Sender
from notqmail.send.todo import Preprocessor
from notqmail.testing.simulation.machine import Machine
from notqmail.wire.reports import Report
from notqmail.wire.wide_link import place_of, slot_and_index

Breaking = Callable[[pytest.MonkeyPatch], None]


def mark_before_the_report(patch: pytest.MonkeyPatch) -> None:
    start = Sender._start

    def broken(self: Sender, channel: Channel, batch: Batch, now_s: int) -> None:
        before = set(channel.slots)
        start(self, channel, batch, now_s)
        for slot in set(channel.slots) - before:
            for attempt in channel.slots[slot].attempts:
                if attempt is not None and batch.job.number not in self.in_todo:
                    self._mark_done(attempt)

    patch.setattr(Sender, "_start", broken)


def bounce_text_not_synced(patch: pytest.MonkeyPatch) -> None:
    def broken(self: QueueStore, paragraphs: list[tuple[int, bytes]]) -> None:
        for number, paragraph in paragraphs:
            self._disk.append(b"bounce/%d" % number, paragraph)

    patch.setattr(QueueStore, "append_bounces", broken)


def mark_without_bounce_text(patch: pytest.MonkeyPatch) -> None:
    def broken(self: QueueStore, paragraphs: list[tuple[int, bytes]]) -> None:
        try:
            for number, paragraph in paragraphs:
                self._disk.append_whole(b"bounce/%d" % number, paragraph)
        except OSError:
            pass  # the breakage: "told" although it is not written

    patch.setattr(QueueStore, "append_bounces", broken)


def forget_a_channel(patch: pytest.MonkeyPatch) -> None:
    finish = Sender._finish_channel

    def broken(self: Sender, job: Job, now_s: int) -> None:
        if job.number in self._unfinished:
            self._unfinished[job.number] = 0
            finish(self, job, now_s)

    patch.setattr(Sender, "_finish_channel", broken)


def ignore_concurrency(patch: pytest.MonkeyPatch) -> None:
    channels = Machine.channels

    def broken(self: Machine) -> list[Channel]:
        found = channels(self)
        for channel in found:
            channel._free += range(channel.concurrency, channel.concurrency + 3)
            channel.concurrency += 3
        return list(found)

    patch.setattr(Machine, "channels", broken)


def ignore_the_limit_of_a_host(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Destination, "may_start", property(lambda self: bool(self.waiting)))


def one_report_for_a_whole_command(patch: pytest.MonkeyPatch) -> None:
    take = Sender.take_reports

    def broken(self: Sender, channel: Channel, reports: list[tuple[int, Report | None]], now_s: int) -> None:
        for place, report in reports:
            slot = channel.slots.get(slot_and_index(place)[0])
            places = [] if slot is None else [at for at, attempt in enumerate(slot.attempts) if attempt is not None]
            take(self, channel, [(place_of(slot_and_index(place)[0], at), report) for at in places], now_s)

    patch.setattr(Sender, "take_reports", broken)


def retry_too_early(patch: pytest.MonkeyPatch) -> None:
    def broken(birth_s: int, now_s: int, channel: bytes) -> int:
        return now_s + (next_retry_s(birth_s, now_s, channel) - now_s) * 9 // 10

    patch.setattr(sender_module, "next_retry_s", broken)


def retry_too_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sender_module, "next_retry_s", lambda *given: next_retry_s(*given) + 60)


def sleep_too_long(patch: pytest.MonkeyPatch) -> None:
    timeout_s = Loop._timeout_s

    def broken(self: Loop, now_s: int) -> float:
        wanted = timeout_s(self, now_s)
        return wanted + 100 if wanted > 1 else wanted

    patch.setattr(Loop, "_timeout_s", broken)


def spin(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Loop, "_timeout_s", lambda self, now_s: 0)


def ignore_the_trigger(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Preprocessor, "pull", lambda self: None)


def lose_todo_on_a_full_disk(patch: pytest.MonkeyPatch) -> None:
    write = QueueStore.write_preprocessed

    def broken(self: QueueStore, *given: object) -> list[bytes]:
        try:
            return write(self, *given)  # type: ignore[arg-type]
        except OSError:
            return []

    patch.setattr(QueueStore, "write_preprocessed", broken)


def settle_without_syncing(patch: pytest.MonkeyPatch) -> None:
    settle = Preprocessor.settle

    def broken(self: Preprocessor, messages: object) -> object:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(QueueStore, "keep_preprocessed", lambda store, paths: None)
            return settle(self, messages)  # type: ignore[arg-type]

    patch.setattr(Preprocessor, "settle", broken)


def end_without_syncing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(QueueStore, "keep_ended", lambda self, numbers: None)


def accept_without_syncing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Enqueuer, "_durably", lambda self, step, requests: True)


def accept_what_could_not_be_written(patch: pytest.MonkeyPatch) -> None:
    enqueue = Enqueuer.enqueue

    def broken(self: Enqueuer, requests: Sequence[Request]) -> None:
        enqueue(self, requests)
        for request in requests:
            request.exit_code = 0

    patch.setattr(Enqueuer, "enqueue", broken)


def no_bounces(patch: pytest.MonkeyPatch) -> None:
    def broken(self: Bouncer, number: int) -> bool:
        self._store.bounce_done(number)
        return True

    patch.setattr(Bouncer, "bounce_if_needed", broken)


def bounce_twice(patch: pytest.MonkeyPatch) -> None:
    inject = Bouncer._inject

    def broken(self: Bouncer, *given: object) -> bool:
        return inject(self, *given) and inject(self, *given)  # type: ignore[arg-type]

    patch.setattr(Bouncer, "_inject", broken)


def never_mark(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Sender, "_mark_done", lambda self, attempt: None)


def mangled_counts_as_success(patch: pytest.MonkeyPatch) -> None:
    take = Sender.take_reports

    def broken(self: Sender, channel: Channel, reports: list[tuple[int, Report | None]], now_s: int) -> None:
        take(self, channel, [(slot, report or Report(b"K")) for slot, report in reports], now_s)

    patch.setattr(Sender, "take_reports", broken)


def half_messages(patch: pytest.MonkeyPatch) -> None:
    content = MaildirJob.content
    patch.setattr(MaildirJob, "content", lambda self: [b"".join(content(self))[:-1]])


def other_peoples_mail(patch: pytest.MonkeyPatch) -> None:
    def broken(self: Channel, attempts: list[Attempt], destination: Destination, now_s: int) -> None:
        others = [one.address for slot in self.slots.values() for one in slot.attempts if one is not None]
        attempts[0].address = others[0] if others else attempts[0].address
        start(self, attempts, destination, now_s)

    start = Channel.start
    patch.setattr(Channel, "start", broken)


def leave_in_todo_at_the_exit(patch: pytest.MonkeyPatch) -> None:
    """The bug that the simulation found first (tests/unit/test_found_by_simulation.py), in other words."""
    end = Sender.end_messages

    def broken(self: Sender, now_s: int, *rest: object) -> None:
        if not self.exiting:
            end(self, now_s, *rest)  # type: ignore[arg-type]

    patch.setattr(Sender, "end_messages", broken)


def doubts_are_like_any_deferral(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(books, "is_in_doubt", lambda channel, report: False)


def doubts_are_only_logged(patch: pytest.MonkeyPatch) -> None:
    def broken(self: Journal, line: bytes) -> None:
        note(self, b"z " + line.split(b" ")[1] if line[:2] == b"? " else line)

    note = Journal.note
    patch.setattr(Journal, "note", broken)


def doubts_are_tried_at_once(patch: pytest.MonkeyPatch) -> None:
    enter = Books.enter

    def broken(self: Books, ended: list[tuple[Attempt, Report | None]]) -> None:
        enter(self, ended)
        for attempt, report in ended:
            if books.is_in_doubt(attempt.job.channel.name, report):
                attempt.job.retry_s = 0

    patch.setattr(Books, "enter", broken)


def doubts_count_as_success(patch: pytest.MonkeyPatch) -> None:
    take = Sender.take_reports

    def broken(self: Sender, channel: Channel, reports: list[tuple[int, Report | None]], now_s: int) -> None:
        sure = [(place, Report(b"K") if books.is_in_doubt(channel.name, one) else one) for place, one in reports]
        take(self, channel, sure, now_s)

    patch.setattr(Sender, "take_reports", broken)


def deaths_of_spawners_are_not_noted(patch: pytest.MonkeyPatch) -> None:
    def broken(self: Books) -> None:
        self._under_way.clear()
        close(self)

    close = Books.close
    patch.setattr(Books, "close", broken)


LOST = "nothing accepted is lost"
TWICE = "no duplicate without a cause"
STATES = "only legal queue states"
FINISHED = "only who waits is tried"
LEDGER = "the ledger balances"
LATE = "nothing due waits"
SLEEP = "no sleep beyond what is due"
NEW = "new mail is not overlooked"
WHOLE = "whole content"
RIGHT = "right recipient"

VARIANTS: dict[Breaking, set[str]] = {
    mark_before_the_report: {LOST, FINISHED},
    bounce_text_not_synced: {LOST, RIGHT},
    mark_without_bounce_text: {LOST},
    forget_a_channel: {LOST, FINISHED},
    ignore_concurrency: {"concurrency"},
    ignore_the_limit_of_a_host: {"concurrency"},
    one_report_for_a_whole_command: {LOST, FINISHED, TWICE, LEDGER, "concurrency", LATE, SLEEP},
    retry_too_early: {"never before its time"},
    retry_too_late: {LATE, SLEEP},
    sleep_too_long: {LATE, SLEEP},
    spin: {"no busy loop"},
    ignore_the_trigger: {NEW, "no busy loop"},
    lose_todo_on_a_full_disk: {LOST, STATES, LATE},
    settle_without_syncing: {LOST, STATES, RIGHT},
    end_without_syncing: {STATES, WHOLE, RIGHT, FINISHED, LOST, LEDGER},
    accept_without_syncing: {LOST, STATES, WHOLE},
    accept_what_could_not_be_written: {LOST},
    no_bounces: {LOST},
    bounce_twice: {TWICE},
    never_mark: {TWICE, FINISHED},
    mangled_counts_as_success: {LOST, FINISHED, LATE, SLEEP, "a doubt is told"},
    half_messages: {WHOLE},
    other_peoples_mail: {RIGHT, FINISHED, TWICE},
    leave_in_todo_at_the_exit: {TWICE, LEDGER},
    doubts_are_like_any_deferral: {"a doubt is told"},
    doubts_are_tried_at_once: {"never before its time"},
    doubts_count_as_success: {LOST, FINISHED, LATE, SLEEP, "a doubt is told"},
}

# What only the ledger can tell; noticed where neither power cut nor disk has cost it lines.
LEDGER_VARIANTS: dict[Breaking, str] = {
    doubts_are_only_logged: "the ledger knows of every doubt",
    deaths_of_spawners_are_not_noted: "the ledger knows of every repetition",
}
