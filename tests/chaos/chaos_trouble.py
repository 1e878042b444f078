"""The trouble: kills, stops, a full disk, a read-only queue, everything at once. Each is noted with its time."""

import asyncio
import random
import signal
import time

from chaos_place import Place
from chaos_watch import Watch

# For the first rounds in turn, then by chance. "everybody" is a crash of all at one moment.
KILLED = (
    "qmail-queue", "qmail-send", "qmail-lspawn", "worker", "qmail-rspawn", "qmail-clean", "qmail-smtpd", "delivery",
    "program", "one-shot", "notqmail run", "everybody",
)  # fmt: skip
_STOP_MAX_S = 1.5
_FULL_S = 2.0
_READ_ONLY_S = 1.5


class Trouble:
    """`events` are (from, to, what) in seconds of the clock: what may explain a message that came twice."""

    def __init__(self, watch: Watch, place: Place, *, seed: int, pause_s: float) -> None:
        self._watch, self._place, self._pause_s = watch, place, pause_s
        self._chance = random.Random(f"trouble/{seed}")
        self._turn = [(act, role) for act in ("kill", "stop") for role in KILLED]
        self._chance.shuffle(self._turn)
        self.events: list[tuple[float, float, str]] = []
        self.counts: dict[str, int] = {}
        self.missed = 0  # nobody of that role was there

    async def go_on(self) -> None:
        """Until cancelled. What is under way then is put right by `calm`."""
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / self._pause_s))
            draw = self._chance.random()
            if not self._place.disk_reason and draw < 0.08:
                await self._fill()
            elif not self._place.disk_reason and draw < 0.16:
                await self._read_only()
            elif draw < 0.22:
                number = self._chance.choice((signal.SIGTERM, signal.SIGHUP, signal.SIGALRM))
                role = "qmail-send"
                if number == signal.SIGTERM:
                    role = self._chance.choice(("qmail-send", "qmail-smtpd", "qmail-queue"))
                self._send(f"{number.name} {role}", role, number, all_of_them=False)
            else:
                act, role = self._turn.pop() if self._turn else (
                    self._chance.choice(("kill", "kill", "stop")), self._chance.choice(KILLED)
                )  # fmt: skip
                if act == "kill":
                    self._send(f"kill {role}", role, signal.SIGKILL, all_of_them=role == "everybody")
                elif role != "everybody":
                    await self._stop(role)

    def _send(self, what: str, role: str, number: int, *, all_of_them: bool) -> None:
        now = time.time()
        victims = [process for process in self._watch.processes() if all_of_them or process.role == role]
        if not all_of_them and len(victims) > 1:
            victims = [self._chance.choice(victims)]
        if sum(self._watch.signal(victim, number) for victim in victims):
            self._note(what, now)
        else:
            self.missed += 1

    async def _stop(self, role: str) -> None:
        """Asleep for a while; it does not know, but its peers' patience is tested."""
        victims = [process for process in self._watch.processes() if process.role == role]
        if not victims:
            self.missed += 1
            return
        victim, now = self._chance.choice(victims), time.time()
        self._watch.signal(victim, signal.SIGSTOP)
        try:
            await asyncio.sleep(self._chance.uniform(0.1, _STOP_MAX_S))
        finally:
            self._watch.signal(victim, signal.SIGCONT)
            self._note(f"stop {role}", now)

    async def _fill(self) -> None:
        now = time.time()
        self._place.fill()
        try:
            await asyncio.sleep(self._chance.uniform(0.3, _FULL_S))
            if self._chance.random() < 0.4:  # a crash while the disk is full
                self._send("kill qmail-send", "qmail-send", signal.SIGKILL, all_of_them=False)
                await asyncio.sleep(0.5)
        finally:
            self._place.unfill()
            self._note("disk full", now)

    async def _read_only(self) -> None:
        now = time.time()
        if not self._place.read_only(True):
            self.missed += 1
            return
        try:
            await asyncio.sleep(self._chance.uniform(0.3, _READ_ONLY_S))
        finally:
            self._place.read_only(False)
            self._note("queue read-only", now)

    def _note(self, what: str, since_s: float) -> None:
        self.events.append((since_s, time.time(), what))
        self.counts[what] = self.counts.get(what, 0) + 1

    def calm(self) -> None:
        """Everything that may still be wrong is put right."""
        self._watch.continue_all()
        if not self._place.disk_reason:
            self._place.unfill()
            self._place.read_only(False)

    def explains(self, first_s: float, last_s: float) -> bool:
        """Whether something happened between two arrivals that may have cost a mark. TERM, HUP and ALRM may not."""
        return any(
            since <= last_s + 1.0 and until >= first_s - 1.0 and not what.startswith("SIG") and "smtpd" not in what
            for since, until, what in self.events
        )
