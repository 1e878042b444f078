"""One round: start, warm up, load and trouble, calm, drain, audit, stop. And what a quiet queue must look like."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable

from chaos_book import ACCEPTED, Book
from chaos_load import Load
from chaos_place import Place
from chaos_sink import Sink
from chaos_trouble import Trouble
from chaos_watch import Watch

SPLIT = 23
_CLIENTS = 6
_MEMORY_GROWTH_KB = 60_000
_DESCRIPTOR_GROWTH = 2
_IN_HAND = 40 + 20 + 128  # deliveries under way, and messages ended but not yet removed, when qmail-send dies
_DRAIN_PATIENCE_S = 12.0  # without any progress


class Round:
    """`say` prints progress. After `go`, `book.faults` are the verdict and `figures` the numbers."""

    def __init__(
        self, place: Place, watch: Watch, sink: Sink, say: Callable[[str], None], *, port: int, seed: int,
        messages: int, pause_s: float,
    ) -> None:  # fmt: skip
        self._place, self._watch, self._sink, self._say = place, watch, sink, say
        self.book = sink.book = Book(seed, place.user)
        self.load = Load(place, port, self.book, seed=seed, room=messages)
        self.trouble = Trouble(watch, place, seed=seed, pause_s=pause_s)
        self.figures: dict[str, int] = {}
        self.disk_failed = False  # in this round or one before it

    async def go(self, trouble_s: float, drain_s: float) -> None:
        """The whole round."""
        self._watch.keeping = False
        await self._watch.start()
        keeper = asyncio.create_task(self._watch.keep())
        try:
            await self._warm_up()
            before = self._watch.sizes()
            await self._rough(trouble_s)
            self._say(f"calm after {sum(self.trouble.counts.values())} troubles: draining")
            if await self._drain(drain_s):
                await self._look_for_leaks(before)
            self._collect()
            self.book.audit()
            self._audit_ledger()
            self._audit_duplicates()
            self._audit_queue()
            if self.book.faults:
                self._say(f"troubles: {[(round(a, 2), round(b, 2), what) for a, b, what in self.trouble.events]}")
            else:
                self._clear()
        finally:
            keeper.cancel()
            for line in await self._watch.stop():
                self.book.fault(line)

    async def _warm_up(self) -> None:
        """Every kind once, so that what is opened once and kept is open."""
        for _ in range(10):
            await self.load.probe()
        end = time.monotonic() + 20
        while self._waiting() and time.monotonic() < end:
            await asyncio.sleep(0.1)

    async def _rough(self, seconds: float) -> None:
        if self.load.source_program is None:
            self._say("SKIPPED: load from smtp-source: it is not installed")
        self._sink.calm = False
        self._place.rough(True)
        loads = [asyncio.create_task(self.load.client()) for _ in range(_CLIENTS)]
        loads += [asyncio.create_task(self.load.injector()), asyncio.create_task(self.load.source())]
        trouble = asyncio.create_task(self.trouble.go_on())
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(5, left))
            if trouble.done():
                trouble.result()  # a mistake of ours: raises
            self._say(f"{len(self.book.mails)} messages, {len(self._waiting())} wait, {dict(self.trouble.counts)}")
        trouble.cancel()
        await asyncio.gather(trouble, return_exceptions=True)
        self.load.stopping = True
        self._sink.calm = True
        self._place.rough(False)
        self.trouble.calm()
        await asyncio.gather(*loads)

    # ── draining ────────────────────────────────────────────────────────────────────────────────────────

    def _waiting(self) -> set[int]:
        """Numbers in todo or info."""
        found = set()
        for part in ("todo", "info"):
            for _, _, names in os.walk(self._place.home / "queue" / part):
                found.update(int(name) for name in names)
        return found

    async def _drain(self, patience_s: float) -> bool:
        """ALRM and a probe now and then until nothing waits; what does not go by itself needs a restart, counted."""
        started = time.monotonic()
        self.load.room = 1_000
        try:
            await self._watch.wait_ready(60)
        except TimeoutError as error:
            self.book.fault(str(error))
            return False
        restarted, last, changed = False, set[int](), started
        while time.monotonic() - started < patience_s:
            self.trouble.calm()
            self._watch.signal_role("qmail-send", signal.SIGALRM)
            await asyncio.sleep(0.5)
            waiting = self._waiting()
            if not waiting and not [one for one in self._watch.processes() if one.role in ("delivery", "program")]:
                self.figures["drained in ms"] = int((time.monotonic() - started) * 1000)
                return True
            if waiting != last:
                last, changed = waiting, time.monotonic()
            if not restarted and time.monotonic() - changed > min(_DRAIN_PATIENCE_S, patience_s / 3):
                restarted = True
                self.figures["needed a restart"] = len(waiting)
                self._say(f"{len(waiting)} do not go by themselves: restarting qmail-send: {self.describe(waiting)}")
                self._watch.signal_role("qmail-send", signal.SIGTERM)
                await asyncio.sleep(2)
            elif int(time.monotonic()) % 3 == 0:
                await self.load.probe()
        self.book.fault(f"not drained after {patience_s:.0f} s: {self.describe(self._waiting())}")
        return False

    def describe(self, numbers: set[int]) -> str:
        """The files of some messages, for a person."""
        found = []
        for number in sorted(numbers)[:8]:
            files = []
            for kind in ("mess", "info", "local", "remote"):
                path = self._place.home / "queue" / kind / str(number % SPLIT) / str(number)
                if path.exists():
                    files.append(kind if kind == "mess" else f"{kind}={path.read_bytes()!r}")
            files += [
                kind
                for kind in ("todo", "intd", "bounce")
                if (self._place.home / "queue" / kind / str(number)).exists()
            ]
            found.append(f"{number}: {' '.join(files)}")
        return "; ".join(found)

    async def _look_for_leaks(self, before: dict[str, tuple[int, int]]) -> None:
        end = time.monotonic() + 12  # qmail-lspawn buries its dead every 5 s
        while time.monotonic() < end:
            after, zombies = self._watch.sizes(), self._watch.zombies()
            # A writer that qmail-start began and we killed is a child that qmail-send does not know: one at most.
            helped_out = [zombie for zombie in zombies if zombie.endswith("of qmail-send")]
            if len(helped_out) == 1:
                zombies.remove(helped_out[0])
            wide = [
                role
                for role, (count, _) in after.items()
                if count > before.get(role, (count, 0))[0] + _DESCRIPTOR_GROWTH
            ]
            if not wide and not zombies:
                break
            await asyncio.sleep(0.5)
        self.figures["largest resident kB"] = max((size for _, size in after.values()), default=0)
        for role in wide:
            self.book.fault(f"{role} has {after[role][0]} descriptors open at rest, {before[role][0]} at the start")
        for role, (_, size) in after.items():
            if size > before.get(role, (0, size))[1] + _MEMORY_GROWTH_KB:
                self.book.fault(f"{role} grew from {before[role][1]} to {size} kB")
        for zombie in zombies:
            self.book.fault(f"zombie {zombie}")

    # ── what came ───────────────────────────────────────────────────────────────────────────────────────

    def _collect(self) -> None:
        """Reads everything that was delivered."""
        mail, book = self._place.mail, self.book
        for name, take in (("md", book.arrived), ("end", book.arrived), ("prog", book.arrived),
                           ("ret", book.bounce_arrived), ("bulk", book.bulk_arrived)):  # fmt: skip
            for path in (mail / name / "new").iterdir():
                take(path.read_bytes(), path.stat().st_mtime, f"{name}/{path.name}")
            litter = len(list((mail / name / "tmp").iterdir()))
            self.figures["litter in tmp"] = self.figures.get("litter in tmp", 0) + litter
        box = mail / "mbox"
        if box.exists():
            book.mbox_arrived(box.read_bytes(), box.stat().st_mtime)
        for path in (self._place.home / "Maildir/new").iterdir():
            book.fault(f"unexpected mail in the user's Maildir: {path.read_bytes()[:400]!r}")
        names = [path.name for path in self._place.temporary.iterdir()]
        if names:
            book.fault(f"left in TMPDIR: {names[:10]}")

    def _audit_duplicates(self) -> None:
        duplicates = self.book.duplicates()
        copies = sum(len(times) - 1 for times in duplicates.values())
        kills = self.kills()
        bound = (
            kills + self.trouble.counts.get("disk full", 0) + self.trouble.counts.get("queue read-only", 0)
        ) * _IN_HAND
        self.figures |= {"duplicates": copies, "duplicates allowed": bound}
        if copies > bound:
            self.book.fault(f"{copies} duplicates after {kills} kills")
        for key, times in duplicates.items():
            # An mbox says nothing about when; the others' file times do.
            if not key.startswith("mbox") and not self.trouble.explains(min(times)[0], max(came for _, came in times)):
                self.book.fault(f"{key}: came {len(times)} times, at {sorted(times)}, and nothing happened in between")
        if self.book.torn_in_mbox > kills:
            self.book.fault(f"{self.book.torn_in_mbox} torn messages in the mbox after {kills} kills")

    def _audit_ledger(self) -> None:
        """`notqmail ledger` must find the sum right. After a failing disk its faults are counted, not judged yet."""
        command = [sys.executable, "-m", "notqmail.admin", "ledger", str(self._place.home)]
        environ = {**os.environ, "PYTHONPATH": str(self._place.source)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environ, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("FAULT")]
        self.disk_failed |= bool({"disk full", "queue read-only"} & self.trouble.counts.keys())
        self.figures["ledger faults"] = len(lines)
        if lines and self.disk_failed:
            self._say(f"the ledger after a disk that failed: {lines[:5]}")
        if not self.disk_failed and done.returncode != 0:
            self.book.fault(f"notqmail ledger: {done.returncode} {lines[:5]} {done.stderr[-500:]}")

    def kills(self) -> int:
        """How many times something was killed."""
        return sum(count for what, count in self.trouble.counts.items() if what.startswith("kill"))

    def _audit_queue(self) -> None:
        """Nothing waits, so there may be message files that the 36 h collector owns (S2), and nothing else."""
        states: dict[int, set[str]] = defaultdict(set)
        queue = self._place.home / "queue"
        for kind in ("mess", "info", "local", "remote"):
            for part in range(SPLIT):
                for path in (queue / kind / str(part)).iterdir():
                    if not re.fullmatch("[0-9]+", path.name) or int(path.name) % SPLIT != part:
                        self.book.fault(f"strange file {path}")
                        continue
                    states[int(path.name)].add(kind)
        for kind in ("todo", "intd", "bounce"):
            for path in (queue / kind).iterdir():
                states[int(path.name)].add(kind)
        for number, kinds in states.items():
            if kinds & {"todo", "info"}:
                continue  # said by the drain already
            if kinds != {"mess"}:
                self.book.fault(f"illegal state of {number} after the drain: {sorted(kinds)}")
        litter = len([1 for kinds in states.values() if kinds == {"mess"}])
        under_pid = len(list((queue / "pid").iterdir()))
        self.figures |= {"S2 for the collector": litter, "files under pid": under_pid}
        if litter + under_pid > (self.kills() + 10) * 2 * 256:
            self.book.fault(f"{litter} message files and {under_pid} under pid/ after {self.kills()} kills")

    def _clear(self) -> None:
        """Removes what was audited, and does the 36 h collector's work: the next round audits only its own."""
        mail, queue = self._place.mail, self._place.home / "queue"
        for path in [*mail.glob("*/new/*"), *mail.glob("*/tmp/*"), *queue.glob("mess/*/*"), *queue.glob("pid/*")]:
            path.unlink()
        (mail / "mbox").unlink(missing_ok=True)

    def totals(self) -> dict[str, int]:
        """What a run adds up over its rounds."""
        counts = self.trouble.counts
        accepted = [mail for mail in self.book.mails.values() if mail.answer == ACCEPTED]
        return {
            "messages accepted": len(accepted) + sum(self.book.bulk_promised.values()),
            "recipients promised": sum(len(mail.kinds) for mail in accepted) + sum(self.book.bulk_promised.values()),
            "copies audited": sum(map(len, self.book.arrivals.values())) + sum(map(len, self.book.bounces.values()))
            + sum(map(len, self.book.bulk_arrivals.values())),
            "kills": self.kills(),
            "stops": sum(count for what, count in counts.items() if what.startswith("stop")),
            "full disks": counts.get("disk full", 0),
            "read-only queues": counts.get("queue read-only", 0),
            "duplicates": self.figures.get("duplicates", 0),
            "torn in mbox": self.book.torn_in_mbox,
            "faults": len(self.book.faults),
        }  # fmt: skip

    def report(self) -> str:
        """The round in one paragraph."""
        answers: dict[str, int] = defaultdict(int)
        for mail in self.book.mails.values():
            answers[mail.answer] += 1
        accepted = sum(len(mail.kinds) for mail in self.book.mails.values() if mail.answer == ACCEPTED)
        bulk = sum(self.book.bulk_promised.values())
        book = self.book
        found = (("arrivals", book.arrivals), ("bounces", book.bounces), ("bulk", book.bulk_arrivals))
        came = {name: sum(map(len, copies.values())) for name, copies in found}
        return (
            f"messages {dict(answers)}, {accepted} recipients promised, {bulk} messages of smtp-source promised\n"
            f"   came {came}, torn in mbox {self.book.torn_in_mbox}\n"
            f"   troubles {dict(sorted(self.trouble.counts.items()))}, nobody there {self.trouble.missed}\n"
            f"   answers {self.load.answers}, clients left {self.load.left}, sink {self._sink.moods}\n"
            f"   {self.figures}, restarts {self._watch.restarts}, ends {self._watch.ends}"
        )


def free_kb(place: Place) -> int:
    """Room where the home is."""
    return shutil.disk_usage(place.base).free // 1024
