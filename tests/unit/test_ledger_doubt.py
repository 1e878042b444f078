"""In doubt: an attempt of which nobody knows whether it arrived has a line, a log line and a count of its own."""

import pytest

from notqmail.admin.ledger import as_text, look_at
from notqmail.queue.ledger import ACCEPTED, ENDED, channel_and_offset, encode_group, journal_lines, which
from notqmail.queue.ledger_book import Events, balance
from notqmail.queue.store import LOCAL, REMOTE, QueueStore
from notqmail.send.books import Books, is_in_doubt
from notqmail.send.channels import Attempt, Channel
from notqmail.send.jobs import Job
from notqmail.send.log import Log
from notqmail.testing.fake_disk import FakeDisk
from notqmail.wire.reports import Report, permanent, success, temporary
from notqmail.wire.smtp_client import Envelope, Session

DIED = b"Connected to 192.0.2.1 but connection died. Possible duplicate! (#4.4.2)\n"
SENT = b"192.0.2.1 failed after I sent the message.\n"
EXPIRED = b"I'm not going to try again; this message has been in the queue too long.\n"

CASES = [
    # name, channel, report, in doubt
    ("the connection died after the dot", REMOTE, temporary(DIED), True),
    ("the same, as its time was over", REMOTE, permanent(DIED + EXPIRED), True),
    ("the connection died before", REMOTE, temporary(DIED.replace(b"Possible duplicate! ", b"")), False),
    ("a server that uses the words", REMOTE, temporary(SENT + b"Remote host said: 451 " + DIED), False),
    ("refused, and others of the transaction are in doubt", REMOTE,
     temporary(b"192.0.2.1 does not like recipient.\nRemote host said: 450 later\n" + DIED), False),
    ("refused after the dot", REMOTE, temporary(SENT + b"Remote host said: 452 full\n"), False),
    ("refused for good after the dot", REMOTE, permanent(SENT + b"Remote host said: 554 no\n"), False),
    ("an answer after the dot that is none", REMOTE, temporary(SENT + b"Remote host said: 250ok or so\n"), True),
    ("an answer after the dot that asks for more", REMOTE, temporary(SENT + b"Remote host said: 354 go on\n"), True),
    ("an empty answer after the dot", REMOTE, temporary(SENT), True),
    ("qmail-remote died", REMOTE, temporary(b"qmail-remote crashed.\n"), True),
    ("qmail-local died", LOCAL, temporary(b"qmail-local crashed.\n"), True),
    ("a local program that says so", LOCAL, temporary(DIED), False),
    ("a report that nobody can read", LOCAL, None, True),
    ("delivered", REMOTE, success(DIED), False),
    ("no connection", REMOTE, temporary(b"Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"), False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "channel", "report", "doubt"), CASES, ids=[case[0] for case in CASES])
def test_what_is_in_doubt(name: str, channel: bytes, report: Report | None, doubt: bool) -> None:
    assert is_in_doubt(channel, report) is doubt


@pytest.mark.parametrize("answer", [b"", b"250", b"250 ok\r\n"])
def test_what_our_own_client_says_when_the_connection_dies_after_the_dot_is_in_doubt(answer: bytes) -> None:
    session = Session(b"192.0.2.1", b"me.test")
    session.begin(Envelope(b"s@x", [b"r@y"]))
    for reply in (b"220 x\r\n", b"250 x\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
        session.receive(reply)
    session.end_body()
    session.receive(answer)
    session.connection_died()
    assert session.outcome is not None
    assert is_in_doubt(REMOTE, session.outcome.report) is (answer != b"250 ok\r\n")


class Desk:
    """Books on a disk of their own."""

    def __init__(self, disk: FakeDisk | None = None) -> None:
        self.disk = disk or FakeDisk()
        if disk is None:
            for directory in (ACCEPTED, ENDED):
                self.disk.create(directory + b"/current", ())
        self.log = KeptLog()
        self.books = Books(QueueStore(self.disk), self.log)
        self.books.open()
        self._count = 0

    def attempt(self, channel: bytes, offset: int = 0, number: int = 5) -> Attempt:
        self._count += 1
        job = Job(number, Channel(channel, 1, -1, -1), b"s@x", 0, b"")
        self.books.begun(number)
        return Attempt(self._count, job, offset, b"r@y")

    def lines(self) -> list[bytes]:
        return [line for line in journal_lines(self.disk, ENDED) if line not in (b"start", b"stop")]


class KeptLog(Log):
    """Its lines."""

    __slots__ = ("kept",)

    def __init__(self) -> None:
        super().__init__(-1)
        self.kept: list[bytes] = []

    def line(self, text: bytes) -> None:
        self.kept.append(text)


def test_a_doubt_has_a_line_in_the_ledger_and_one_in_the_log_and_says_which_recipient() -> None:
    desk = Desk()
    desk.books.enter([(desk.attempt(REMOTE, 0), temporary(DIED))])
    desk.books.enter([(desk.attempt(REMOTE, 7), permanent(DIED + EXPIRED))])
    desk.books.enter([(desk.attempt(LOCAL, 0), temporary(b"qmail-local crashed.\n"))])
    desk.books.enter([(desk.attempt(LOCAL, 9), temporary(b"busy"))])
    assert desk.lines() == [b"s 5", b"? 5 1", b"s 5", b"u 5 15", b"s 5", b"? 5", b"s 5", b"z 5"]
    assert desk.log.kept == [
        b"warning: msg 5: delivery 1 is in doubt, it may have arrived; will try again",
        b"warning: msg 5: delivery 2 is in doubt, it may have arrived; its time is over",
        b"warning: msg 5: delivery 3 is in doubt, it may have arrived; will try again",
    ]


@pytest.mark.parametrize(("channel", "offset"), [(LOCAL, 0), (REMOTE, 0), (LOCAL, 41), (REMOTE, 10**9)])
def test_a_recipient_is_one_number(channel: bytes, offset: int) -> None:
    assert channel_and_offset(which(channel, offset)) == (channel, offset)


SUMS = [
    # name, events, (doubtful, doubted, maybe_again, failed_in_doubt, who still is: attempts)
    ("nobody", b"k 5 1", (0, 0, 0, 0, [])),
    ("in doubt and waiting", b"? 5 1", (1, 1, 0, 0, [1])),
    ("three times", b"? 5 1,? 5 1,? 5 1", (3, 1, 0, 0, [3])),
    ("then delivered", b"? 5 1,? 5 1,k 5 1", (2, 1, 1, 0, [])),
    ("another one delivered", b"? 5 1,k 5 15", (1, 1, 0, 0, [1])),
    ("then refused", b"? 5 1,z 5,b 5 1", (1, 1, 0, 1, [])),
    ("to the end of its time", b"? 5 1,u 5 1", (2, 1, 0, 1, [])),
    ("only at the end", b"u 5 1", (1, 1, 0, 1, [])),
    ("two of them", b"? 5 1,? 5 15,k 5 1,k 5 15", (2, 2, 2, 0, [])),
    ("local and remote", b"? 5,? 5 1,k 5", (2, 2, 1, 0, [1])),
]


@pytest.mark.parametrize(("name", "events", "want"), SUMS, ids=[case[0] for case in SUMS])
@pytest.mark.parametrize("summed_up", [False, True])
def test_doubts_are_counted_for_each_recipient(
    name: str, events: bytes, want: tuple[object, ...], summed_up: bool
) -> None:
    read = Events()
    for line in [b"n 5 9 2", *events.split(b",")]:
        read.read([line])
        if summed_up:
            lines = list(read.totals_lines())
            read = Events()
            read.read(lines)
    totals = balance([], read, {}, {5: read.living[5].left})
    attempts = [count for _, _, count in totals.in_doubt]
    assert (totals.doubtful, totals.doubted, totals.maybe_again, totals.failed_in_doubt, attempts) == want
    assert totals.faults == []


def test_the_command_names_who_is_in_doubt_with_the_address_and_how_often() -> None:
    disk = FakeDisk()
    disk.create(ACCEPTED + b"/current", [encode_group([b"+ 5 9 3"])])
    disk.create(ENDED + b"/current", [encode_group([b"n 5 9 3", b"? 5 15", b"? 5 15", b"k 5 1"])])
    disk.create(b"info/5/5", [b"Fs@x\0"])
    disk.create(b"remote/5/5", [b"Da@far\0Tb\x1b@f\0Tc@far\0"])
    text = as_text(look_at(disk, b"/home"))  # type: ignore[arg-type]
    assert "2   attempts in doubt (nobody knows whether it arrived), for 1 recipient" in text
    assert "in doubt: msg 5 (qp 9) to b_@f: 2 attempts in doubt" in text
    assert text.endswith("The ledger balances.")


def test_a_recipient_whose_queue_file_is_gone_is_named_by_its_place() -> None:
    disk = FakeDisk()
    disk.create(ACCEPTED + b"/current", ())
    disk.create(ENDED + b"/current", [encode_group([b"n 5 9 1", b"? 5 1"])])
    text = as_text(look_at(disk, b"/home"))  # type: ignore[arg-type]
    assert "in doubt: msg 5" not in text, "it does not wait: it is gone, and that is a fault"
    assert "FAULT: message 5 (qp 9) is gone with 1 recipients unexplained" in text


def test_what_was_with_a_spawner_that_died_may_be_repeated_and_is_noted_before_the_stop() -> None:
    desk = Desk()
    desk.attempt(REMOTE, 0, 5)
    desk.attempt(REMOTE, 7, 5)
    desk.books.enter([(desk.attempt(REMOTE, 0, 6), success())])
    desk.books.close()
    assert journal_lines(desk.disk, ENDED)[-2:] == [b"! 5 2", b"stop"]
    assert (
        desk.log.kept[-1] == b"warning: msg 5: 2 deliveries were under way when its spawner died; they may be repeated"
    )
    again = Desk(desk.disk)
    assert again.log.kept == [], "the next start has nothing to make good"


def test_a_report_for_nothing_that_was_begun_does_no_harm() -> None:
    desk = Desk()
    attempt = desk.attempt(REMOTE)
    desk.books.enter([(attempt, success())])
    desk.books.enter([(attempt, success())])
    desk.books.close()
    assert journal_lines(desk.disk, ENDED)[-1] == b"stop"
    assert b"! 5 1" not in desk.lines()


def test_a_message_that_ended_and_could_not_leave_todo_is_no_other_message_at_the_next_start() -> None:
    desk = Desk()
    desk.disk.create(b"todo/5", [b"u1\0p9\0Fs@x\0Tr@y\0"])
    desk.books.ended(5)
    desk.books.ended(6)
    desk.books.close()
    assert journal_lines(desk.disk, ENDED)[-1] == b"- 6", "qmail-clean has died: that was no clean stop"
    desk.disk.unlink(b"todo/5")
    desk.books.close()
    assert journal_lines(desk.disk, ENDED)[-1] == b"stop"


def test_a_message_whose_end_was_lost_on_a_full_disk_is_ended_although_another_one_has_its_number_now() -> None:
    desk = Desk()
    store = QueueStore(desk.disk)
    for line in (b"n 5 9 1", b"s 5", b"k 5"):
        store.ledger.note(line)
    store.ledger.flush()
    desk.disk.create(b"todo/5", [b"u1\0p10\0Fs@x\0Tr@y\0"])
    desk.disk.create(b"mess/5/5", [b"m"])
    Desk(desk.disk)
    assert journal_lines(desk.disk, ENDED)[-2:] == [b"- 5", b"start"]
    again = Events()
    again.read(journal_lines(desk.disk, ENDED))
    assert not again.living
