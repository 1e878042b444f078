"""A DNS in a dictionary, for tests of what asks the DNS: the resolver seam of one-shot programs (unix.resolver)."""

from notqmail.unix.resolver import HARD, Answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class FakeResolver:
    """Answers from two tables, names in lower case; a name that is in neither does not exist. Counts questions."""

    def __init__(
        self, *, mx: "Mapping[bytes, Answer] | None" = None, addresses: "Mapping[bytes, Answer] | None" = None
    ) -> None:
        self._mx, self._addresses = mx or {}, addresses or {}
        self.asked: list[tuple[str, bytes]] = []

    def mx(self, host: bytes) -> Answer:
        """The mail exchangers of a host."""
        self.asked.append(("MX", host))
        return self._mx.get(host.lower(), Answer(HARD))

    def addresses(self, host: bytes) -> Answer:
        """The addresses of a host."""
        self.asked.append(("ADDRESSES", host))
        return self._addresses.get(host.lower(), Answer(HARD))
