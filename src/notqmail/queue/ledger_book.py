"""The ledger's arithmetic: what was read of the journals -> totals, and whether they balance. Reads no file.

For each message and recipient: accepted = delivered + bounced + discarded + waiting. What was delivered again
after a crash is counted apart, and so is what is in doubt and what cannot be explained: a sum that does not come out
is a bug, and a line that cannot be read is a fault, never a guess.
"""

from notqmail.queue.ledger_account import Account, Sums
from notqmail.queue.ledger_events import Events, Noted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Account", "Events", "Noted", "Sums", "Totals", "balance"]


class Totals(Sums):
    """What `notqmail ledger` shows. `faults` are sentences; empty means that it balances."""

    __slots__ = ("doubts", "faults", "foreign", "in_doubt", "interrupted", "waiting")

    def __init__(self, sums: Sums) -> None:
        self.faults: list[str] = []
        self.waiting = self.interrupted = self.foreign = 0
        self.in_doubt: list[tuple[Account, int, int]] = []  # account, recipient, attempts: of those that wait
        self.doubts: list[str] = []  # the same for people
        for name in Sums.__slots__:
            setattr(self, name, getattr(sums, name))


def balance(
    accepted: "Iterable[bytes]", events: Events, in_todo: "Mapping[int, int]", undone: "Mapping[int, int]",
    todo_recipients: "Mapping[int, int] | None" = None,
) -> Totals:  # fmt: skip
    """Adds up. `in_todo` is message number -> qp of what is in todo, `todo_recipients` number -> how many, `undone`
    number -> recipients waiting in S5.

    Messages whose beginning the journal does not have are left out.
    """
    noted, totals = Noted(), Totals(events.sums)
    noted.read(accepted)
    for account in events.accounts:
        totals.add(account)
        _settle(account, in_todo, undone, totals)
    _compare(noted, events, in_todo, todo_recipients or {}, totals)
    if totals.unexplained:
        totals.faults.append(
            f"{totals.unexplained} recipients of {totals.faulty} messages that ended long ago are unexplained"
        )
    for journal, damaged, named in (
        ("accepted", noted.damaged, noted.damage),
        ("ended", events.damaged, events.damage),
    ):
        if damaged:
            totals.faults.append(
                f"{damaged} lines of the journals in ledger/{journal} are damaged: what they said is not in the sums"
            )
            totals.faults += [f"ledger/{journal}: {one}" for one in named]
    return totals


def _settle(account: Account, in_todo: "Mapping[int, int]", undone: "Mapping[int, int]", totals: Totals) -> None:
    """Adds what still waits of one account, and says what does not come out."""
    left = account.left
    if account.ended:
        if left:
            totals.faults.append(f"message {account.number} (qp {account.qp}) ended with {left} recipients unexplained")
        return
    waiting = left if in_todo.get(account.number) == account.qp else undone.get(account.number)
    if waiting is None:
        totals.faults.append(f"message {account.number} (qp {account.qp}) is gone with {left} recipients unexplained")
        return
    totals.waiting += waiting
    totals.in_doubt += [(account, recipient, count) for recipient, count in (account.doubts or {}).items()]
    if waiting != left:
        totals.faults.append(f"message {account.number} (qp {account.qp}): {waiting} recipients wait, {left} should")


def _compare(
    noted: Noted, events: Events, in_todo: "Mapping[int, int]", todo_recipients: "Mapping[int, int]", totals: Totals
) -> None:
    """What the writers noted beside what qmail-send has seen. Messages that nobody has seen yet wait, or were
    interrupted before they were accepted. Of what is summed up only the difference is known.
    """
    seen = {(account.number, account.qp): account.recipients for account in events.accounts}
    are_summed = noted.are_summed or events.are_summed
    unseen = 0
    for number, qp in in_todo.items():
        counts = noted.counts.get((number, qp))
        if (number, qp) in seen or (counts is None and not are_summed):
            continue
        recipients = counts[-1] if counts is not None else todo_recipients.get(number, 0)
        unseen += 1
        totals.waiting += recipients
        totals.messages += 1
        totals.recipients += recipients
    for key, recipients in seen.items():
        if recipients not in noted.counts.get(key, (recipients,)):
            accepted = noted.counts[key][-1]
            totals.faults.append(
                f"message {key[0]} (qp {key[1]}) was accepted for {accepted} recipients, seen with {recipients}"
            )
    if are_summed:
        lacking = noted.messages - totals.messages
        totals.interrupted, totals.foreign = max(lacking, 0), max(-lacking, 0)
    else:
        totals.interrupted = sum(key not in seen for key in noted.counts) - unseen
        totals.foreign = len(seen.keys() - noted.counts.keys())
