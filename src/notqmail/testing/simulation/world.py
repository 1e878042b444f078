"""The outside: hosts with moods, their SMTP servers, the DNS, and who has a mailbox here.

A host's mood changes by chance every few hours: it answers, is dead, refuses, is slow, busy, greylists, is full,
loses connections after the final dot, talks nonsense. Who exists does not change: a box whose name begins with
`nobody` exists nowhere. `repair` makes everybody well, for the end of a simulation.
"""

from notqmail.unix.resolver import HARD, SOFT, Answer, found
from notqmail.wire.dot import DotDecoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from notqmail.testing.simulation.clockwork import Clockwork

GOOD, DEAD, REFUSING, SLOW, BUSY, GREYLISTING, FULL, DROPPING, NONSENSE, NO_DNS = (
    "good", "dead", "refusing", "slow", "busy", "greylisting", "full", "dropping", "nonsense", "no dns",
)  # fmt: skip
_MOODS = (GOOD, DEAD, REFUSING, SLOW, BUSY, GREYLISTING, FULL, DROPPING, NONSENSE, NO_DNS)
_MOOD_WEIGHTS = (60, 8, 4, 8, 4, 4, 3, 5, 2, 2)
_MOOD_LASTS_S = 9_000.0  # on the average
NOBODY = b"nobody"  # a box that exists nowhere begins like this


class Host:
    """One domain out there, its server's address and its mood of the hour."""

    __slots__ = ("address", "mood", "mood_ends_s", "name")

    def __init__(self, name: bytes, address: bytes) -> None:
        self.name, self.address = name, address
        self.mood, self.mood_ends_s = GOOD, 0.0


class World:
    """All hosts. `received(recipient, sender, message)` is called the moment a server takes a message for good."""

    def __init__(self, clock: "Clockwork", chance: "random.Random", hosts: int) -> None:
        self._clock, self._chance = clock, chance
        self._hosts = {b"h%d.test" % n: Host(b"h%d.test" % n, b"192.0.2.%d" % (n + 1)) for n in range(hosts)}
        self._by_address = {host.address: host for host in self._hosts.values()}
        self.repaired = False
        self.dark_until_s = 0.0  # no network at all
        self.restless = 1.0  # how much of the trouble there is

    def names(self) -> list[bytes]:
        """All domains that exist out there."""
        return list(self._hosts)

    def repair(self) -> None:
        """From now on everything works."""
        self.repaired = True

    def mood(self, address: bytes) -> str:
        """How the server at this address is now."""
        if self.repaired:
            return GOOD
        now_s = self._clock.steady_s()
        if now_s < self.dark_until_s:
            return DEAD
        host = self._by_address[address]
        if now_s >= host.mood_ends_s:
            calm = self._chance.random() >= self.restless
            host.mood = GOOD if calm else self._chance.choices(_MOODS, _MOOD_WEIGHTS)[0]
            host.mood_ends_s = now_s + self._chance.expovariate(1 / _MOOD_LASTS_S)
        return host.mood

    # ── the DNS: both questions of unix.resolver.Resolver ───────────────────────────────────────────────

    def mx(self, name: bytes) -> Answer:
        """Some hosts have an exchanger of another name, some are their own."""
        host = self._hosts.get(name.lower())
        if host is None:
            return Answer(HARD)
        if self.mood(host.address) == NO_DNS:
            return Answer(SOFT)
        return found((10, b"mx." + host.name)) if host.address[-1] % 2 else Answer(HARD)

    def addresses(self, name: bytes) -> Answer:
        """The host's, also by its exchanger's name."""
        host = self._hosts.get(name.lower().removeprefix(b"mx."))
        return Answer(HARD) if host is None else found(host.address)


class Peer:
    """One connection's server: bytes in, bytes out; None means that it hangs up.

    `take(recipients, message)` is called when it has accepted the message, whether or not it still says so.
    """

    def __init__(self, mood: str, chance: "random.Random", take: "Callable[[list[bytes], bytes], None]") -> None:
        self._mood, self._chance, self._take = mood, chance, take
        self._buffer = b""
        self._body: DotDecoder | None = None
        self._text: list[bytes] = []
        self._recipients: list[bytes] = []

    def greeting(self) -> bytes:
        """What it says first."""
        if self._mood == BUSY:
            return b"421 busy\r\n"
        return b"\x00\xff what?\r\n" if self._mood == NONSENSE else b"220 h.test ESMTP\r\n"

    def receive(self, data: bytes) -> bytes | None:
        """Its answers to these bytes; None: it hangs up."""
        self._buffer += data
        said = b""
        while self._body is None and b"\r\n" in self._buffer:
            line, self._buffer = self._buffer.split(b"\r\n", 1)
            answer = self._command(line)
            if answer is None:
                return None
            said += answer
        if self._body is not None and self._buffer:
            self._text.append(self._body.receive(self._buffer))
            self._buffer = self._body.rest
            if self._body.ended:
                self._body = None
                return self._end_of_message(said)
        return said

    def _command(self, line: bytes) -> bytes | None:
        verb = line[:4].upper()
        if verb == b"EHLO":
            return b"250-h.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n" if self._chance.random() < 0.5 else b"250 h\r\n"
        if verb == b"RCPT":
            return self._recipient(line[line.index(b"<") + 1 : line.rindex(b">")])
        if verb == b"DATA":
            if not self._recipients:
                return b"503 nobody to send to\r\n"
            self._body = DotDecoder()
            return b"354 go on\r\n"
        return b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n"

    def _recipient(self, address: bytes) -> bytes | None:
        if address.startswith(NOBODY):
            return b"550 no such user\r\n"
        if self._mood == GREYLISTING and self._chance.random() < 0.8:
            return b"450 try again later\r\n"
        if self._mood == DROPPING and self._chance.random() < 0.1:
            return None  # before the message: nothing has happened
        self._recipients.append(address)
        return b"250 ok\r\n"

    def _end_of_message(self, said: bytes) -> bytes | None:
        if self._mood == FULL:
            return said + b"452 no room\r\n"
        if self._mood == DROPPING and self._chance.random() < 0.3:
            return None  # it did not take the message, but who can tell
        self._take(self._recipients, b"".join(self._text))
        if self._mood == DROPPING and self._chance.random() < 0.6:
            return None  # it did
        return said + b"250 taken\r\n"
