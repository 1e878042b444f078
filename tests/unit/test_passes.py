"""Whose turn it is on a channel: batches by host, limits that adapt, opening ahead."""

import pytest

from notqmail.send import destinations as destinations_module
from notqmail.send import passes as passes_module
from notqmail.send.destinations import FIRST_LIMIT, Batch, Destinations
from notqmail.send.jobs import Job
from notqmail.send.passes import Passes


def job_for(*addresses: bytes, number: int = 1, sender: bytes = b"s@x") -> Job:
    records = b"".join(b"T%b\0" % address for address in addresses)
    return Job(number, None, sender, 0, records)  # type: ignore[arg-type]


class Table:
    """Passes over jobs that lie ready; what was opened and looked at is noted."""

    def __init__(self, *jobs: Job, batch_max: int = 3, host_limit: int = 20) -> None:
        self.jobs = {job.number: job for job in jobs}
        self.opened: list[int] = []
        self.looked: list[int] = []
        self.passes = Passes(self._open, self._look, batch_max=batch_max, host_limit=host_limit)
        for job in jobs:
            self.passes.schedule(0, job.number)

    def _open(self, number: int, now_s: int) -> Job | None:
        self.opened.append(number)
        return self.jobs.get(number)

    def _look(self, job: Job, now_s: int) -> None:
        self.looked.append(job.number)

    def next(self, now_s: int = 0) -> Batch | None:
        return self.passes.next_batch(now_s)

    def all(self) -> list[tuple[int, list[bytes]]]:
        """Everything that may start now: (message, addresses)."""
        return [shown(batch) for batch in iter(self.next, None)]


def shown(batch: Batch) -> tuple[int, list[bytes]]:
    return batch.job.number, [address for _, address in batch.recipients]


def test_recipients_at_one_host_share_a_batch_wherever_they_stand_in_the_file() -> None:
    table = Table(job_for(b"a@x", b"b@y", b"c@X", b"d@x", b"e@x", b"f@y"))
    assert table.all() == [(1, [b"a@x", b"c@X", b"d@x"]), (1, [b"b@y", b"f@y"]), (1, [b"e@x"])]


def test_offsets_stay_with_their_addresses() -> None:
    batch = Table(job_for(b"a@x", b"bb@y", b"c@x")).next()
    assert batch is not None and batch.recipients == [(0, b"a@x"), (11, b"c@x")]


def test_a_batch_has_no_more_bytes_than_a_command_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes_module, "BATCH_BYTES_MAX", 10)
    addresses = [b"a@x", b"b@x", b"c@x", b"much-longer@x", b"d@x"]
    assert table_sizes(Table(job_for(*addresses), batch_max=100)) == [2, 1, 1, 1]


@pytest.mark.parametrize(("most", "sizes"), [(10, [2, 2, 1]), (9, [1, 1, 1, 1, 1]), (15, [3, 2])])
def test_a_batch_s_bytes_are_its_addresses_and_a_nul_for_each(
    most: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes_module, "BATCH_BYTES_MAX", most)
    assert table_sizes(Table(job_for(*[b"aa@x"] * 5), batch_max=100)) == sizes


def table_sizes(table: Table) -> list[int]:
    return [len(addresses) for _, addresses in table.all()]


def test_a_sender_that_is_expanded_for_each_recipient_shares_nothing() -> None:
    assert table_sizes(Table(job_for(b"a@x", b"b@x", sender=b"list-@me-@[]"))) == [1, 1]


def test_the_local_channel_takes_recipients_in_order_and_opens_nothing_ahead() -> None:
    table = Table(job_for(b"a@x", b"b@y", b"c@x"), job_for(b"d@x", number=2), host_limit=passes_module.UNLIMITED)
    first = table.next()
    assert first is not None and shown(first) == (1, [b"a@x"]) and table.opened == [1]
    assert table.all() == [(1, [b"b@y"]), (1, [b"c@x"]), (2, [b"d@x"])]


def test_nothing_starts_before_it_is_due_and_the_earliest_comes_first() -> None:
    table = Table()
    for number, due_s in ((1, 30), (2, 10), (3, 20)):
        table.jobs[number] = job_for(b"a@x", number=number)
        table.passes.schedule(due_s, number)
    assert table.next(9) is None and table.passes.next_due_s() == 10
    assert [shown(batch)[0] for batch in iter(lambda: table.next(20), None)] == [2, 3]
    table.passes.make_all_due()
    assert table.passes.next_due_s() == 0
    assert table.all() == [(1, [b"a@x"])]


def test_a_message_that_cannot_be_opened_does_not_stop_the_next_one() -> None:
    table = Table(job_for(b"a@x", number=2))
    table.passes.schedule(-1, 1)
    assert table.all() == [(2, [b"a@x"])] and table.opened == [1, 2]


def test_destinations_take_turns() -> None:
    table = Table(job_for(*(b"%d@big" % number for number in range(9))), job_for(b"a@small", number=2))
    order = table.all()
    assert order[1] == (2, [b"a@small"]), "not after all nine of the other"
    assert [number for number, _ in order] == [1, 2, 1, 1]


def test_a_host_that_takes_nothing_holds_few_slots_and_the_others_go_on() -> None:
    table = Table(
        *(job_for(b"a@dead", number=number) for number in range(1, 51)), job_for(b"b@live", number=99), batch_max=100
    )
    started = table.all()
    assert started.count((99, [b"b@live"])) == 1
    assert len(started) == FIRST_LIMIT + 1


def test_limits_grow_with_every_answer_and_are_halved_without() -> None:
    destinations = Destinations(8)
    job = job_for()
    for number in range(40):
        destinations.add(job, b"x", [(number, b"a@x")])
    first = [destinations.next() for _ in range(FIRST_LIMIT)]
    assert destinations.next() is None
    (batch, *_) = first
    assert batch is not None
    destination = batch.destination
    for _ in range(6):
        destinations.ended(destination, answered=True, delivered=True, several=False)
    assert destination.limit == 8, "no more than the most"
    for limit in (4, 2, 1, 1):
        destination.in_use += 1
        destinations.ended(destination, answered=False, delivered=False, several=False)
        assert destination.limit == limit
    destination.in_use += 1
    destinations.ended(destination, answered=True, delivered=True, several=False)
    assert destination.limit == 2


def test_trouble_is_remembered_while_nothing_waits_and_success_is_forgotten() -> None:
    destinations = Destinations(20)
    for host, answered in ((b"good", True), (b"bad", False)):
        destinations.add(job_for(), host, [(0, b"a@" + host)])
        batch = destinations.next()
        assert batch is not None
        destinations.ended(batch.destination, answered=answered, delivered=answered, several=False)
    for host, limit in ((b"good", FIRST_LIMIT), (b"bad", FIRST_LIMIT // 2)):
        destinations.add(job_for(), host, [(0, b"a@" + host)])
        batch = destinations.next()
        assert batch is not None and batch.destination.limit == limit


def test_a_huge_message_is_looked_at_a_window_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes_module, "WINDOW", 4)
    job = job_for(*(b"%d@x" % number for number in range(10)))
    table = Table(job, batch_max=2, host_limit=100)
    first = table.next()
    assert first is not None and job.waiting == 2 and not job.is_at_end
    assert len(table.all()) == 4 and job.is_at_end and not job.waiting
    assert len(table.looked) == 3


def test_when_too_much_is_parked_nothing_more_is_opened_and_no_slot_stays_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes_module, "PARKED_MAX", 10)
    table = Table(*(job_for(b"a@dead", number=number) for number in range(1, 101)))
    for _ in range(FIRST_LIMIT):
        assert table.next() is not None
    assert len(table.opened) <= FIRST_LIMIT + 10
    assert table.next() is not None, "a slot is free, so one more goes to the host that has no room"
    assert len(table.all()) == 100 - FIRST_LIMIT - 1 - 9, "as long as too much is parked"


def test_after_a_command_for_several_that_delivered_to_nobody_they_go_alone() -> None:
    table = Table(job_for(b"a@x", b"b@x", b"poison@x"))
    batch = table.next()
    assert batch is not None and len(batch.recipients) == 3
    table.passes.destinations.ended(batch.destination, answered=True, delivered=False, several=True)
    table.jobs[2] = job_for(b"a@X", b"b@x", b"poison@x", b"c@y", b"d@y", number=2)
    table.passes.schedule(0, 2)
    assert sorted(table.all()) == [(2, [b"a@X"]), (2, [b"b@x"]), (2, [b"c@y", b"d@y"]), (2, [b"poison@x"])]
    table.passes.destinations.ended(batch.destination, answered=True, delivered=True, several=False)
    assert table.passes.destinations.batch_limit(b"x") == 2
    assert table.passes.destinations.batch_limit(b"y") > 1_000


def test_at_the_last_try_nobody_shares_a_transaction() -> None:
    job = job_for(b"a@x", b"b@x")
    job.goes_alone = True
    assert table_sizes(Table(job)) == [1, 1]


def test_a_list_goes_on_although_new_messages_keep_coming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes_module, "WINDOW", 4)
    table = Table(job_for(*(b"a@list%d" % number for number in range(12))))
    started = []
    for number in range(2, 200):
        table.jobs[number] = job_for(b"a@%d" % number, number=number)
        table.passes.schedule(0, number)
        batch = table.next()
        assert batch is not None
        started.append(shown(batch)[0])
    assert started.count(1) == 12


def test_who_goes_alone_parks_few_at_a_time() -> None:
    job = job_for(*(b"%d@silent" % number for number in range(5_000)), sender=b"list-@me-@[]")
    table = Table(job, job_for(b"a@live", number=2))
    assert (2, [b"a@live"]) in table.all()
    assert job.waiting < 5_000


def test_with_many_messages_at_hand_no_more_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes_module, "JOBS_AHEAD", 3)
    table = Table(*(job_for(b"a@%d" % number, number=number) for number in range(1, 101)))
    assert table.next() is not None
    assert len(table.opened) == 3
    assert table.next() is not None and len(table.opened) == 4


def test_who_waits_behind_a_host_without_room_is_found_windows_further_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes_module, "WINDOW", 2)
    table = Table(job_for(*[b"a@slow.test"] * 7, b"b@fast.test"), host_limit=1)
    assert table.all() == [(1, [b"a@slow.test"] * 2), (1, [b"b@fast.test"])]


def test_so_many_hosts_in_trouble_are_remembered_and_the_oldest_of_more_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(destinations_module, "_TROUBLED_MAX", 2)
    destinations = Destinations(20)

    def room(host: bytes) -> int:
        """How many of its batches start together; all end in the same trouble."""
        for _ in range(FIRST_LIMIT + 1):
            destinations.add(job_for(), host, [(0, b"r")])
        started = list(iter(destinations.next, None))
        count = len(started)
        while started:
            destinations.ended(started.pop().destination, answered=False, delivered=False, several=False)
            started += list(iter(destinations.next, None))
        return count

    assert [room(host) for host in (b"old", b"b", b"c")] == [FIRST_LIMIT] * 3
    assert room(b"c") == 1 and room(b"b") == 1, "remembered"
    assert room(b"old") == FIRST_LIMIT, "forgotten, so it begins anew"
