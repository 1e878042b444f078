"""What all clients of a listening resident share: limits, rules, the way to the queue, and who is there.

It does for a connection what tcpserver does for a one-shot program: limits, rules, environment.
"""

import asyncio

from notqmail.policy.limits import ConnectionLimits, EnvelopeBytes
from notqmail.receive.fresh import FreshRules
from notqmail.receive.to_queue import QueueDoor
from notqmail.unix.mains import complain
from notqmail.unix.open_files import allow_many_open_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from notqmail.receive.listen_options import ListenOptions
    from notqmail.receive.service import Service
    from notqmail.unix.clock import Clock

    class Connected(Protocol):
        """A connection, as the server sees it.

        `active_s` is when something last came, `began_s` when it was made, on the loop's clock.
        """

        active_s: float
        began_s: float
        timeout_s: float

        def was_silent(self, now_s: float) -> None:
            """`timeout_s` have passed without a byte, or the session's time is over."""

        def go_down(self) -> None:
            """The server stops."""


GRACE_S = 20.0  # after SIGTERM, for messages that are on their way
SWEEP_S = 1.0  # how often silence is noticed: a time-out may come this much late
_OTHER_DESCRIPTORS = 64  # ours: listeners, queue, log, files just being read


class Server:
    """One for each resident."""

    def __init__(
        self, home: bytes, environ: "Mapping[bytes, bytes]", clock: "Clock", options: "ListenOptions",
        service: "Service",
    ) -> None:  # fmt: skip
        self.service = service
        self.rules = None if options.rules is None else FreshRules(options.rules, clock)
        self.limits = ConnectionLimits(self._most_connections(options.limit), options.limit_per_address)
        self.envelopes = EnvelopeBytes()
        self.door = QueueDoor(home)
        self.environ = {**environ, b"PROTO": b"TCP"}
        for name in (b"TCPREMOTEHOST", b"TCPREMOTEINFO", b"TCPLOCALHOST"):
            self.environ.pop(name, None)  # they would be our starter's, not the client's
        self.clients: set[Connected] = set()
        self.loop = asyncio.get_running_loop()
        self._sweeping = False
        self._all_gone: asyncio.Event | None = None

    def joined(self, client: "Connected") -> None:
        """A connection was made."""
        self.clients.add(client)
        if not self._sweeping:
            self._sweeping = True
            self.loop.call_later(SWEEP_S, self._sweep)

    def left(self, client: "Connected") -> None:
        """A connection is over."""
        self.clients.discard(client)
        if self._all_gone is not None and not self.clients:
            self._all_gone.set()

    def _sweep(self) -> None:
        """One look at all clients a second costs less than a timer for each command of each of them."""
        now_s = self.loop.time()
        too_old_s = now_s - self.service.session_max_s
        for client in list(self.clients):
            if now_s - client.active_s >= client.timeout_s or client.began_s <= too_old_s:
                client.was_silent(now_s)
        self._sweeping = bool(self.clients)
        if self._sweeping:
            self.loop.call_later(SWEEP_S, self._sweep)

    async def go_down(self) -> None:
        """Says goodbye to all clients; messages on their way have GRACE_S to arrive."""
        self._all_gone = asyncio.Event()
        for client in list(self.clients):
            client.go_down()
        if self.clients:
            try:
                await asyncio.wait_for(self._all_gone.wait(), GRACE_S)
            except TimeoutError:
                self.log(f"{len(self.clients)} connections did not end in time")
        self.door.close()

    def _most_connections(self, wanted: int) -> int:
        """Each may have a spool file besides its socket."""
        files = allow_many_open_files()
        most = max(1, (files - _OTHER_DESCRIPTORS) // 2)
        if most < wanted:
            self.log(f"at most {most} connections, not {wanted}: no more than {files} files may be open")
        return min(most, wanted)

    def log(self, text: str) -> None:
        """One line on descriptor 2."""
        complain(f"{self.service.name}: {text}")
