"""People: who writes to whom, how much at once, and when they fetch their mail."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random

    from notqmail.testing.simulation.account import Account, Letter
    from notqmail.testing.simulation.machine import Machine
    from notqmail.testing.simulation.world import World

_FETCH_S = 10_000.0
_RETRY_MAX = 3  # times a client whom the queue refused tries again


class Traffic:
    """Messages by chance: `per_day` arrivals on the average, some of them bursts."""

    def __init__(
        self, machine: "Machine", world: "World", account: "Account", chance: "random.Random", per_day: float
    ) -> None:
        self._machine, self._world, self._account, self._chance = machine, world, account, chance
        self._gap_s = 86_400 / per_day
        self.stopped = False

    def begin(self) -> None:
        """From now on."""
        self._machine.clock.after(self._chance.expovariate(1 / self._gap_s), self._arrival)
        self._machine.clock.after(_FETCH_S, self._fetch)

    def _arrival(self) -> None:
        if self.stopped:
            return
        self._machine.clock.after(self._chance.expovariate(1 / self._gap_s), self._arrival)
        burst = self._chance.random() < 0.03
        count = self._chance.randrange(10, 60) if burst else self._chance.choice((1, 1, 1, 1, 2, 3))
        if not self._machine.powered:
            return
        letters = [self._letter() for _ in range(count)]
        batch = self._chance.choice((1, 1, 4, 32))  # how many the queue's writer takes together
        for start in range(0, len(letters), batch):
            part = letters[start : start + batch]
            self._machine.clock.after(self._chance.random() * 0.5 if start else 0, lambda part=part: self._submit(part))  # type: ignore[misc]

    def _submit(self, letters: "list[Letter]", tries: int = 0) -> None:
        if not self._machine.powered:
            return
        self._machine.submit(letters)
        for letter in letters:
            if letter.state != "accepted" and tries < _RETRY_MAX:  # the client comes back with it: another message
                again = self._account.offer(letter.sender, letter.recipients, letter.body)
                self._machine.clock.after(300, lambda again=again: self._submit([again], tries + 1))  # type: ignore[misc]

    def _letter(self) -> "Letter":
        chance = self._chance
        number = len(self._account.letters)
        lines = [b"." * chance.randrange(3) + b"line %d of %d" % (line, number) for line in range(chance.randrange(9))]
        body = b"Subject: simulated %d\n\n%b\nend of %d\n" % (number, b"\n".join(lines), number)
        many = chance.random() < 0.25
        wanted = chance.randrange(2, 12) if many else 1
        recipients = list(dict.fromkeys([self._address(number) for _ in range(wanted)]))
        return self._account.offer(self._sender(), recipients, body)

    def _address(self, number: int) -> bytes:
        chance = self._chance
        box = chance.choice((b"ann", b"bob", b"busy%d" % chance.randrange(3), b"eve"))
        if chance.random() < 0.08:
            box = b"nobody%d" % number
        place = chance.random()
        if place < 0.4:
            return box + b"@me.test"
        if place < 0.5:
            return box + b"@virt.test"
        if place < 0.52:
            return box + b"@nowhere.test"
        return box + b"@" + chance.choice(self._world.names())

    def _sender(self) -> bytes:
        chance = self._chance
        if chance.random() < 0.05:
            return b""
        if chance.random() < 0.05:
            return b"list-@me.test-@[]"  # wants an address of its own for each recipient
        box = b"nobody" if chance.random() < 0.1 else chance.choice((b"carl", b"dora"))
        return box + b"@" + (b"me.test" if chance.random() < 0.6 else chance.choice(self._world.names()))

    def _fetch(self) -> None:
        self._machine.clock.after(_FETCH_S, self._fetch)
        if self._machine.powered:
            self.fetch_all()

    def fetch_all(self) -> None:
        """Everybody fetches what is in new/ and removes it."""
        disk = self._machine.storage.disk
        fetched = set()
        for path, content in disk.everything().items():
            if path.startswith(b"/home/") and b"/new/" in path:
                self._account.collect(path, content)
                disk.unlink(path)
                fetched.add(path[: path.rfind(b"/")])
        disk.sync(sorted(fetched))
