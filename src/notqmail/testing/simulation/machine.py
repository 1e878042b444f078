"""One computer: qmail-send's real rooms with real neighbours on the simulated disk, and the loop of its lives.

`live` runs qmail-send until somebody stops it, kills it or cuts the power, then starts it again, as a supervisor
does. Everything else happens while qmail-send waits: its `wait` is where simulated time passes. A queue program may
be overtaken by turns of qmail-send between any two of its effects.
"""

from notqmail.control.rewrite import Routing
from notqmail.queue.store import LOCAL, REMOTE, QueueStore
from notqmail.receive.enqueue import Enqueuer, Request
from notqmail.send.bounces import Bouncer
from notqmail.send.loop import Flags, Loop
from notqmail.send.sender import Sender
from notqmail.send.todo import Preprocessor
from notqmail.testing.fake_disk import PowerCut
from notqmail.testing.simulation import audit
from notqmail.testing.simulation.clockwork import Violation
from notqmail.testing.simulation.disk import Killed, Process, Storage, View
from notqmail.testing.simulation.neighbours import (
    TRIGGER_FD,
    BounceSubmission,
    SimulatedCleaner,
    SimulatedTrigger,
    WatchedLog,
)  # fmt: skip
from notqmail.testing.simulation.remote import RemoteSpawner
from notqmail.testing.simulation.spawners import Line, LocalSpawner, Spawner, Surroundings
from notqmail.wire import queue_exit
from notqmail.wire.wide_link import Terms

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from notqmail.testing.simulation.account import Account, Letter
    from notqmail.testing.simulation.clockwork import Clockwork
    from notqmail.testing.simulation.watch import Watch
    from notqmail.testing.simulation.world import World

LIFETIME_S = 86_400
SLOTS = {LOCAL: 4, REMOTE: 6}
RECIPIENTS_AT_ONCE, HOST_LIMIT = 3, 4
SLOW_MAX = 2  # of the remote ones
VIRTUAL_DOMAIN = b"virt.test"
_DESCRIPTORS = {LOCAL: (11, 12), REMOTE: (13, 14)}  # numbers only: nothing is open
_TURN_US = 1_000  # what a turn takes
_OVERTAKEN = 0.02  # of a queue program's effects


class Over(BaseException):
    """The simulation has reached its end."""


class Machine:
    """See the module. `up` says whether qmail-send runs."""

    def __init__(
        self, clock: "Clockwork", chance: "random.Random", storage: Storage, world: "World", account: "Account",
        watch: "Watch", *, postmaster: bytes,
    ) -> None:  # fmt: skip
        self.clock, self.chance, self.storage, self.world = clock, chance, storage, world
        self.account, self.watch, self.postmaster = account, watch, postmaster
        self.around = Surroundings(clock, chance, storage, account, watch)
        self.up = self.waiting = self.powered = self.signalled = False
        self.prefix = b"joe"  # of the virtual domain, in its control file
        self.flags, self.trigger = Flags(), SimulatedTrigger()
        self.sender_process = Process("qmail-send")
        self.clean_process = Process("qmail-clean")
        self.writer_dies_in: int | None = None
        self.spawners: dict[bytes, Spawner] = {}
        self.ledger_failed = False  # its lines waited in memory: a death then may cost them
        self._end_cause = "first start"
        self._died_in_a_turn: Killed | None = None
        storage.between_effects = self._overtake
        storage.on_failure = self._on_failure

    # ── lives ───────────────────────────────────────────────────────────────────────────────────────────

    def live(self) -> None:
        """Until Over."""
        try:
            while True:
                self._rest(self._one_life())
        except Over:
            return

    def _rest(self, pause_s: float) -> None:
        """Between two lives."""
        self.up = self.waiting = False
        for spawner in self.spawners.values():
            spawner.listening = False
        self.clock.note(f"qmail-send is gone: {self._end_cause or 'clean exit'}")
        try:
            self.clock.pass_us(int(pause_s * 1_000_000))
        except PowerCut:
            self._power_cut()

    def _one_life(self) -> float:
        """From a start to an end; the seconds until the next start."""
        try:
            self.powered = True
            self._start()
            self.loop.run()
            self._end_cause = "a spawner or qmail-clean died" if self._lost_somebody() else ""
        except Killed as killed:
            self._end_cause = f"{killed.name} died between a delivery and its mark"
        except PowerCut:
            self._power_cut()
            return self.chance.uniform(30, 600)
        except OSError as error:
            self.clock.note(f"cannot start: {error}")  # a broken disk; `_end_cause` stays
            return 60
        return self.chance.choice((0.05, 1.0, 30.0))

    def _lost_somebody(self) -> bool:
        return not self.clean_alive or not all(spawner.alive for spawner in self.spawners.values())

    def _power_cut(self) -> None:
        self.around.epoch += 1
        self.powered = self.up = self.waiting = False
        self._end_cause = "power cut"
        self.clock.note("POWER CUT")
        self.account.counts["power cuts"] += 1
        self.storage.lose_power()
        self.sender_process.dies_in = self.clean_process.dies_in = None
        for letter in self.account.letters.values():
            if letter.state == "offered":
                self.account.answered(letter, accepted=False, may_be_queued=True)
        self.audit(after_power_cut=True)

    def audit(self, *, after_power_cut: bool = False) -> None:
        """Raises Violation when the files do not hold what they must."""
        queue = audit.entries(self.storage.disk)
        if after_power_cut:
            audit.check_states(queue)
        audit.check_conservation(queue, self.storage.disk, self.account)

    def _start(self) -> None:
        self.clock.note("qmail-send starts")
        self.account.counts["starts"] += 1
        self._tell_watch()
        self.clean_alive = True
        self.clean_process.dies_in = None
        self.spawners = {
            LOCAL: LocalSpawner(self.around, LOCAL), REMOTE: RemoteSpawner(self.around, REMOTE, self.world, HOST_LIMIT),
        }  # fmt: skip
        self.flags = Flags()
        self.trigger = SimulatedTrigger()
        self.log = WatchedLog(self)
        self.store = self.new_store(View(self.storage, self.sender_process))
        self.cleaner = SimulatedCleaner(self)
        bouncer = self.new_bouncer()
        self.preprocessor = Preprocessor(
            self.store, self.log, self.cleaner, self.routing(), self.trigger.rearm  # type: ignore[arg-type]
        )  # fmt: skip
        self.sender = Sender(
            self.store, self.log, self.channels(), bouncer, self.preprocessor, lifetime_s=LIFETIME_S,
            shown_address=lambda address: self.preprocessor.routing.strip_virtual_prefix(address),
        )  # fmt: skip
        self.sender.books.open()
        self.sender.load(self.clock.now_s())
        self.loop = Loop(
            store=self.store, log=self.log, clock=self.clock, sender=self.sender, preprocessor=self.preprocessor,
            cleaner=self.cleaner, trigger=self.trigger, flags=self.flags, reread=self._reread,  # type: ignore[arg-type]
            wait=self._wait,
        )  # fmt: skip
        self.up = True

    # Broken variants (tests) replace these.

    def new_store(self, view: View) -> QueueStore:
        """The queue as qmail-send sees it."""
        return QueueStore(view)  # type: ignore[arg-type]

    def new_bouncer(self) -> Bouncer:
        """What makes bounces."""
        return Bouncer(
            self.store, self.log, self.clock, lambda: BounceSubmission(self),  # type: ignore[arg-type,return-value]
            bounce_from=b"MAILER-DAEMON", bounce_host=b"me.test", double_bounce_recipient=self.postmaster,
        )  # fmt: skip

    def channels(self) -> list[Line]:
        """qmail-send's ends of the pipes."""
        local, remote = Terms(SLOTS[LOCAL], 1), Terms(SLOTS[REMOTE], RECIPIENTS_AT_ONCE)
        return [
            Line(LOCAL, local, _DESCRIPTORS[LOCAL], self.spawners[LOCAL]),
            Line(REMOTE, remote, _DESCRIPTORS[REMOTE], self.spawners[REMOTE], host_limit=HOST_LIMIT, slow_max=SLOW_MAX),
        ]

    def routing(self) -> Routing:
        """The control files as they are now."""
        return Routing(
            local_domains=[b"me.test"], virtual_domains={VIRTUAL_DOMAIN: self.prefix}, percent_domains=[],
            default_host=b"me.test",
        )  # fmt: skip

    def _reread(self) -> None:
        self.preprocessor.routing = self.routing()

    def _tell_watch(self) -> None:
        """What the disk says at a start: who is due when, and who may be tried again although he has it."""
        queue = audit.entries(self.storage.disk)
        if self._end_cause:
            audit.explain_repetitions(queue, self.account, self._end_cause)
        self.watch.start()
        for entry in queue.values():
            if not entry.waits:
                continue
            pid = self.account.letter_in(entry.files[b"mess"]).pid
            if entry.is_accepted:
                self.watch.expect(pid, 3.0 + len(queue) / 1_000)
                continue
            birth = self.storage.disk.state(b"info/%d/%d" % (entry.number % 23, entry.number))
            assert birth is not None
            for channel in (LOCAL, REMOTE):
                state = self.storage.disk.state(b"%b/%d/%d" % (channel, entry.number % 23, entry.number))
                if state is not None and entry.to_do(channel):
                    self.watch.waits(
                        pid, channel, entry.to_do(channel), due_s=state.modified_s, birth_s=birth.modified_s
                    )

    def _to_do(self) -> dict[tuple[int, bytes], set[bytes]]:
        """What the channel files say."""
        found: dict[tuple[int, bytes], set[bytes]] = {}
        for entry in audit.entries(self.storage.disk).values():
            if entry.waits and not entry.is_accepted:
                pid = self.account.letter_in(entry.files[b"mess"]).pid
                found |= {(pid, channel): set(entry.to_do(channel)) for channel in SLOTS}
        return found

    # ── waiting: where time passes ──────────────────────────────────────────────────────────────────────

    def _wait(self, readable: list[int], writable: list[int], timeout_s: float) -> set[int]:
        if self.waiting:  # a turn within somebody's effect: it takes no time
            return self._ready(readable, writable)
        if self.watch.doubts:
            self.watch.look_again(self._to_do())
        exiting = self.sender.exiting
        free = [] if exiting else [name for name, channel in self.sender.channels.items() if channel.may_start]
        for name in free:
            if self.sender.passes[name].destinations.is_ready:
                raise Violation("nothing due waits", f"{name.decode()}: a slot is free, and a host has room")
        free = [name for name in free if not self.sender.passes[name].destinations.waiting]  # the others wait for hosts
        self.watch.turn(0 if exiting or writable else timeout_s, free)
        self.waiting = True
        self.clock.pass_us(_TURN_US)
        deadline_us = self.clock.now_steady_us + int(timeout_s * 1_000) * 1_000
        while self._died_in_a_turn is None:
            ready = self._ready(readable, writable)
            if ready or self.signalled:
                self.signalled = False  # poll_wait's wakeup descriptor, read
                break
            if self.clock.now_steady_us >= deadline_us or not self.clock.step(deadline_us):
                ready = self._ready(readable, writable)
                break
        self.waiting = False
        if self._died_in_a_turn is not None:
            died, self._died_in_a_turn = self._died_in_a_turn, None
            raise died
        return ready

    def _ready(self, readable: list[int], writable: list[int]) -> set[int]:
        ready = set(writable)
        for channel in self.sender.channels.values():
            if channel.reports_fd in readable and isinstance(channel, Line) and channel.readable:
                ready.add(channel.reports_fd)
        if TRIGGER_FD in readable and self.trigger.pulled:
            ready.add(TRIGGER_FD)
        return ready

    def signal(self, name: str) -> None:
        """HUP `reread`, ALRM `run`, TERM `exit`."""
        if self.up:
            setattr(self.flags, name, True)
            self.signalled = True

    def _overtake(self, process: Process) -> None:
        """Between two effects of a queue program qmail-send may have a turn."""
        if self.waiting and process.name == "qmail-queue" and self.chance.random() < _OVERTAKEN:
            try:
                self.loop.turn()
            except Killed as killed:
                self._died_in_a_turn = killed

    # ── what others do ──────────────────────────────────────────────────────────────────────────────────

    def submit(self, letters: "Sequence[Letter]") -> None:
        """One run of the queue's writer for these, which arrive together."""
        requests = [self.request_for(letter, b"by uid 7") for letter in letters]
        process = Process("qmail-queue", self.around.new_pid())
        process.dies_in, self.writer_dies_in = self.writer_dies_in, None
        died = False
        try:
            self.enqueue(process, requests)
        except Killed:
            died = True
        for letter, request in zip(letters, requests, strict=True):
            self.answer(letter, request, died=died)
        if any(letter.state == "accepted" for letter in letters):
            self.trigger.pulled = True

    def request_for(self, letter: "Letter", invoked: bytes) -> Request:
        """What the queue's writer is asked."""
        half = len(letter.body) // 2
        return Request(
            [letter.body[:half], letter.body[half:]], [letter.sender, *letter.recipients], uid=7, pid=letter.pid,
            invoked=invoked,
        )  # fmt: skip

    def enqueue(self, process: Process, requests: list[Request]) -> None:
        """The queue's writer itself. Raises Killed."""
        Enqueuer(View(self.storage, process), self.clock, process.pid).enqueue(requests)  # type: ignore[arg-type]

    def answer(self, letter: "Letter", request: Request, *, died: bool) -> bool:
        """Writes down what the client knows now; whether it was accepted."""
        accepted = not died and request.exit_code == queue_exit.ACCEPTED
        in_todo = request.number > 0 and self.storage.disk.state(b"todo/%d" % request.number) is not None
        self.account.answered(letter, accepted=accepted, may_be_queued=in_todo)
        self.clock.note(f"{letter.pid} for {len(letter.recipients)}: {letter.state}, {request.exit_code}")
        if self.up and not letter.seen and in_todo:
            self.watch.expect(letter.pid, 3.0 if accepted else 1_503.0)
        return accepted

    def _on_failure(self, process: Process, operation: str, path: bytes) -> None:
        self.account.counts["disk failures"] += 1
        self.ledger_failed |= path.startswith(b"ledger/")
        if process.name in ("qmail-send", "qmail-clean", "qmail-bounce"):
            self.watch.trouble()
            if operation in ("write_at", "unlink", "sync"):
                audit.explain_repetitions(audit.entries(self.storage.disk), self.account, "the disk failed a mark")
