"""qmail-send's parts together: what is logged, when it is tried again, who gets a bounce, what a restart finds."""

from collections.abc import Iterator

import pytest

from notqmail.control.rewrite import Routing
from notqmail.queue.layout import split_path
from notqmail.queue.store import LOCAL, REMOTE
from notqmail.send.cleaner_link import CleanerLost
from notqmail.send.destinations import FIRST_LIMIT
from notqmail.testing.fake_disk import FakeDisk
from notqmail.wire.reports import decode_report
from notqmail.wire.wide_link import Terms, WideCommandReader, encode_wide_report, place_of
from send_bench import NOW_S, Bench

A, B, FAR = b"a@me.test", b"b@me.test", b"c@far.test"
EXPIRED = b"I'm not going to try again; this message has been in the queue too long.\n"


@pytest.fixture
def bench() -> Iterator[Bench]:
    one = Bench()
    yield one
    one.close()


def test_one_local_delivery_is_logged_as_in_qmail(bench: Bench) -> None:
    bench.sender.log_status()
    number = bench.queue([A], sender=b"s p%e\nr@far.test")
    bench.turn()
    (command,) = bench.local.commands()
    assert (command.slot, command.sender, command.recipient) == (0, b"s p%e\nr@far.test", A)
    assert command.message == b"%d/%d" % (number % 23, number)
    size = len(bench.disk.read(split_path(b"mess", number)))
    bench.local.report(0, b"Kdid 1+0+0\n")
    bench.settle_down()
    assert bench.log.kept == [
        b"status: local 0/2 remote 0/2",
        b"new msg %d" % number,
        b"info msg %d: bytes %d from <s_p_e/r@far.test> qp 100 uid 7" % (number, size),
        b"starting delivery 1: msg %d to local a@me.test" % number,
        b"status: local 1/2 remote 0/2",
        b"delivery 1: success: did_1+0+0/",
        b"status: local 0/2 remote 0/2",
        b"end msg %d" % number,
    ]
    assert bench.paths() == []


def test_a_deferral_is_logged_and_tried_again_by_the_schedule(bench: Bench) -> None:
    number = bench.queue([FAR])
    bench.turn()
    bench.remote.commands()
    bench.remote.report(0, b"Zcome\nback later (100%)\n")
    bench.settle_down()
    assert bench.log.kept[-2:] == [b"delivery 1: deferral: come/back_later_(100_)/", b"status: local 0/2 remote 0/2"]
    for age_s, due in ((399, False), (400, True)):
        bench.at(NOW_S + age_s)
        assert bool(bench.remote.commands()) == due, age_s
    assert bench.log.kept[-2:] == [
        b"starting delivery 2: msg %d to remote c@far.test" % number, b"status: local 0/2 remote 1/2",
    ]  # fmt: skip
    bench.remote.report(0, b"Z")
    bench.turn()
    for age_s, due in ((1_599, False), (1_600, True)):
        bench.at(NOW_S + age_s)
        assert bool(bench.remote.commands()) == due, age_s


def test_the_next_try_counts_from_when_the_pass_began(bench: Bench) -> None:
    bench.queue([A])
    bench.turn()
    bench.at(NOW_S + 5_000)  # a slow delivery
    bench.local.report(0, b"Z")
    bench.turn(2)
    assert [command.slot for command in bench.local.commands()] == [0, 0], "overdue already: it begins at once"


def test_each_channel_has_its_own_schedule_and_slots(bench: Bench) -> None:
    bench.queue([A, FAR])
    bench.turn()
    assert len(bench.local.commands()) == len(bench.remote.commands()) == 1
    bench.local.report(0, b"Z")
    bench.remote.report(0, b"Z")
    bench.turn()
    bench.at(NOW_S + 100)
    assert (len(bench.local.commands()), len(bench.remote.commands())) == (1, 0)
    bench.at(NOW_S + 400)
    assert (len(bench.local.commands()), len(bench.remote.commands())) == (0, 1)


def test_slots_limit_a_channel_and_the_lowest_free_one_is_taken(bench: Bench) -> None:
    bench.queue([b"%d@me.test" % number for number in range(5)])
    bench.turn()
    assert [command.slot for command in bench.local.commands()] == [0, 1]
    bench.local.report(1, b"K")
    bench.turn()
    assert [(command.slot, command.recipient) for command in bench.local.commands()] == [(1, b"2@me.test")]
    bench.local.report(0, b"K")
    bench.turn()
    assert [(command.slot, command.recipient) for command in bench.local.commands()] == [(0, b"3@me.test")]
    assert bench.log.kept[-1] == b"status: local 2/2 remote 0/2"


def test_concurrency_zero_holds_mail_and_does_not_spin() -> None:
    bench = Bench(concurrency=(0, 2))
    bench.queue([A, B])
    bench.settle_down()
    assert bench.local.commands() == []
    bench.turn()
    bench.loop.turn()
    assert bench.timeouts[-1] > 1_000
    assert bench.logged(b"status:") == []
    bench.close()


def test_recipients_that_are_done_are_not_tried_again(bench: Bench) -> None:
    number = bench.queue([A, B])
    bench.turn()
    bench.local.commands()
    bench.local.report(0, b"K")
    bench.local.report(1, b"Z")
    bench.turn(2)
    assert bench.store.recipients(number, LOCAL) == b"Da@me.test\0Tb@me.test\0"
    bench.at(NOW_S + 100)
    assert [command.recipient for command in bench.local.commands()] == [B]


def test_failures_of_both_channels_come_in_one_bounce(bench: Bench) -> None:
    number = bench.queue([A, FAR, B], body=b"Subject: hello\n\ntext\n")
    bench.turn()
    bench.local.report(0, b"DSorry, no mailbox here by that name. (#5.1.1)\n")
    bench.local.report(1, b"K")
    bench.turn(2)
    assert bench.bounces == [], "not before the last recipient is settled"
    bench.remote.report(0, b"DIt says no.\n\nReally.")
    bench.settle_down()
    ((sender, recipients, text),) = bench.bounces
    assert (sender, recipients) == (b"", [b"s@far.test"])
    assert b"<a@me.test>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n" in text
    assert b"<c@far.test>:\nIt says no.\n/Really.\n\n--- Below this line is a copy of the message.\n" in text
    assert text.endswith(
        b"Return-Path: <s@far.test>\n"
        + b"Received: (qmail 100 invoked by uid 7); 12 Jan 1970 13:46:40 -0000\nSubject: hello\n\ntext\n"
    )
    assert b"delivery 1: failure: Sorry,_no_mailbox_here_by_that_name._(#5.1.1)/" in bench.log.kept
    assert bench.log.kept[-2:] == [b"bounce msg %d qp 4711" % number, b"end msg %d" % number]
    assert bench.paths() == []


@pytest.mark.parametrize(
    ("sender", "envelope", "opening", "shown"),
    [
        (b"s@far.test", (b"", [b"s@far.test"]), b"I'm afraid I wasn't able", b"<s@far.test>"),
        (b"", (b"#@[]", [b"postmaster@me.test"]), b"but the bounce bounced!", b"<>"),
        (b"list-@far.test-@[]", (b"", [b"list-@far.test"]), b"I'm afraid I wasn't able", b"<list-@far.test>"),
        (b"a b@far.test", (b"", [b"a b@far.test"]), b"I'm afraid I wasn't able", b'<"a b"@far.test>'),
    ],
)
def test_who_gets_a_bounce(bench: Bench, sender: bytes, envelope: object, opening: bytes, shown: bytes) -> None:
    bench.queue([A], sender=sender)
    bench.turn()
    bench.local.report(0, b"Dno")
    bench.settle_down()
    ((bounce_from, recipients, text),) = bench.bounces
    assert (bounce_from, recipients) == envelope
    assert opening in text and b"\nReturn-Path: " + shown + b"\n" in text


def test_a_triple_bounce_is_thrown_away(bench: Bench) -> None:
    number = bench.queue([A], sender=b"#@[]")
    bench.turn()
    bench.local.report(0, b"Dno")
    bench.settle_down()
    assert bench.bounces == []
    assert bench.log.kept[-2:] == [b"triple bounce: discarding bounce/%d" % number, b"end msg %d" % number]
    assert bench.paths() == []


def test_a_virtual_domain_s_prefix_is_routed_with_and_bounced_without(bench: Bench) -> None:
    bench.queue([b"info@virt.test"])
    bench.turn()
    (command,) = bench.local.commands()
    assert command.recipient == b"joe-info@virt.test"
    assert bench.logged(b"starting")[0].endswith(b"to local joe-info@virt.test")
    bench.local.report(0, b"Dno")
    bench.settle_down()
    assert b"\n<info@virt.test>:\nno\n" in bench.bounces[0][2]  # type: ignore[index]


def test_a_sender_that_asks_for_it_is_expanded_for_each_recipient(bench: Bench) -> None:
    bench.queue([A, b"info@virt.test"], sender=b"list-@far.test-@[]")
    bench.turn()
    assert [command.sender for command in bench.local.commands()] == [
        b"list-a=me.test@far.test", b"list-joe-info=virt.test@far.test",
    ]  # fmt: skip
    assert b"from <list-@far.test-@[]> qp" in bench.log.kept[1]


@pytest.mark.parametrize("failing", ["cannot start", "says Z", "says D"])
def test_a_bounce_that_cannot_be_queued_is_tried_again_after_123_seconds(bench: Bench, failing: str) -> None:
    bench.queue([A])
    bench.turn()
    bench.local.report(0, b"Dno")
    if failing == "cannot start":
        bench.cannot_open_submission, text = True, b"warning: unable to start qmail-queue, will try later"
    else:
        bench.bounce_answers, text = (
            [failing[-1:].encode() + b"qq"],
            b"warning: trouble injecting bounce message, will try later",
        )
    bench.settle_down()
    assert bench.logged(b"warning:") == [text]
    assert bench.logged(b"end msg") == []
    bench.cannot_open_submission = False
    bench.at(NOW_S + 122)
    assert bench.bounces == []
    bench.at(NOW_S + 123)
    bench.settle_down()
    assert len(bench.bounces) == 1 and len(bench.logged(b"end msg")) == 1
    assert bench.paths() == []


def test_after_the_lifetime_a_deferral_is_a_failure(bench: Bench) -> None:
    number = bench.queue([A])
    bench.turn()
    bench.local.report(0, b"Zlater\n")
    bench.turn()
    bench.at(NOW_S + 604_800)
    bench.local.report(0, b"Zlater\n")  # not yet older than the lifetime
    bench.turn(2)
    assert len(bench.logged(b"delivery 2: deferral: later/")) == 1
    due_s = bench.sender.passes[LOCAL].heap[0][0]
    bench.at(due_s)
    bench.local.report(0, b"Zlater\n")
    bench.settle_down()
    wording = b"I'm_not_going_to_try_again;_this_message_has_been_in_the_queue_too_long./"
    assert bench.logged(b"delivery 3:") == [b"delivery 3: failure: later/" + wording]
    assert b"<a@me.test>:\nlater\n" + EXPIRED in bench.bounces[0][2]  # type: ignore[index]
    assert bench.log.kept[-1] == b"end msg %d" % number


@pytest.mark.parametrize(("answer", "bounced"), [(b"K", False), (b"Dno", True), (b"X", False)])
def test_what_else_the_last_try_may_bring(bench: Bench, answer: bytes, bounced: bool) -> None:
    number = bench.queue([A, B])
    bench.turn()
    bench.local.report(0, b"Z")
    bench.local.report(1, b"K")
    bench.turn()
    bench.at(NOW_S + 700_000)
    bench.local.report(0, answer)
    bench.settle_down()
    assert bool(bench.bounces) == bounced
    if answer == b"X":  # mangled: deferred even now, as in C
        assert bench.paths() != [] and bench.log.kept[-2] == b"delivery 3: report mangled, will defer"
    else:
        assert bench.log.kept[-1] == b"end msg %d" % number
        assert b"not going to try again" not in b"".join(bench.log.kept)


def test_a_mangled_report_defers(bench: Bench) -> None:
    bench.queue([A])
    bench.turn()
    bench.local.report(0, b"what?")
    bench.settle_down()
    assert bench.log.kept[-2:] == [b"delivery 1: report mangled, will defer", b"status: local 0/2 remote 0/2"]
    bench.at(NOW_S + 100)
    assert len(bench.local.commands()) == 2


@pytest.mark.parametrize("slot", [1, 2, 119, 255])
def test_a_report_for_a_slot_in_which_nothing_runs_changes_nothing(bench: Bench, slot: int) -> None:
    bench.queue([A])
    bench.turn()
    bench.local.report(slot, b"K")
    bench.turn()
    assert bench.log.kept[-1] == b"warning: internal error: delivery report out of range"
    assert len(bench.paths()) == 2
    bench.local.report(0, b"K")
    bench.settle_down()
    assert bench.paths() == []


def test_one_report_too_many_is_out_of_range(bench: Bench) -> None:
    bench.queue([A])
    bench.turn()
    bench.local.say(b"\0K\0\0K\0")
    bench.settle_down()
    assert bench.logged(b"warning") == [b"warning: internal error: delivery report out of range"]
    assert bench.paths() == []


def test_alrm_makes_everything_due(bench: Bench) -> None:
    bench.queue([A, FAR])
    bench.turn()
    bench.local.report(0, b"Z")
    bench.remote.report(0, b"Z")
    bench.turn(2)
    bench.local.commands(), bench.remote.commands()
    bench.flags.run = True
    bench.turn()
    assert (len(bench.local.commands()), len(bench.remote.commands())) == (1, 1)
    assert not bench.flags.run


def test_hup_rereads_and_leaves_what_is_routed_already(bench: Bench) -> None:
    bench.queue([A])
    bench.turn()
    bench.local.report(0, b"Z")
    bench.turn()
    bench.flags.reread = True
    bench.turn()
    assert bench.rereads == 1
    bench.preprocessor.routing = Routing(
        local_domains=[], virtual_domains={}, percent_domains=[], default_host=b"me.test"
    )
    bench.queue([B])
    bench.local.commands()
    bench.at(NOW_S + 100)
    assert [command.recipient for command in bench.local.commands()] == [A]
    assert [command.recipient for command in bench.remote.commands()] == [B]


def run_to_the_end(bench: Bench) -> None:
    bench.loop.run()
    assert bench.log.kept[-1] == b"status: exiting"


def test_term_waits_for_what_runs_and_starts_nothing_new(bench: Bench) -> None:
    bench.queue([A, B, b"third@me.test"])
    bench.turn()
    bench.local.commands()
    bench.flags.exit = True
    bench.queue([FAR])
    bench.turn(2)
    assert bench.remote.commands() == []
    bench.local.report(0, b"K")
    bench.turn()
    assert bench.local.commands() == []
    assert bench.log.kept[-1] == b"status: local 1/2 remote 0/2 exitasap"
    assert not bench.sender.may_exit()
    bench.local.report(1, b"K")
    run_to_the_end(bench)
    assert bench.log.kept[-2] == b"status: local 0/2 remote 0/2 exitasap"


def test_what_is_delivered_from_todo_while_exiting_is_not_delivered_again(bench: Bench) -> None:
    bench.queue([A])
    bench.queue([B, FAR])
    bench.turn()
    bench.flags.exit = True
    for slot in (0, 1):
        bench.local.report(slot, b"K")
    bench.remote.report(0, b"K")
    bench.turn()
    run_to_the_end(bench)
    again = Bench(bench.disk, now_s=NOW_S + 1)
    again.settle_down()
    assert again.local.commands() == again.remote.commands() == []
    assert again.paths() == []
    again.close()


def test_term_writes_due_times_into_the_channel_files_and_the_next_start_keeps_to_them(bench: Bench) -> None:
    number = bench.queue([A, FAR])
    bench.turn()
    bench.local.report(0, b"Z")
    bench.remote.report(0, b"Z")
    bench.turn()
    bench.flags.exit = True
    run_to_the_end(bench)
    for channel, due_s in ((LOCAL, NOW_S + 100), (REMOTE, NOW_S + 400)):
        state = bench.disk.state(split_path(channel, number))
        assert state is not None and state.modified_s == due_s
    again = Bench(bench.disk, now_s=NOW_S + 50)
    again.turn()
    assert again.local.commands() == []
    again.at(NOW_S + 100)
    assert (len(again.local.commands()), len(again.remote.commands())) == (1, 0)
    again.at(NOW_S + 400)
    assert len(again.remote.commands()) == 1
    again.remote.report(0, b"Z")
    again.turn()
    assert again.sender.passes[REMOTE].heap[0][0] == NOW_S + 1_600, "the birth is still the first one's"
    again.close()


def test_after_a_kill_who_was_put_off_keeps_his_time_and_who_was_under_way_comes_at_once(bench: Bench) -> None:
    bench.queue([A, B])
    bench.turn()
    bench.local.report(0, b"Z")
    bench.local.report(1, b"K")
    bench.turn()
    bench.queue([A, B])
    bench.turn()
    bench.local.commands()
    again = Bench(bench.disk, now_s=NOW_S + 1)
    again.turn()
    assert [command.recipient for command in again.local.commands()] == [A, B], "the second one's"
    again.local.report(0, b"K")
    again.local.report(1, b"K")
    again.settle_down()
    again.at(NOW_S + 100)
    assert [command.recipient for command in again.local.commands()] == [A]
    again.close()


def test_a_clean_stop_writes_no_due_time_that_the_disk_knows(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        bench.queue([A, B])
        bench.turn()
        for slot in (0, 1):
            bench.local.report(slot, b"Z")
        bench.turn()
    written: list[int] = []
    save_due = bench.store.save_due
    monkeypatch.setattr(
        bench.store, "save_due", lambda number, *rest: (written.append(number), save_due(number, *rest))
    )
    bench.flags.exit = True
    run_to_the_end(bench)
    assert written == []


def test_what_alrm_made_due_is_due_after_a_stop_as_well(bench: Bench) -> None:
    bench.queue([A, B])
    bench.turn()
    for slot in (0, 1):
        bench.local.report(slot, b"Z")
    bench.turn()
    bench.local.commands()
    bench.flags.run = bench.flags.exit = True
    run_to_the_end(bench)
    again = Bench(bench.disk, now_s=NOW_S + 1)
    again.turn()
    assert [command.recipient for command in again.local.commands()] == [A, B]
    again.close()


def test_a_due_time_that_could_not_be_noted_is_noted_at_a_clean_stop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(30, "read-only")

    number = bench.queue([A, B])
    bench.turn()
    for slot in (0, 1):
        bench.local.report(slot, b"Z")
    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "save_due", broken)
        bench.turn()
    bench.flags.exit = True
    run_to_the_end(bench)
    state = bench.disk.state(split_path(LOCAL, number))
    assert state is not None and state.modified_s == NOW_S + 100


def test_a_touched_info_file_rejuvenates_a_message(bench: Bench) -> None:
    number = bench.queue([A, B])
    bench.turn()
    bench.local.report(0, b"Z")
    bench.local.report(1, b"K")
    bench.turn()
    bench.disk.set_modified(split_path(b"info", number), NOW_S + 700_000)
    bench.at(NOW_S + 700_001)
    bench.local.report(0, b"Z")
    bench.turn()
    assert bench.bounces == []
    assert bench.sender.passes[LOCAL].heap[0][0] == NOW_S + 700_000 + 121


@pytest.mark.parametrize("lost", ["local", "remote"])
def test_a_lost_spawner_ends_qmail_send_when_the_other_channel_is_idle(bench: Bench, lost: str) -> None:
    bench.queue([A, FAR])
    bench.turn()
    dying, living = (bench.local, bench.remote) if lost == "local" else (bench.remote, bench.local)
    dying.die()
    bench.turn()
    assert bench.logged(b"alert:") == [b"alert: oh no! lost spawn connection! dying..."]
    assert not bench.sender.may_exit(), "the other one still delivers"
    living.report(0, b"K")
    run_to_the_end(bench)
    again = Bench(bench.disk, now_s=NOW_S + 1)
    again.turn()
    assert (len(again.local.commands()), len(again.remote.commands())) == ((1, 0) if lost == "local" else (0, 1))
    again.close()


def test_a_lost_qmail_clean_ends_qmail_send(bench: Bench) -> None:
    number = bench.queue([A])
    bench.turn()
    bench.cleaner.answers = [CleanerLost()]
    bench.local.report(0, b"K")
    bench.settle_down()
    run_to_the_end(bench)
    assert bench.logged(b"alert:") == [b"alert: oh no! lost qmail-clean connection! dying..."]
    assert bench.disk.state(b"todo/%d" % number) is not None, "it will be delivered again, not lost"


def test_what_came_with_the_loss_of_qmail_clean_is_noted_all_the_same(bench: Bench) -> None:
    both = bench.queue([A, b"b@far.test"])
    bench.turn(2)
    bench.queue([A])
    bench.turn(2)
    first, second = bench.local.commands()
    bench.local.report(first.slot, b"K")
    bench.local.report(second.slot, b"Z")  # to be settled, for which qmail-clean is needed
    bench.cleaner.answers = [CleanerLost()]
    bench.turn()
    assert bench.logged(b"alert:") == [b"alert: oh no! lost qmail-clean connection! dying..."]
    assert bench.disk.state(split_path(b"local", both)) is None, "it would be delivered again"


def test_nobody_to_send_to_just_ends(bench: Bench) -> None:
    number = bench.queue([])
    bench.settle_down()
    assert bench.log.kept[-1] == b"end msg %d" % number
    assert bench.paths() == []


def test_mail_for_a_million_recipients_fills_no_pipe(bench: Bench) -> None:
    """Commands wait for a spawner that does not read, and no more of them than a pipe and a buffer hold."""
    big = Bench(concurrency=(200, 200))
    big.queue([b"%d@%s.test" % (number, b"x" * 900) for number in range(400)])
    big.settle_down()
    assert big.sender.channels[REMOTE].in_use < 200
    seen = 0
    while seen < 400:
        commands = big.remote.commands()
        for command in commands:
            big.remote.report(command.slot, b"K")
        seen += len(commands)
        big.turn()
    big.settle_down()
    assert big.paths() == []
    big.close()


class Unremovable(FakeDisk):
    """`local/...` and `remote/...` do not go while `stuck`."""

    stuck = True

    def discard(self, path: bytes) -> None:
        if self.stuck and path.startswith((b"local/", b"remote/")) and path in self.everything():
            raise PermissionError(13, "no", path)
        super().discard(path)


def test_a_channel_file_that_cannot_be_removed_costs_no_second_delivery() -> None:
    disk = Unremovable(NOW_S)
    bench = Bench(disk)
    number = bench.queue([A, B])
    bench.turn()
    bench.local.commands()
    bench.local.report(0, b"K")
    bench.local.report(1, b"K")
    bench.settle_down()
    path = split_path(LOCAL, number)
    assert bench.logged(b"warning: unable to unlink") == [
        b"warning: unable to unlink " + path + b"; will try again later"
    ]
    disk.stuck = False
    bench.at(NOW_S + 123)
    bench.settle_down()
    assert bench.local.commands() == []
    assert bench.paths() == []
    bench.close()


@pytest.mark.parametrize(
    ("file", "content", "warning"),
    [
        (b"local", b"Xwhat\0", b"warning: unknown record type in %b!"),
        (b"info", b"", b"warning: trouble opening %b; will try again later"),
        (b"info", None, b"warning: trouble opening %b; will try again later"),
        (b"local", None, b"warning: trouble opening %b; will try again later"),
    ],
)
def test_a_broken_queue_file_is_named_in_the_log_and_the_message_waits(
    bench: Bench, file: bytes, content: bytes | None, warning: bytes
) -> None:
    number = bench.queue([A, B])
    bench.turn()
    bench.local.commands()
    bench.local.report(0, b"Z")
    bench.local.report(1, b"Z")
    bench.turn()
    path = split_path(file, number)
    bench.disk.unlink(path)
    if content is not None:
        bench.disk.create(path, [content])
    bench.at(NOW_S + 100)
    bench.settle_down()
    assert bench.logged(b"warning:") == [warning % (split_path(b"local", number) if file == b"info" else path)]
    assert bench.local.commands() == []
    assert bench.timeouts[-1] > 1, "and it does not spin"


def test_alrm_also_wakes_what_waits_because_the_disk_was_in_trouble(bench: Bench) -> None:
    bench.queue([A])
    bench.turn()
    bench.local.commands()
    bench.cleaner.answers = [False]  # todo/N cannot be removed now
    bench.local.report(0, b"K")
    bench.settle_down()
    assert bench.paths(b"todo/") != []
    bench.flags.run = True
    bench.settle_down()
    assert bench.paths() == []


def test_alrm_also_looks_at_what_was_set_aside_in_todo(bench: Bench) -> None:
    bench.queue([A])
    bench.turn()
    bench.local.commands()
    bench.cleaner.answers = [False]  # it cannot be settled now
    bench.local.report(0, b"Znot now\n")
    bench.settle_down()
    assert bench.paths(b"todo/") != []
    bench.flags.run = True
    bench.loop.turn()
    bench.settle_down()
    assert len(bench.local.commands()) == 1


@pytest.fixture
def wide() -> Iterator[Bench]:
    """A qmail-send whose remote spawner takes three recipients at once."""
    one = Bench(terms=Terms(2, 3))
    yield one
    one.close()


def wide_reports(bench: Bench, *reports: tuple[int, int, bytes]) -> None:
    bench.remote.say(
        b"".join(encode_wide_report(place_of(slot, at), decode_report(text)) for slot, at, text in reports)
    )


def test_recipients_at_one_host_go_in_one_command_and_are_logged_each(wide: Bench) -> None:
    number = wide.queue([b"a@far.test", b"x@other.test", b"b@far.test"])
    wide.turn()
    first, second = WideCommandReader().receive(wide.remote.received())
    assert (first.slot, first.recipients) == (0, (b"a@far.test", b"b@far.test"))
    assert (second.slot, second.recipients) == (1, (b"x@other.test",))
    assert wide.log.kept[-5:] == [
        b"starting delivery 1: msg %d to remote a@far.test" % number,
        b"starting delivery 2: msg %d to remote b@far.test" % number,
        b"status: local 0/2 remote 1/2",
        b"starting delivery 3: msg %d to remote x@other.test" % number,
        b"status: local 0/2 remote 2/2",
    ]
    wide_reports(wide, (0, 1, b"Dno"), (0, 0, b"Kyes"))
    wide.turn()
    assert wide.log.kept[-4:] == [
        b"delivery 2: failure: no", b"status: local 0/2 remote 2/2",
        b"delivery 1: success: yes", b"status: local 0/2 remote 1/2",
    ]  # fmt: skip
    assert wide.store.recipients(number, REMOTE).count(b"D") == 2
    wide_reports(wide, (1, 0, b"Kyes"))
    wide.settle_down()
    ((_, recipients, text),) = wide.bounces
    assert recipients == [b"s@far.test"] and b"<b@far.test>:\nno\n" in text and b"a@far.test" not in text
    assert wide.paths() == []


def test_who_was_deferred_in_a_batch_is_tried_again_and_nobody_else(wide: Bench) -> None:
    number = wide.queue([b"a@far.test", b"b@far.test", b"c@far.test"])
    wide.turn()
    wide.remote.received()
    wide_reports(wide, (0, 0, b"K"), (0, 1, b"Zlater"))
    wide.turn()
    assert wide.sender.channels[REMOTE].in_use == 1, "one has no report yet"
    wide_reports(wide, (0, 2, b"K"))
    wide.turn()
    assert wide.store.recipients(number, REMOTE) == b"Da@far.test\0Tb@far.test\0Dc@far.test\0"
    wide.at(NOW_S + 400)
    (command,) = WideCommandReader().receive(wide.remote.received())
    assert command.recipients == (b"b@far.test",)


def test_a_spawner_that_dies_in_a_batch_leaves_the_unreported_for_the_next_start(wide: Bench) -> None:
    number = wide.queue([b"a@far.test", b"b@far.test"])
    wide.turn()
    wide_reports(wide, (0, 1, b"K"))
    wide.turn()
    wide.remote.die()
    wide.turn(2)
    assert wide.sender.exiting
    assert wide.store.recipients(number, REMOTE) == b"Ta@far.test\0Db@far.test\0"


def test_the_next_try_of_a_message_that_waited_for_its_host_counts_from_its_first_delivery() -> None:
    bench = Bench(concurrency=(2, 10), terms=Terms(10, 3))
    numbers = [bench.queue([FAR]) for _ in range(FIRST_LIMIT + 1)]
    bench.turn()
    assert len(WideCommandReader().receive(bench.remote.received())) == FIRST_LIMIT
    bench.at(NOW_S + 200)
    wide_reports(bench, *((slot, 0, b"Z") for slot in range(FIRST_LIMIT)))
    bench.turn()
    (command,) = WideCommandReader().receive(bench.remote.received())
    assert command.message.endswith(b"/%d" % numbers[-1])
    wide_reports(bench, (0, 0, b"Z"))
    bench.turn()
    (due_s,) = [due_s for due_s, number in bench.sender.passes[REMOTE].heap if number == numbers[-1]]
    assert due_s == NOW_S + 34**2, "14 is the root of 200 s, 20 more is 34"
    bench.close()


def test_who_waits_for_slow_hosts_takes_nobody_s_place_after_three_seconds() -> None:
    bench = Bench(concurrency=(2, 2), terms=Terms(4, 3), slow_max=2)

    def started(now_s: int) -> list[bytes]:
        bench.at(now_s)
        return [command.recipient for command in WideCommandReader().receive(bench.remote.received())]

    for host in range(6):
        bench.queue([b"r@%d.test" % host])
    assert len(started(NOW_S)) == 2
    bench.loop.turn()
    assert 2 < bench.timeouts[-1] <= 4, "it wakes for it"
    assert started(NOW_S + 2) == []
    assert len(started(NOW_S + 3)) == 2, "the first two do not count any more"
    assert started(NOW_S + 9) == [], "these two count: only so many do not"
    assert bench.log.kept[-1] == b"status: local 0/2 remote 4/4"
    wide_reports(bench, (0, 0, b"Kyes"))  # a slow one ends: another one is slow by now
    assert len(started(NOW_S + 9)) == 1
    wide_reports(bench, (2, 0, b"Kyes"))
    assert len(started(NOW_S + 10)) == 1
    assert started(NOW_S + 20) == []
    bench.close()


def test_the_status_says_how_many_may_be_under_way_and_never_that_more_are() -> None:
    bench = Bench(concurrency=(2, 2), terms=Terms(6, 3), slow_max=3)
    for host in range(6):
        bench.queue([b"r@%d.test" % host])
    bench.turn()
    assert bench.log.kept[-1] == b"status: local 0/2 remote 2/2"
    for now_s in (NOW_S + 3, NOW_S + 6):
        bench.at(now_s)
    wide_reports(bench, *((slot, 0, b"Kyes") for slot in (0, 1, 4)))  # two slow ones and one that counts
    bench.turn()
    wide_reports(bench, *((slot, 0, b"Kyes") for slot in (2, 3, 0)))
    bench.turn()
    shown = [line.rpartition(b" ")[2].split(b"/") for line in bench.logged(b"status:")]
    assert all(int(used) <= int(ceiling) for used, ceiling in shown)
    assert [b"5", b"5"] in shown and shown[-1] == [b"0", b"2"]
    bench.close()


def test_untried_are_those_that_wait_in_todo_for_a_slot(bench: Bench) -> None:
    for _ in range(5):
        bench.queue([A])
    bench.queue([A, B])
    bench.turn()
    assert (len(bench.sender.in_todo), bench.sender.untried) == (5, 3)
    bench.local.report(0, b"K")
    bench.local.report(1, b"Z")
    bench.turn()
    assert (len(bench.sender.in_todo), bench.sender.untried) == (4, 1), "one is settled, one has ended"
    bench.settle_down()
    assert (len(bench.sender.in_todo), bench.sender.untried) == (3, 1)


def test_one_who_makes_the_server_hang_up_does_not_take_the_others_along_twice(wide: Bench) -> None:
    wide.queue([b"a@far.test", b"poison@far.test", b"b@far.test"])
    wide.turn()
    assert len(WideCommandReader().receive(wide.remote.received())) == 1
    wide_reports(wide, *((0, at, b"Zconnection died") for at in range(3)))
    wide.turn()
    wide.at(NOW_S + 400)
    commands = WideCommandReader().receive(wide.remote.received())
    assert [command.recipients for command in commands] == [(b"a@far.test",), (b"poison@far.test",)], "two slots"


def test_the_last_try_is_made_for_each_alone(wide: Bench) -> None:
    wide.queue([b"a@far.test", b"b@far.test"])
    wide.turn()
    wide.remote.received()
    wide_reports(wide, (0, 0, b"Z"), (0, 1, b"Z"))
    wide.turn()
    wide.at(NOW_S + 700_000)
    commands = WideCommandReader().receive(wide.remote.received())
    assert [len(command.recipients) for command in commands] == [1, 1]
