"""One message in the ledger, and the sums of many: what is counted of each (ledger_book.py has the arithmetic)."""

_ENDED, _DISCARDED, _RECENT = 1, 2, 4


class Account:
    """One message in the journal of events. The counts are recipients, `doubts` is recipient -> attempts in doubt."""

    __slots__ = (
        "begun", "bounced", "delivered", "discarded", "doubtful", "doubts", "ended", "failed_in_doubt", "maybe_again",
        "number", "put_off", "qp", "recipients", "twice",
    )  # fmt: skip

    def __init__(self, number: int, qp: int, recipients: int) -> None:
        self.number, self.qp, self.recipients = number, qp, recipients
        self.begun = self.delivered = self.bounced = self.put_off = self.twice = 0
        self.doubtful = 0  # attempts
        self.maybe_again = 0  # delivered after a doubt
        self.failed_in_doubt = 0  # failed for good after a doubt
        self.doubts: dict[int, int] | None = None  # of those that wait
        self.ended = self.discarded = False

    @property
    def known(self) -> bool:
        """Whether its beginning is in the journal; not so for what was in the queue before the ledger was begun."""
        return self.qp > 0

    @property
    def finished(self) -> int:
        """Recipients that are dealt with, repetitions included."""
        return self.delivered + self.bounced

    @property
    def left(self) -> int:
        """Recipients that are not dealt with."""
        return self.recipients - min(self.finished, self.recipients)

    @property
    def under_way(self) -> int:
        """Deliveries begun whose end is not in the journal."""
        return self.begun - self.delivered - self.bounced - self.put_off - self.twice

    def doubt(self, recipient: int) -> None:
        """An attempt of which nobody knows whether it has arrived."""
        self.doubtful += 1
        if self.doubts is None:
            self.doubts = {}
        self.doubts[recipient] = self.doubts.get(recipient, 0) + 1

    def had_doubt(self, recipient: int) -> bool:
        """Whether there was one before about this recipient, which is now finished."""
        return self.doubts is not None and self.doubts.pop(recipient, 0) > 0

    def encode(self, recent: bool) -> bytes:
        """As a line of the totals."""
        flags = _ENDED * self.ended + _DISCARDED * self.discarded + _RECENT * recent
        numbers = [
            self.number, self.qp, self.recipients, self.begun, self.delivered, self.bounced, self.put_off,
            self.twice, self.doubtful, self.maybe_again, self.failed_in_doubt, flags,
        ]  # fmt: skip
        for recipient, count in (self.doubts or {}).items():
            numbers += (recipient, count)
        return b"a " + b" ".join([b"%d" % max(number, 0) for number in numbers])

    @classmethod
    def decode(cls, numbers: list[int]) -> "tuple[Account, bool]":
        """The inverse: (account, recent)."""
        account = cls(*numbers[:3])
        (
            account.begun, account.delivered, account.bounced, account.put_off, account.twice, account.doubtful,
            account.maybe_again, account.failed_in_doubt, flags,
        ) = numbers[3:ACCOUNT_NUMBERS]  # fmt: skip
        account.ended, account.discarded = bool(flags & _ENDED), bool(flags & _DISCARDED)
        if len(numbers) > ACCOUNT_NUMBERS:
            account.doubts = dict(zip(numbers[ACCOUNT_NUMBERS::2], numbers[ACCOUNT_NUMBERS + 1 :: 2], strict=True))
        return account, bool(flags & _RECENT)


ACCOUNT_NUMBERS = 12  # of a line, before its doubts


class Sums:
    """Messages that have ended, added up. `unexplained` are recipients of `faulty` of them."""

    __slots__ = (
        "bounced", "damaged", "delivered", "discarded", "doubted", "doubtful", "failed_in_doubt", "faulty",
        "maybe_again", "maybe_twice", "messages", "recipients", "repeated", "unexplained",
    )  # fmt: skip

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    messages: int
    recipients: int
    delivered: int
    bounced: int
    discarded: int
    repeated: int
    doubtful: int
    doubted: int
    maybe_again: int
    failed_in_doubt: int
    maybe_twice: int
    faulty: int
    unexplained: int
    damaged: int

    def add(self, account: Account) -> None:
        """One more, as far as it is dealt with."""
        dealt_with = account.recipients - account.left
        told = min(account.bounced, dealt_with)
        self.messages += 1
        self.recipients += account.recipients
        self.repeated += account.finished - dealt_with
        self.delivered += dealt_with - told
        if account.discarded:
            self.discarded += told
        else:
            self.bounced += told
        self.doubtful += account.doubtful
        self.doubted += account.maybe_again + account.failed_in_doubt + len(account.doubts or ())
        self.maybe_again += account.maybe_again
        self.failed_in_doubt += account.failed_in_doubt
        self.maybe_twice += account.twice

    def encode(self) -> bytes:
        """As a line of the totals: its numbers in the order of their names."""
        return b"sums " + b" ".join([b"%d" % getattr(self, name) for name in self.__slots__])

    def take(self, numbers: list[int]) -> bool:
        """Adds the numbers of such a line; False when they are none."""
        if len(numbers) != len(self.__slots__):
            return False
        for name, number in zip(self.__slots__, numbers, strict=True):
            setattr(self, name, getattr(self, name) + number)
        return True
