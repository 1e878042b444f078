"""The ledger's arithmetic: journal lines -> accounts -> totals, and whether they balance. Reads no file.

For each message and recipient: accepted = delivered + bounced + discarded + waiting. What was delivered again
after a crash is counted apart, and so is what cannot be explained: a sum that does not come out is a bug.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Account:
    """One message in the journal of events. The counts are recipients."""

    __slots__ = (
        "begun", "bounced", "delivered", "discarded", "doubtful", "ended", "number", "put_off", "qp", "recipients",
        "twice",
    )  # fmt: skip

    def __init__(self, number: int, qp: int, recipients: int) -> None:
        self.number, self.qp, self.recipients = number, qp, recipients
        self.begun = self.delivered = self.bounced = self.put_off = self.doubtful = self.twice = 0
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
    def under_way(self) -> int:
        """Deliveries begun whose end is not in the journal."""
        return self.begun - self.delivered - self.bounced - self.put_off - self.twice


class Events:
    """The journal of events, read line by line."""

    def __init__(self) -> None:
        self.accounts: list[Account] = []
        self.living: dict[int, Account] = {}  # the newest account of each number that has not ended
        self.damaged = 0
        self._ended: dict[int, Account] = {}  # the newest of each number since a clean stop

    def read(self, lines: "Iterable[bytes]") -> None:
        """Takes more lines; what is no event is counted as damaged."""
        for line in lines:
            words = line.split(b" ")
            if words[0] == b"stop":
                self._ended.clear()
            elif words[0] == b"start":
                continue  # what it means is said by the line before it (send/books.py)
            elif not line or len(words) < 2 or not all(word.isdigit() for word in words[1:]):
                self.damaged += bool(line)
            elif words[0] == b"n" and len(words) == 4:
                self._seen(*map(int, words[1:]))
            else:
                self._event(words[0], [int(word) for word in words[1:]])

    def _seen(self, number: int, qp: int, recipients: int) -> None:
        known = self.living.get(number)
        ended = self._ended.get(number)
        if known is None and ended is not None and ended.qp == qp:
            # Ended, but qmail-send died before todo/N was gone: the same message again, not another one.
            self.living[number] = ended
            ended.ended = False
        elif known is None or known.qp != qp:
            self.living[number] = account = Account(number, qp, recipients)
            self.accounts.append(account)

    def _event(self, kind: bytes, numbers: list[int]) -> None:
        account = self.living.get(numbers[0])
        if account is None:  # the ledger was begun while the message was in the queue already
            account = self.living[numbers[0]] = Account(numbers[0], 0, 0)  # its sums are not in the totals
        count = numbers[1] if len(numbers) > 1 else 1
        if kind == b"s":
            account.begun += 1
        elif kind == b"k":
            account.delivered += 1
        elif kind == b"b":
            account.bounced += 1
        elif kind in (b"z", b"?"):
            account.put_off += 1
            account.doubtful += kind == b"?"
        elif kind == b"m":
            account.delivered += count
            account.begun += count
        elif kind == b"!":
            account.twice += count
        elif kind == b"r":
            account.bounced -= 1
            account.put_off += 1
        elif kind == b"t":
            account.discarded = True
        elif kind == b"-":
            account.ended = True
            self._ended[numbers[0]] = account
            del self.living[numbers[0]]
        else:
            self.damaged += 1


class Totals:
    """What `notqmail ledger` shows. `faults` are sentences; empty means that it balances."""

    def __init__(self) -> None:
        self.messages = self.recipients = self.delivered = self.bounced = self.discarded = self.waiting = 0
        self.repeated = self.doubtful = self.maybe_twice = self.interrupted = self.foreign = 0
        self.faults: list[str] = []


def balance(
    accepted: "Iterable[bytes]", events: Events, in_todo: "Mapping[int, int]", undone: "Mapping[int, int]"
) -> Totals:
    """Adds up. `in_todo` is message number -> qp of what is in todo, `undone` number -> recipients waiting in S5.

    Messages whose beginning the journal does not have are left out.
    """
    totals = Totals()
    totals.recipients = _count_accepted(accepted, events, in_todo, totals)
    for account in events.accounts:
        dealt_with = min(account.finished, account.recipients)
        totals.repeated += account.finished - dealt_with
        totals.doubtful += account.doubtful
        totals.maybe_twice += account.twice
        told = min(account.bounced, dealt_with)
        totals.delivered += dealt_with - told
        if account.discarded:
            totals.discarded += told
        else:
            totals.bounced += told
        _settle(account, dealt_with, in_todo, undone, totals)
    if events.damaged:
        totals.faults.append(f"{events.damaged} lines of the journal are damaged")
    return totals


def _settle(
    account: Account, dealt_with: int, in_todo: "Mapping[int, int]", undone: "Mapping[int, int]", totals: Totals
) -> None:
    """Adds what still waits of one account, and says what does not come out."""
    left = account.recipients - dealt_with
    if account.ended:
        if left:
            totals.faults.append(f"message {account.number} (qp {account.qp}) ended with {left} recipients unexplained")
        return
    waiting = left if in_todo.get(account.number) == account.qp else undone.get(account.number)
    if waiting is None:
        totals.faults.append(f"message {account.number} (qp {account.qp}) is gone with {left} recipients unexplained")
        return
    totals.waiting += waiting
    if waiting != left:
        totals.faults.append(f"message {account.number} (qp {account.qp}): {waiting} recipients wait, {left} should")


def _count_accepted(accepted: "Iterable[bytes]", events: Events, in_todo: "Mapping[int, int]", totals: Totals) -> int:
    """Recipients accepted; messages that nobody has seen yet wait, or were interrupted before they were accepted."""
    seen = {(account.number, account.qp) for account in events.accounts}
    recipients = sum(account.recipients for account in events.accounts)
    noted: dict[tuple[int, int], int] = {}
    for line in accepted:
        words = line.split(b" ")
        if len(words) == 4 and words[0] == b"+" and all(word.isdigit() for word in words[1:]):
            noted[int(words[1]), int(words[2])] = int(words[3])
        elif line:
            totals.faults.append(f"a line of the journal of accepted messages is damaged: {line[:60]!r}")
    for (number, qp), count in noted.items():
        if (number, qp) in seen:
            continue
        if in_todo.get(number) == qp:
            totals.waiting += count
            totals.messages += 1
            recipients += count
        else:
            totals.interrupted += 1
    totals.foreign = len(seen - set(noted))
    totals.messages += len(events.accounts)
    return recipients
