"""One simulation from its seed: traffic and trouble for some days, then peace, in which everything must drain."""

import random

from notqmail.queue.ledger import ACCEPTED, ENDED, journal_lines
from notqmail.queue.ledger_book import Events, balance
from notqmail.testing.disk_models import OrderedModel
from notqmail.testing.fake_disk import FakeDisk
from notqmail.testing.simulation.account import Account
from notqmail.testing.simulation.audit import check_states, entries
from notqmail.testing.simulation.clockwork import SECOND_US, Clockwork, Violation
from notqmail.testing.simulation.disk import Storage
from notqmail.testing.simulation.faults import Faults
from notqmail.testing.simulation.machine import LIFETIME_S, SLOTS, Machine, Over
from notqmail.testing.simulation.traffic import Traffic
from notqmail.testing.simulation.watch import Watch
from notqmail.testing.simulation.world import World

DAY_S = 86_400
DRAIN_S = 2 * LIFETIME_S + 40_000  # a bounce, and its bounce, may each need a lifetime and one more step
AUDIT_S = 7_200.0
_HOSTS = 6


class Simulation:
    """`run` plays it. `machine_type` is for machines that are broken on purpose."""

    def __init__(
        self, seed: int, days: float, *, per_day: float | None = None, faults_per_day: float | None = None,
        machine_type: type[Machine] = Machine,
    ) -> None:  # fmt: skip
        self.seed, self.days = seed, days
        chance = random.Random(seed)
        self.clock = Clockwork()
        self.account = Account(self.clock)
        self.watch = Watch(self.clock, dict(SLOTS), LIFETIME_S)
        self.world = World(self.clock, random.Random(chance.random()), _HOSTS)
        self.world.restless = chance.choice((0.2, 0.6, 1.0))
        self.storage = Storage(self.clock, random.Random(chance.random()))
        self.storage.writes_back = chance.random() < 0.5
        self.machine = machine_type(
            self.clock, random.Random(chance.random()), self.storage, self.world, self.account, self.watch,
            postmaster=chance.choice((b"postmaster@me.test", b"busy1@me.test", b"nobody@me.test")),
        )  # fmt: skip
        arrivals = chance.choice((30, 200, 600)) if per_day is None else per_day
        troubles = chance.choice((0, 10, 60)) if faults_per_day is None else faults_per_day
        self.traffic = Traffic(self.machine, self.world, self.account, random.Random(chance.random()), arrivals)
        self.faults = Faults(self.machine, self.world, random.Random(chance.random()), troubles)
        self.keeps_ledger = chance.random() < 0.7
        if chance.random() < 0.5:
            self.storage.disk = FakeDisk(model=OrderedModel)
        if self.keeps_ledger:
            for directory in (ACCEPTED, ENDED):
                self.storage.disk.create(directory + b"/current", ())
                self.storage.disk.sync([directory + b"/current", directory])
        self.violation: Violation | None = None

    def run(self) -> bool:
        """Whether all rules held; `violation` says which one did not."""
        self.traffic.begin()
        self.faults.begin()
        self.clock.after(AUDIT_S, self._audit)
        self.clock.after(self.days * DAY_S, self._make_peace)
        try:
            self.machine.live()
        except Violation as violation:
            self.violation = violation
        return self.violation is None

    @property
    def simulated_days(self) -> float:
        """How far it came."""
        return self.clock.now_steady_us / SECOND_US / DAY_S

    def _audit(self) -> None:
        self.clock.after(AUDIT_S, self._audit)
        if self.machine.powered:
            self.machine.audit()

    def _make_peace(self) -> None:
        self.clock.note("peace")
        self.traffic.stopped = True
        self.faults.end()
        self.clock.after(DRAIN_S, self._end)

    def _end(self) -> None:
        """Nobody waits any more; what is left are files of writers and messages that died, for the collector."""
        self.traffic.fetch_all()
        self.machine.audit()
        queue = entries(self.storage.disk)
        check_states(queue)
        waiting = [entry.number for entry in queue.values() if entry.waits]
        if waiting or self.account.live:
            raise Violation("everything drains", f"still there: numbers {waiting}, letters {sorted(self.account.live)}")
        counts = self.account.counts
        if counts["doubts"] != counts["doubts told"]:
            raise Violation("a doubt is told", f"{counts['doubts']} there were, {counts['doubts told']} in the log")
        if self.keeps_ledger and not self.machine.ledger_failed:
            self._check_ledger()
        raise Over

    def _check_ledger(self) -> None:
        """The system's own books come out, and agree with ours."""
        events = Events()
        events.read(journal_lines(self.storage.disk, ENDED))  # type: ignore[arg-type]
        totals = balance(journal_lines(self.storage.disk, ACCEPTED), events, {}, {})  # type: ignore[arg-type]
        if totals.faults:
            raise Violation("the ledger balances", "; ".join(totals.faults))
        accepted = self.account.counts["recipients accepted"]
        if totals.recipients < accepted:
            raise Violation("the ledger balances", f"{accepted} recipients were accepted, it knows {totals.recipients}")
        if not self.account.counts["power cuts"]:  # those cost lines; a death costs none
            self._check_what_may_be_repeated(events)

    def _check_what_may_be_repeated(self, events: Events) -> None:
        """The ledger knows of every doubt and every repetition, of messages that are not in its sums yet."""
        for one in events.accounts:
            doubts, again, known = self.account.doubts[one.qp], self.account.again[one.qp], one.doubtful + one.twice
            if doubts > known:
                raise Violation("the ledger knows of every doubt", f"of {one.qp} {known}; there were {doubts}")
            known += max(0, one.finished - one.recipients)
            if again > known:
                raise Violation("the ledger knows of every repetition", f"of {one.qp} {known}; there were {again}")
