"""qmail-lspawn and qmail-rspawn as qmail-send sees them, and the deliveries behind them.

The pipes, the reading of commands and reports and the count of slots are the real ones; so is what writes a Maildir
(on the simulated disk) and what finds routes and speaks SMTP (with the world's servers). Only processes, sockets and
the passing of time are played.
"""

import abc

from notqmail.deliver.envelope_lines import delivered_to, return_path
from notqmail.deliver.mailboxes import MaildirJob, UniqueNames, deliver_batch
from notqmail.deliver.spawn import Refused, Slots
from notqmail.send.channels import Channel, SpawnerLost
from notqmail.send.destinations import UNLIMITED
from notqmail.testing.fake_disk import PowerCut
from notqmail.testing.simulation.clockwork import Violation
from notqmail.testing.simulation.disk import Killed, Process, View
from notqmail.testing.simulation.world import NOBODY
from notqmail.wire.reports import Report, permanent, success, temporary
from notqmail.wire.spawn_link import Delivery
from notqmail.wire.wide_link import Terms, WideCommandReader, encode_wide_report, place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from notqmail.testing.simulation.account import Account, Effect, Letter
    from notqmail.testing.simulation.clockwork import Clockwork
    from notqmail.testing.simulation.disk import Storage
    from notqmail.testing.simulation.watch import Watch

_CRASHED = temporary(b"qmail-local crashed.\n")
_MANGLED = 0.002  # of the reports


class Surroundings:
    """What every delivery needs. `epoch` counts power cuts: what was under way in an earlier one is gone."""

    def __init__(
        self, clock: "Clockwork", chance: "random.Random", storage: "Storage", account: "Account", watch: "Watch"
    ) -> None:
        self.clock, self.chance, self.storage, self.account, self.watch = clock, chance, storage, account, watch
        self.epoch = 0
        self.next_pid = 10
        self.repaired = False

    def new_pid(self) -> int:
        """A number for a process."""
        self.next_pid += 1
        return self.next_pid


class Stored:
    """A message file as the delivering agents read it."""

    __slots__ = ("content", "ends_mid_line", "head", "is_short", "letter")

    def __init__(self, content: bytes, letter: "Letter") -> None:
        self.content, self.letter = content, letter
        self.head, self.is_short = content, True
        self.ends_mid_line = not content.endswith(b"\n")

    def chunks(self) -> "Iterator[bytes]":
        """All of it, in two pieces."""
        half = len(self.content) // 2
        yield self.content[:half]
        yield self.content[half:]


class Try:
    """One delivery under way, to `address`; `recipient` is what it was before routing.

    `in_doubt`: the delivering side itself does not know what it has done.
    """

    __slots__ = ("address", "delivery", "effect", "in_doubt", "message", "place", "recipient")

    def __init__(self, delivery: Delivery, index: int, message: Stored) -> None:
        self.delivery, self.message = delivery, message
        self.place, self.address = place_of(delivery.slot, index), delivery.recipients[index]
        self.recipient = message.letter.original(self.address)
        self.effect: Effect | None = None
        self.in_doubt = False


class Spawner(abc.ABC):
    """Either of them: commands in, reports out, slots. `listening`: qmail-send's end of the pipe is open."""

    def __init__(self, around: Surroundings, channel: bytes) -> None:
        self.around, self.channel = around, channel
        self.epoch = around.epoch
        self.alive = self.listening = True
        self.outbox = b""
        self._reader, self._slots = WideCommandReader(), Slots()
        self._open: dict[int, int] = {}  # slot: deliveries of its command without a report
        self.under_way: dict[int, tuple[int, bytes]] = {}  # place: letter, address; until qmail-send reads the report
        self.in_doubt: set[int] = set()  # places whose report, not read yet, tells of a doubt

    def receive(self, data: bytes) -> None:
        """Bytes of the command pipe. Raises Violation for a command that breaks a rule."""
        for delivery in self._reader.receive(data):
            try:
                self._slots.take(delivery.slot)
            except Refused as refused:
                raise Violation("concurrency", str(refused.report)) from None
            self._begin(delivery)

    def _begin(self, delivery: Delivery) -> None:
        try:
            content = self.around.storage.disk.read(b"mess/" + delivery.message)
        except FileNotFoundError:
            raise Violation("only who waits is tried", f"{delivery!r}: there is no such message") from None
        letter = self.around.account.letter_in(content)
        stored = Stored(content, letter)
        tries = [Try(delivery, index, stored) for index in range(len(delivery.recipients))]
        self._open[delivery.slot] = len(tries)
        for one in tries:
            self.under_way[one.place] = letter.pid, one.address
            self.around.watch.attempt(letter.pid, self.channel, one.address, len(self._slots))
        self.try_all(tries)

    @abc.abstractmethod
    def try_all(self, tries: list[Try]) -> None:
        """Starts the deliveries of one command, each of which ends in `report`."""

    def later(self, seconds: float, action: "Callable[[], None]", *, survives: bool) -> None:
        """Does the next step of a delivery; not after a power cut, and after the spawner's death if it `survives`."""

        def step() -> None:
            if self.epoch == self.around.epoch and (survives or self.alive):
                action()

        self.around.clock.after(seconds, step)

    def deliver(self, one: Try, place: bytes = b"", cause: str = "") -> None:
        """The message has arrived."""
        if not self.listening or not self.alive:
            cause = cause or "qmail-send or a spawner died during the delivery"
        one.effect = self.around.account.delivered(one.message.letter, one.recipient, place, cause)

    def report(self, one: Try, report: Report) -> None:
        """Tells qmail-send, if it still listens."""
        if not self.alive:
            return
        self._open[one.delivery.slot] -= 1
        if not self._open[one.delivery.slot]:
            self._slots.free(one.delivery.slot)
        if not self.listening:
            return
        if not self.around.repaired and self.around.chance.random() < _MANGLED:
            if one.effect is not None:
                one.effect.cause = one.effect.cause or "report mangled"
            self.in_doubt.add(one.place)
            self.outbox += encode_wide_report(one.place, Report(b""))
            return
        if one.effect is not None and not report.succeeded:
            one.effect.cause = one.effect.cause or "in doubt: no answer after the final dot"
        if one.in_doubt:
            self.in_doubt.add(one.place)
        self.outbox += encode_wide_report(one.place, report)


class Line(Channel):
    """qmail-send's end of the pipes to a spawner."""

    def __init__(
        self, name: bytes, terms: Terms, descriptors: tuple[int, int], spawner: Spawner, *, host_limit: int = UNLIMITED,
        slow_max: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(
            name, terms.slots - slow_max, *descriptors, terms=terms, host_limit=host_limit, slow_max=slow_max
        )
        self.spawner = spawner

    def push(self) -> None:
        """Sends; now and then the pipe takes only a part."""
        if not self.unsent:
            return
        if not self.spawner.alive:
            raise SpawnerLost
        size = len(self.unsent)
        if self.spawner.around.chance.random() < 0.05:
            size = self.spawner.around.chance.randrange(1, size + 1)
        data, self.unsent = self.unsent[:size], self.unsent[size:]
        self.spawner.receive(data)

    def reports(self) -> list[tuple[int, Report | None]]:
        """Reads; what is there may end inside a report."""
        spawner = self.spawner
        size = len(spawner.outbox)
        if size == 0 and not spawner.alive:
            raise SpawnerLost
        if size and spawner.around.chance.random() < 0.05:
            size = spawner.around.chance.randrange(1, size + 1)
        data, spawner.outbox = spawner.outbox[:size], spawner.outbox[size:]
        found = self._reader.receive(data)
        for place, report in found:
            letter, address = spawner.under_way[place]
            if place in spawner.in_doubt:
                spawner.in_doubt.remove(place)
                spawner.around.account.counts["doubts"] += 1
                spawner.around.account.doubts[letter] += 1
            spawner.around.watch.reported(letter, self.name, address, report)
        return found

    @property
    def readable(self) -> bool:
        """Whether poll would say so."""
        return bool(self.spawner.outbox) or not self.spawner.alive


class LocalSpawner(Spawner):
    """Maildirs under /home. A box `busy...` is sometimes not to be had, `nobody...` never.

    A death of the delivering process is arranged by `local_dies_in` (effects).
    """

    local_dies_in: int | None = None

    def try_all(self, tries: list[Try]) -> None:
        for one in tries:
            self._try(one)

    def _try(self, one: Try) -> None:
        chance = self.around.chance
        slow_s = chance.choice((0.003, 0.01, 0.05, 0.2, 1.0))
        if not self.around.repaired and chance.random() < 0.01:
            slow_s = chance.uniform(30, 5_000)
        self.later(slow_s, lambda: self._deliver(one), survives=True)

    def _deliver(self, one: Try) -> None:
        box, _, domain = one.address.rpartition(b"@")
        user = box.rpartition(b"-")[2]
        if user.startswith(NOBODY):
            report = permanent(b"Sorry, no mailbox here by that name. (#5.1.1)\n")
        elif user.startswith(b"busy") and not self.around.repaired and self.around.chance.random() < 0.7:
            report = temporary(b"Home directory is sticky: user is editing his .qmail file. (#4.2.1)\n")
        else:
            report = self._write(one, b"/home/%b/Maildir/" % user, box, domain)
        self.later(self.around.chance.choice((0.0, 0.001, 0.02)), lambda: self.report(one, report), survives=True)

    def _write(self, one: Try, directory: bytes, box: bytes, domain: bytes) -> Report:
        process = Process("qmail-local", self.around.new_pid())
        process.dies_in, self.local_dies_in = self.local_dies_in, None
        names = _Names(UniqueNames(self.around.clock, pid=process.pid, host=b"me.test"))
        top = return_path(one.delivery.sender) + delivered_to(box, domain)
        job = MaildirJob(directory, top, one.message)  # type: ignore[arg-type]
        view = View(self.around.storage, process)
        try:
            [failure] = deliver_batch([job], view, names, enter=lambda _: True)  # type: ignore[arg-type]
        except Killed:
            failure, report, one.in_doubt = b"", _CRASHED, True
        except PowerCut:
            if self.around.storage.disk.state(directory + b"new/" + names.last) is not None:
                self.deliver(one, directory + b"new/" + names.last, "power cut during the delivery")
            raise
        else:
            report = success(b"did 1+0+0/\n") if failure is None else temporary(failure + b"\n")
        place = directory + b"new/" + names.last
        if failure is None:
            self.deliver(one, place)
        elif self.around.storage.disk.state(place) is not None:
            self.deliver(one, place, "qmail-local died or could not sync after the delivery")
        return report


class _Names:
    """Names for Maildir files that remember the last one."""

    __slots__ = ("_names", "last")

    def __init__(self, names: UniqueNames) -> None:
        self._names, self.last = names, b""

    def next(self) -> bytes:
        """As UniqueNames.next."""
        self.last = self._names.next()
        return self.last
