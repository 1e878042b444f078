"""How much one client may take of us. qmail-smtpd leaves most of this to tcpserver and softlimit."""

HOPS_MAX = 100  # qmail's: a message with as many Received or Delivered lines is going round in circles
BAD_COMMANDS_MAX = 100  # in one session; an honest client makes a handful (AUTH, STARTTLS, VRFY ... unimplemented)
ENVELOPE_BYTES_MAX = 16_000_000  # all recipients of one message: with a small message it fits a package to the queue
RECIPIENT_BYTES_MORE = 8  # counted for each of them besides its address: framing, so that many short ones fit too

ENVELOPES_BYTES_MAX = 256_000_000  # all recipients of all sessions of one process together
# Since the last message; accepted recipients do not count. Keeps nobody alive for ever.
COMMANDS_WITHOUT_MAIL_MAX = 1_000
# After that even a client that is never silent has to go; qmail-queue waits no longer either.
SESSION_MAX_S = 24 * 60 * 60

CONNECTIONS_MAX = 1000  # a resident's, in all; an idle one costs a few kilobytes
CONNECTIONS_PER_ADDRESS_MAX = 200


class EnvelopeBytes:
    """How many bytes of recipients all sessions of a process keep."""

    __slots__ = ("used",)

    def __init__(self) -> None:
        self.used = 0


class ConnectionLimits:
    """Counts the open connections, in all and from each address."""

    __slots__ = ("_all_max", "_by_address", "_each_max", "count")

    def __init__(self, all_max: int = CONNECTIONS_MAX, each_max: int = CONNECTIONS_PER_ADDRESS_MAX) -> None:
        self._all_max, self._each_max = all_max, each_max
        self._by_address: dict[str, int] = {}
        self.count = 0

    def admit(self, address: str) -> bool:
        """Counts one more connection, unless that is one too many. What was admitted must be `leave`d."""
        here = self._by_address.get(address, 0)
        if self.is_full or here >= self._each_max:
            return False
        self._by_address[address] = here + 1
        self.count += 1
        return True

    @property
    def is_full(self) -> bool:
        """Whether nobody more is admitted, from wherever."""
        return self.count >= self._all_max

    def leave(self, address: str) -> None:
        """One admitted connection from there has ended."""
        here = self._by_address[address] - 1
        if here:
            self._by_address[address] = here
        else:
            del self._by_address[address]
        self.count -= 1
