"""From accepted to preprocessed (S4 to S5): read todo, decide each recipient's channel, write info, local, remote.

A look into todo begins when the trigger is pulled, and every 25 minutes. It takes the directory bit by bit, a batch
a turn, so that deliveries go on while a flood comes in ("silly qmail"); a batch is made durable by one sync.
"""

from notqmail.queue.store import BadRecord
from notqmail.send.log import safe
from notqmail.send.schedule import TODO_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from notqmail.control.rewrite import Routing
    from notqmail.queue.store import Accepted, QueueStore
    from notqmail.send.cleaner_link import CleanerLink
    from notqmail.send.log import Log

BATCH_MAX = 64


class Preprocessed:
    """A message that has become S5: its sender and the channels that have recipients."""

    __slots__ = ("channels", "number", "sender")

    def __init__(self, number: int, sender: bytes, channels: "Iterable[bytes]") -> None:
        self.number, self.sender, self.channels = number, sender, tuple(channels)


class Preprocessor:
    """The look into todo. `routing` may be replaced (HUP)."""

    def __init__(
        self, store: "QueueStore", log: "Log", cleaner: "CleanerLink", routing: "Routing",
        rearm_trigger: "Callable[[], None]",
    ) -> None:  # fmt: skip
        self._store, self._log, self._cleaner, self.routing = store, log, cleaner, routing
        self._rearm_trigger = rearm_trigger
        self._scan: Iterator[int] | None = None
        self.next_look_s = 0  # the first turn looks

    @property
    def looking(self) -> bool:
        """Whether a look is under way: then there is no reason to wait."""
        return self._scan is not None

    def look(self, now_s: int) -> None:
        """Begins a look. The trigger is opened anew first: a pull from here on asks for another look."""
        self._rearm_trigger()
        self._scan = self._store.accepted_numbers()
        self.next_look_s = now_s + TODO_S

    def turn(self, extra_paths: "Iterable[bytes]" = ()) -> "list[Preprocessed] | None":
        """Preprocesses the next batch; None when there was nothing left. `extra_paths` ride in the same sync.

        Raises OSError (nothing of the batch is preprocessed then; todo keeps it all) and CleanerLost.
        """
        numbers = self._next_numbers()
        if not numbers:
            return None
        written = []
        paths = list(extra_paths)
        for number in numbers:
            try:
                preprocessed, its_paths = self._write(number)
            except (OSError, BadRecord) as trouble:
                self._log.warning(_complaint(number, trouble))
                continue
            written.append(preprocessed)
            paths += its_paths
        if paths:
            self._store.sync(paths)
        gone = self._cleaner.remove([b"todo/%d" % one.number for one in written])
        for one, removed in zip(written, gone, strict=True):
            if not removed:
                self._log.warning(b"qmail-clean unable to clean up todo/%d" % one.number)
        return [one for one, removed in zip(written, gone, strict=True) if removed]

    def _next_numbers(self) -> list[int]:
        numbers: list[int] = []
        if self._scan is not None:
            try:
                for number in self._scan:
                    numbers.append(number)
                    if len(numbers) == BATCH_MAX:
                        return numbers
            except OSError:
                self._log.alert(b"unable to opendir todo, will look again later")
            self._scan = None
        return numbers

    def _write(self, number: int) -> tuple[Preprocessed, list[bytes]]:
        accepted = self._store.read_accepted(number)
        self._log.line(b"new msg %d" % number)
        self._log.line(_info_line(accepted))
        recipients: dict[bytes, list[bytes]] = {}
        for recipient in accepted.recipients:
            channel, address = self.routing.route(recipient)
            recipients.setdefault(channel, []).append(address)
        paths = self._store.write_preprocessed(number, accepted.sender, recipients)
        return Preprocessed(number, accepted.sender, recipients), paths


def _info_line(accepted: "Accepted") -> bytes:
    return b"info msg %d: bytes %d from <%b> qp %d uid %d" % (
        accepted.number, accepted.size, safe(accepted.sender), accepted.pid, accepted.uid,
    )  # fmt: skip


def _complaint(number: int, trouble: Exception) -> bytes:
    if isinstance(trouble, BadRecord):
        return b"unknown record type in " + trouble.path
    assert isinstance(trouble, OSError)
    name = trouble.filename if isinstance(trouble.filename, bytes) else b"todo/%d" % number
    if isinstance(trouble, FileNotFoundError):
        return b"unable to stat " + name
    return b"trouble preprocessing %b: %b" % (name, (trouble.strerror or "unknown error").encode())
