"""qmail-rspawn in the simulation: real routes, real SMTP client, the real memory of time-outs; no socket."""

import functools

from notqmail.control.remote_settings import RemoteSettings
from notqmail.deliver import tcpto
from notqmail.deliver.remote import NO_CONNECTION, body, without_dialogue
from notqmail.deliver.remote_once import answered
from notqmail.deliver.remote_report import combine_records
from notqmail.deliver.routes import NoRoute, candidates
from notqmail.message.address import quote_address
from notqmail.testing.simulation.spawners import Spawner, Surroundings, Try
from notqmail.testing.simulation.world import DEAD, REFUSING, SLOW, Peer, World
from notqmail.wire.smtp_client import Envelope, Outcome, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from notqmail.deliver.routes import Candidate

_SETTINGS = RemoteSettings(b"me.test")


class RemoteSpawner(Spawner):
    """All its deliveries live in one process: when that dies, they end where they are."""

    def __init__(self, around: Surroundings, channel: bytes, world: World) -> None:
        super().__init__(around, channel)
        self._world = world
        self._timeouts = bytes(tcpto.TABLE_BYTES)  # cleared by a start

    def try_once(self, one: Try) -> None:
        host = one.delivery.recipient.rpartition(b"@")[2]
        asking = candidates(host, _SETTINGS, own=(), draw=self.around.chance.random)
        try:
            found = answered(asking, self._world)
        except NoRoute as nowhere:
            self._end(one, without_dialogue(nowhere.report), 0.05)
            return
        waited_s = 0.0
        for candidate in found:
            mood, seconds = self._connect(candidate)
            waited_s += seconds
            if mood is not None:
                self.later(waited_s, functools.partial(self._talk, one, candidate, mood), survives=False)
                return
        self._end(one, without_dialogue(NO_CONNECTION), waited_s + 0.001)

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

    def _talk(self, one: Try, candidate: "Candidate", mood: str) -> None:
        """The dialogue up to DATA's answer."""
        session = Session(candidate.address, _SETTINGS.helo_name)
        message = one.message
        recipient = quote_address(one.delivery.recipient)
        session.begin(
            Envelope(
                quote_address(one.delivery.sender), [recipient], size=len(message.content),
                ends_mid_line=message.ends_mid_line,
            )
        )  # fmt: skip
        peer = Peer(mood, self.around.chance, lambda recipients, text: self._taken(one, recipients, text))
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
            self._end(one, session.outcome, pace_s)
        else:
            self.later(pace_s, lambda: self._send_body(one, session, peer, mood), survives=False)

    def _pace(self, mood: str) -> float:
        chance = self.around.chance
        return chance.uniform(20, 1_000) if mood == SLOW else chance.choice((0.02, 0.1, 0.5))

    def _send_body(self, one: Try, session: Session, peer: Peer, mood: str) -> None:
        text = b"".join(body(one.message, session))  # type: ignore[arg-type]
        said = peer.receive(text)
        self.later(self._pace(mood), lambda: self._hear(one, session, said), survives=False)

    def _hear(self, one: Try, session: Session, said: bytes | None) -> None:
        if said is None:
            session.connection_died()
            one.in_doubt = True
        else:
            session.receive(said)
            session.after_body()
        assert session.outcome is not None
        self._end(one, session.outcome, 0.0)

    def _taken(self, one: Try, recipients: list[bytes], text: bytes) -> None:
        assert recipients == [one.delivery.recipient]
        self.around.account.letter_in(text)
        self.deliver(one)

    def _end(self, one: Try, outcome: Outcome, seconds: float) -> None:
        self.later(seconds, lambda: self.report(one, combine_records(outcome.encode())), survives=False)
