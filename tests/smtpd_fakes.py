"""A session of qmail-smtpd with everything around it in memory."""

from collections.abc import Callable

from notqmail.control.smtpd_settings import SmtpdSettings
from notqmail.receive.smtpd import Session, World
from notqmail.unix.clock import Clock
from notqmail.wire.reports import Report

NOW_S = 1_795_334_431
OWN = frozenset({b"127.0.0.1", b"0.0.0.0", b"::1"})


class StoppedClock(Clock):
    """Always NOW_S."""

    def now_s(self) -> int:
        return NOW_S


class FakeSink:
    """A message, and what became of it: `state` is open, abandoned or closed."""

    def __init__(self, queue: "FakeQueue") -> None:
        self._queue, self.text, self.state, self.qp = queue, b"", "open", 0
        self.sender, self.recipients = b"", list[bytes]()

    def write(self, data: bytes) -> None:
        assert self.state == "open"
        self.text += data

    def abandon(self) -> None:
        assert self.state == "open", "abandoned after its end"
        self.state = "abandoned"

    def close(self, sender: bytes, recipients: list[bytes]) -> Report | None:
        assert self.state == "open"
        self.state, self.qp = "closed", 100 + len(self._queue.sinks)
        self.sender, self.recipients = sender, recipients
        return None if self._queue.answers_later else self._queue.report

    @property
    def body(self) -> bytes:
        """The message without the two lines of our Received."""
        return self.text.split(b"\n", 2)[2]


class FakeQueue:
    """Gives sinks. `report` None: it cannot be started."""

    def __init__(self, report: Report | None, *, answers_later: bool = False) -> None:
        self.report, self.answers_later = report, answers_later
        self.sinks: list[FakeSink] = []

    def open(self) -> FakeSink:
        if self.report is None:
            raise OSError("no process")
        self.sinks.append(FakeSink(self))
        return self.sinks[-1]

    @property
    def queued(self) -> list[FakeSink]:
        """The messages that were taken."""
        return [one for one in self.sinks if one.state == "closed"]


def no_more_hosts(_host: bytes) -> bool:
    """An empty morercpthosts."""
    return False


def own() -> frozenset[bytes]:
    """This machine's addresses."""
    return OWN


def new_session(
    queue: FakeQueue | None = None,
    settings: SmtpdSettings | None = None,
    environ: dict[bytes, bytes] | None = None,
    knows_host: Callable[[bytes], bool] = no_more_hosts,
    own_addresses: Callable[[], frozenset[bytes]] = own,
) -> Session:
    """A session with defaults for what a test does not care about."""
    queue = queue or FakeQueue(Report(b"K"))
    world = World(StoppedClock(), queue.open, knows_host, own_addresses)
    return Session(settings or SmtpdSettings(b"mail.test"), environ or {}, world)


def say(session: Session, *lines: bytes) -> list[bytes]:
    """Says each line and returns what was heard after all of them, as lines."""
    heard = b"".join(session.receive(line + b"\r\n") for line in lines)
    return heard.split(b"\r\n")[:-1]
