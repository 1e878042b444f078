"""What goes wrong, by chance: deaths, power cuts, disks, clocks, networks, signals."""

from notqmail.queue.store import LOCAL, REMOTE
from notqmail.testing.fake_disk import PowerCut
from notqmail.testing.simulation.disk import BROKEN, FULL, WHOLE, Killed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from notqmail.testing.simulation.machine import Machine
    from notqmail.testing.simulation.world import World


class Faults:
    """`per_day` faults on the average, of every kind with its weight."""

    def __init__(self, machine: "Machine", world: "World", chance: "random.Random", per_day: float) -> None:
        self._machine, self._world, self._chance = machine, world, chance
        self._gap_s = 86_400 / per_day if per_day else 0.0
        self.stopped = False
        self._kinds: list[tuple[Callable[[], None], int]] = [
            (self._cut_power, 4), (self._kill_send, 6), (self._kill_writer, 6), (self._kill_local, 3),
            (self._kill_spawner, 4), (self._kill_clean, 4), (self._fill_disk, 2), (self._break_disk, 2),
            (self._set_clock, 4), (self._hangup, 4), (self._alarm, 3), (self._terminate, 5), (self._go_dark, 1),
        ]  # fmt: skip

    def spare_the_ledger(self) -> None:
        """Everything but what may cost it lines: power cuts, full and broken disks."""
        costly = (self._cut_power, self._fill_disk, self._break_disk)
        self._kinds = [(kind, weight) for kind, weight in self._kinds if kind not in costly]

    def begin(self) -> None:
        """From now on."""
        if self._gap_s:
            self._machine.clock.after(self._chance.expovariate(1 / self._gap_s), self._happen)

    def _happen(self) -> None:
        if self.stopped:
            return
        self._machine.clock.after(self._chance.expovariate(1 / self._gap_s), self._happen)
        kind = self._chance.choices([kind for kind, _ in self._kinds], [weight for _, weight in self._kinds])[0]
        name = kind.__name__.removeprefix("_").replace("_", " ")
        self._machine.clock.note(f"fault: {name}")
        self._machine.account.counts[f"fault: {name}"] += 1
        kind()

    def end(self) -> None:
        """Everything works again."""
        self.stopped = True
        storage = self._machine.storage
        storage.condition, storage.power_fails_in = WHOLE, None
        self._machine.sender_process.dies_in = self._machine.clean_process.dies_in = None
        self._machine.writer_dies_in = None
        self._machine.around.repaired = True
        self._world.repair()

    # ── deaths ──────────────────────────────────────────────────────────────────────────────────────────

    def _soon(self) -> int:
        return self._chance.choice((0, 1, 2, 3, self._chance.randrange(60)))

    def _cut_power(self) -> None:
        if self._chance.random() < 0.2 and self._machine.powered:
            raise PowerCut
        self._machine.storage.power_fails_in = self._soon()

    def _kill_send(self) -> None:
        if self._chance.random() < 0.2 and self._machine.up:
            raise Killed("qmail-send")
        self._machine.sender_process.dies_in = self._soon()

    def _kill_writer(self) -> None:
        self._machine.writer_dies_in = self._chance.randrange(16)

    def _kill_local(self) -> None:
        spawner = self._machine.spawners.get(LOCAL)
        if spawner is not None:
            spawner.local_dies_in = self._chance.randrange(7)  # type: ignore[attr-defined]

    def _kill_spawner(self) -> None:
        spawner = self._machine.spawners.get(self._chance.choice((LOCAL, REMOTE)))
        if spawner is not None:
            self._machine.clock.after(self._chance.random() * 20, lambda: setattr(spawner, "alive", False))

    def _kill_clean(self) -> None:
        self._machine.clean_process.dies_in = self._soon()

    # ── disks, clocks, networks ─────────────────────────────────────────────────────────────────────────

    def _fill_disk(self) -> None:
        self._for_a_while(FULL, 3_600)

    def _break_disk(self) -> None:
        self._for_a_while(BROKEN, 600)

    def _for_a_while(self, condition: str, seconds_max: float) -> None:
        storage = self._machine.storage
        storage.condition = condition
        self._machine.clock.after(self._chance.uniform(1, seconds_max), lambda: setattr(storage, "condition", WHOLE))

    def _set_clock(self) -> None:
        seconds = int(self._chance.choice((1, -1)) * 10 ** self._chance.uniform(0, 5))
        self._machine.clock.note(f"the clock is set by {seconds} s")
        self._machine.clock.jump(seconds)
        if seconds < 0:
            self._machine.watch.clock_set_back(-seconds)

    def _go_dark(self) -> None:
        self._world.dark_until_s = self._machine.clock.steady_s() + self._chance.uniform(60, 20_000)

    # ── signals ─────────────────────────────────────────────────────────────────────────────────────────

    def _hangup(self) -> None:
        self._machine.prefix = self._chance.choice((b"joe", b"jane"))
        self._machine.signal("reread")

    def _alarm(self) -> None:
        if self._machine.up:
            self._machine.signal("run")
            self._machine.watch.alarm()

    def _terminate(self) -> None:
        self._machine.signal("exit")
