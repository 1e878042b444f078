"""qmail-rspawn in the simulation: real routes, real SMTP client, the real memory of time-outs; no socket."""

import functools

from notqmail.control.remote_settings import RemoteSettings
from notqmail.deliver import tcpto
from notqmail.deliver.remote import NO_CONNECTION, body, without_dialogue
from notqmail.deliver.remote_once import answered
from notqmail.deliver.remote_report import reports_of
from notqmail.deliver.routes import NoRoute, candidates
from notqmail.message.address import quote_address
from notqmail.testing.simulation.clockwork import Violation
from notqmail.testing.simulation.spawners import Spawner, Surroundings, Try
from notqmail.testing.simulation.world import DEAD, REFUSING, SLOW, Peer, World
from notqmail.wire.smtp_client import ACCEPTED, Envelope, Outcome, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.deliver.routes import Candidate

_SETTINGS = RemoteSettings(b"me.test")


class RemoteSpawner(Spawner):
    """All its deliveries live in one process: when that dies, they end where they are."""

    def __init__(self, around: Surroundings, channel: bytes, world: World, host_limit: int) -> None:
        super().__init__(around, channel)
        self._world, self._host_limit = world, host_limit
        self._hosts: dict[int, bytes] = {}  # slot: where its last command went
        self._timeouts = bytes(tcpto.TABLE_BYTES)  # cleared by a start

    def try_all(self, tries: list[Try]) -> None:
        (host,) = {one.address.rpartition(b"@")[2].lower() for one in tries}
        self._count(host, tries[0].delivery.slot)
        asking = candidates(host, _SETTINGS, own=(), draw=self.around.chance.random)
        try:
            found = answered(asking, self._world)
        except NoRoute as nowhere:
            self._end(tries, without_dialogue(nowhere.report), 0.05)
            return
        waited_s = 0.0
        for candidate in found:
            mood, seconds = self._connect(candidate)
            waited_s += seconds
            if mood is not None:
                self.later(waited_s, functools.partial(self._talk, tries, candidate, mood), survives=False)
                return
        self._end(tries, without_dialogue(NO_CONNECTION), waited_s + 0.001)

    def _count(self, host: bytes, slot: int) -> None:
        """So many commands for one host at a time and no more."""
        self._hosts[slot] = host
        busy = sum(1 for number, there in self._hosts.items() if there == host and self._open.get(number))
        if busy > self._host_limit:
            raise Violation("concurrency", f"{busy} deliveries to {host.decode()}, {self._host_limit} allowed")

    def _connect(self, candidate: "Candidate") -> tuple[str | None, float]:
        """(the mood of the server that answers or None, the seconds it took)."""
        packed = tcpto.pack_address(candidate.address)
        assert packed is not None
        now_s = self.around.clock.now_s()
        number = tcpto.find(self._timeouts, packed)
        if number is not None and tcpto.is_barred(self._timeouts, number, now_s=now_s, jitter=7):
            return None, 0.0
        mood = self._world.mood(candidate.address)
        if mood == DEAD:
            self._remember(tcpto.after_timeout(self._timeouts, packed, now_s))
            return None, float(_SETTINGS.connect_timeout_s)
        self._remember(tcpto.after_answer(self._timeouts, packed))
        return (None, 0.02) if mood == REFUSING else (mood, 0.04)

    def _remember(self, change: tuple[int, bytes] | None) -> None:
        if change is not None:
            start = change[0] * tcpto.RECORD_BYTES
            table = self._timeouts
            self._timeouts = table[:start] + change[1] + table[start + tcpto.RECORD_BYTES :]

    def _talk(self, tries: list[Try], candidate: "Candidate", mood: str) -> None:
        """The dialogue up to DATA's answer."""
        session = Session(candidate.address, _SETTINGS.helo_name)
        message = tries[0].message
        session.begin(
            Envelope(
                quote_address(tries[0].delivery.sender), [quote_address(one.address) for one in tries],
                size=len(message.content), ends_mid_line=message.ends_mid_line,
            )
        )  # fmt: skip
        peer = Peer(mood, self.around.chance, lambda recipients, text: self._taken(tries, recipients, text))
        said: bytes | None = peer.greeting()
        while session.outcome is None and not session.wants_body:
            if said is None:
                session.connection_died()
                break
            out = session.receive(said)
            if session.outcome is None and not session.wants_body:
                said = peer.receive(out) if out else None
        pace_s = self._pace(mood)
        if session.outcome is not None:
            self._end(tries, session.outcome, pace_s)
        else:
            self.later(pace_s, lambda: self._send_body(tries, session, peer, mood), survives=False)

    def _pace(self, mood: str) -> float:
        chance = self.around.chance
        return chance.uniform(20, 1_000) if mood == SLOW else chance.choice((0.02, 0.1, 0.5))

    def _send_body(self, tries: list[Try], session: Session, peer: Peer, mood: str) -> None:
        text = b"".join(body(tries[0].message, session))  # type: ignore[arg-type]
        said = peer.receive(text)
        self.later(self._pace(mood), lambda: self._hear(tries, session, said), survives=False)

    def _hear(self, tries: list[Try], session: Session, said: bytes | None) -> None:
        if said is None:
            session.connection_died()
            assert session.outcome is not None
            for one, (letter, _) in zip(tries, session.outcome.records, strict=True):
                one.in_doubt = letter == ACCEPTED
        else:
            session.receive(said)
            session.after_body()
        assert session.outcome is not None
        self._end(tries, session.outcome, 0.0)

    def _taken(self, tries: list[Try], recipients: list[bytes], text: bytes) -> None:
        asked = {one.address: one for one in tries}
        self.around.account.letter_in(text)
        for recipient in recipients:
            self.deliver(asked[recipient])

    def _end(self, tries: list[Try], outcome: Outcome, seconds: float) -> None:
        def end() -> None:
            for one, report in zip(tries, reports_of(outcome, len(tries)), strict=True):
                self.report(one, report)

        self.later(seconds, end, survives=False)
