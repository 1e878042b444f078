"""Reading the ledger's journals: lines -> accounts and sums. Reads no file, and whatever the lines are raises nothing.

A line that cannot be understood is counted and named, never guessed at.
"""

from notqmail.queue.ledger_account import ACCOUNT_NUMBERS, Account, Sums

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_RECENT_MAX = 1_000  # ended messages that are kept when summing up: those that a crash may bring back are the newest
_FAULTY_MAX = 100  # ended with somebody unexplained: so many keep their names
_NAMED_MAX = 20  # damaged lines
_FOLD_MIN = 10_000
_DIGITS_MAX = 20


class Events:
    """The journal of events, read line by line, totals first where there are any.

    `forgetful`: accounts of messages that have ended go into the sums as soon as they may, so that a journal of any
    length takes little memory; only what may still change stays in `accounts`.
    """

    def __init__(self, *, forgetful: bool = False) -> None:
        self._forgetful = forgetful
        self.accounts: list[Account] = []
        self.living: dict[int, Account] = {}  # the newest account of each number that has not ended
        self.sums = Sums()  # of messages that are in no account any more
        self.are_summed = False
        self.damage: list[str] = []  # the first lines that nobody understands
        self._ended: dict[int, Account] = {}  # the newest of each number since a clean stop
        self._fold_at = _FOLD_MIN
        self._torn = False

    @property
    def damaged(self) -> int:
        """Lines that nobody understands, also of journals that are summed up and gone."""
        return self.sums.damaged

    def read(self, lines: "Iterable[bytes]") -> None:
        """Takes more lines; what is no event is counted as damaged."""
        for line in lines:
            kind, *words = line.split(b" ")
            numbers = numbers_of(words)
            if self._torn and kind not in _AFTER_A_CRASH:
                self._torn = False
                self._damaged_line(b"damaged: the line before %b is torn, and nobody died there" % line)
            if numbers is None or not (self._take(kind, numbers) if words else self._take_word(kind)):
                self._damaged_line(line)

    def _take_word(self, word: bytes) -> bool:
        if word == b"stop":
            self._ended.clear()
        elif word == b"torn":
            self._torn = True
        elif word == b"start":
            self._torn = False  # what else it means is said by the line before it (send/books.py)
        return word in (b"stop", b"torn", b"start", b"")

    def _damaged_line(self, line: bytes) -> None:
        self.sums.damaged += 1
        if len(self.damage) < _NAMED_MAX:
            self.damage.append(as_damage(line))

    def _take(self, kind: bytes, numbers: list[int]) -> bool:
        if kind == b"n":
            if len(numbers) != 3:
                return False
            self._seen(*numbers)
            return True
        if kind == b"sums":
            self.are_summed = True
            return self.sums.take(numbers)
        if kind == b"a":
            return self._carried(numbers)
        if kind == b"through":
            return len(numbers) == 1
        if len(numbers) == 1:
            return self._event(kind, numbers[0], 0)
        return len(numbers) == 2 and kind in _WITH_A_NUMBER and self._event(kind, numbers[0], numbers[1])

    def _carried(self, numbers: list[int]) -> bool:
        """An account that was open, or had just ended, when journals were summed up."""
        if len(numbers) < ACCOUNT_NUMBERS or len(numbers) % 2:
            return False
        account, recent = Account.decode(numbers)
        self.accounts.append(account)
        if recent:
            self._ended[account.number] = account
        elif not account.ended:
            self.living[account.number] = account
        return True

    def _seen(self, number: int, qp: int, recipients: int) -> None:
        known = self.living.get(number)
        ended = self._ended.get(number)
        if known is None and ended is not None and ended.qp == qp:
            # Ended, but qmail-send died before todo/N was gone: the same message again, not another one.
            self.living[number] = self._ended.pop(number)
            ended.ended = False
        elif known is None or known.qp != qp:
            self.living[number] = account = Account(number, qp, recipients)
            self.accounts.append(account)
            if self._forgetful and len(self.accounts) > self._fold_at:
                self._fold()

    def _event(self, kind: bytes, number: int, second: int) -> bool:
        account = self.living.get(number)
        if account is None:  # the ledger was begun while the message was in the queue already
            account = self.living[number] = Account(number, 0, 0)  # its sums are not in the totals
        if kind == b"s":
            account.begun += 1
        elif kind == b"k":
            account.delivered += 1
            account.maybe_again += account.had_doubt(second)
        elif kind == b"b":
            account.bounced += 1
            account.failed_in_doubt += account.had_doubt(second)
        elif kind == b"z":
            account.put_off += 1
        elif kind == b"?":
            account.put_off += 1
            account.doubt(second)
        elif kind == b"u":
            account.doubt(second)
            account.bounced += 1
            account.failed_in_doubt += account.had_doubt(second)
        elif kind == b"m":
            account.delivered += second
            account.begun += second
        elif kind == b"!":
            account.twice += second
        elif kind == b"r":
            account.bounced -= 1
            account.put_off += 1
        elif kind == b"t":
            account.discarded = True
        elif kind == b"-":
            account.ended = True
            self._ended.pop(number, None)  # so that the newest are last
            self._ended[number] = account
            del self.living[number]
        else:
            return False
        return True

    def _fold(self) -> None:
        """Accounts that change no more become sums."""
        self._ended = dict(list(self._ended.items())[-_RECENT_MAX:])
        recent = {id(account) for account in self._ended.values()}
        accounts, self.accounts, faulty = self.accounts, [], 0
        listed = {id(account) for account in accounts}  # not those from before the ledger was begun
        for account in accounts:
            if id(account) in recent:
                continue
            faulty += account.ended and account.left > 0
            if not account.ended or (account.left and faulty <= _FAULTY_MAX):
                self.accounts.append(account)
            else:
                self.sums.add(account)
                if account.left:
                    self.sums.faulty += 1
                    self.sums.unexplained += account.left
        self.accounts += [account for account in self._ended.values() if id(account) in listed]
        self._fold_at = 2 * len(self.accounts) + _FOLD_MIN

    def totals_lines(self) -> "Iterator[bytes]":
        """Everything that was read, as lines for the totals: the sums, and what may still change in accounts."""
        self._fold()
        recent = {id(account) for account in self._ended.values()}
        yield self.sums.encode()
        for account in self.accounts:
            yield account.encode(recent=id(account) in recent)
        if self._torn:
            yield b"torn"


_AFTER_A_CRASH = frozenset((b"start", b"!", b"m", b"-", b"torn"))  # what follows a torn line (send/books.py)
_WITH_A_NUMBER = frozenset((b"k", b"b", b"?", b"u", b"m", b"!"))


def numbers_of(words: "Iterable[bytes]") -> list[int] | None:
    """The words as numbers; None when one of them is none that a program of ours has written."""
    numbers = []
    for word in words:
        if not word.isdigit() or len(word) > _DIGITS_MAX:
            return None
        numbers.append(int(word))
    return numbers


def as_damage(line: bytes) -> str:
    """How a line that cannot be read is named."""
    if line.startswith(b"damaged: "):
        return ascii(line[9:].decode("latin-1"))[1:-1]
    return f"no line of a ledger: {line[:60]!r}"


class Noted:
    """The journal of accepted messages, read: what its writers have noted. `messages` and `recipients` are of all."""

    def __init__(self, *, forgetful: bool = False) -> None:
        """`forgetful`: without `counts`, for sums only."""
        self._forgetful = forgetful
        self.messages = self.recipients = self.damaged = 0
        self.are_summed = False
        self.damage: list[str] = []
        self.counts: dict[tuple[int, int], list[int]] = {}  # (number, qp): recipients, each time there was one

    def read(self, lines: "Iterable[bytes]") -> None:
        """Takes lines; what is none of ours is counted as damaged."""
        for line in lines:
            kind, *words = line.split(b" ")
            numbers = numbers_of(words)
            if words:
                good = numbers is not None and self._take(kind, numbers)
            else:
                good = kind in (b"", b"torn")  # a batch that was not written whole was not accepted
            if not good:
                self.damaged += 1
                if len(self.damage) < _NAMED_MAX:
                    self.damage.append(as_damage(line))

    def _take(self, kind: bytes, numbers: list[int]) -> bool:
        if kind == b"+" and len(numbers) == 3:
            self.messages += 1
            self.recipients += numbers[2]
            if not self._forgetful:
                self.counts.setdefault((numbers[0], numbers[1]), []).append(numbers[2])
        elif kind == b"sums" and len(numbers) == 3:
            self.are_summed = True
            self.messages += numbers[0]
            self.recipients += numbers[1]
            self.damaged += numbers[2]
        else:
            return kind == b"through" and len(numbers) == 1
        return True

    def totals_lines(self) -> "Iterator[bytes]":
        """All of it for the totals."""
        yield b"sums %d %d %d" % (self.messages, self.recipients, self.damaged)
