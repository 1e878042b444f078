"""`notqmail ledger`: does the sum come out? Reads the journals and the queue; changes nothing.

A running system moves while we read, so a fault is believed only when it stands, word for word, in each of a few
looks. A message that is really lost does not move.
"""

import os
import time
from collections.abc import Callable

from notqmail.admin.command_line import counted, noun
from notqmail.message.log_text import log_text
from notqmail.queue.layout import queue_directory
from notqmail.queue.ledger import ACCEPTED, ENDED, channel_and_offset, journal_lines
from notqmail.queue.ledger_book import Account, Events, Totals, balance
from notqmail.queue.store import BadRecord, QueueStore
from notqmail.unix.durable import Disk

LOOKS = 4
PAUSE_S = 0.5
IN_DOUBT_SHOWN_MAX = 20


class NoLedger(Exception):
    """This home keeps none; str() says what to do."""


def look(home: bytes) -> Totals:
    """One look. Raises NoLedger, OSError."""
    return look_at(Disk(queue_directory(home)), home)


def look_at(disk: Disk, home: bytes) -> Totals:
    """The same, at the queue on this disk."""
    store = QueueStore(disk)
    if not store.ledger.kept:
        raise NoLedger(f"{os.fsdecode(home)} keeps no ledger: `notqmail init {os.fsdecode(home)}` begins one")
    events = Events()
    events.read(journal_lines(disk, ENDED))
    accepted = journal_lines(disk, ACCEPTED)
    in_todo: dict[int, int] = {}
    todo_recipients: dict[int, int] = {}
    for number in store.accepted_numbers():
        try:
            found = store.read_accepted(number)
        except (OSError, BadRecord):
            continue  # it has just been preprocessed, or is damaged: then its account says so
        in_todo[number], todo_recipients[number] = found.pid, len(found.recipients)
    undone = {}
    for number in events.living:
        count = store.undone(number)
        if count is not None:
            undone[number] = count
    totals = balance(accepted, events, in_todo, undone, todo_recipients)
    totals.doubts = [in_doubt_line(store, *one) for one in totals.in_doubt[:IN_DOUBT_SHOWN_MAX]]
    return totals


def in_doubt_line(store: QueueStore, account: Account, recipient: int, attempts: int) -> str:
    """Who waits in doubt, with the address where the queue still has it."""
    channel, offset = channel_and_offset(recipient)
    try:
        record = store.recipients(account.number, channel)[offset:].partition(b"\0")[0]
        shown = log_text(record[1:]).decode()
    except OSError:
        shown = f"{os.fsdecode(channel)} recipient at {offset}"
    return f"msg {account.number} (qp {account.qp}) to {shown}: {counted(attempts, 'attempt')} in doubt"


def steady_look(home: bytes, pause: Callable[[float], None] = time.sleep) -> Totals:
    """The last of a few looks, with those faults only that all of them had. Raises NoLedger, OSError."""
    totals = look(home)
    for _ in range(LOOKS - 1):
        if not totals.faults:
            break
        pause(PAUSE_S)
        again = look(home)
        again.faults = [fault for fault in again.faults if fault in totals.faults]
        totals = again
    return totals


def as_text(totals: Totals) -> str:
    """The account, for people."""
    accepted, attempts = noun(totals.recipients, "recipient"), noun(totals.doubtful, "attempt")
    doubted = counted(totals.doubted, "recipient")
    lines = [
        f"accepted    {totals.recipients:>10} {accepted} of {counted(totals.messages, 'message')}",
        f"delivered   {totals.delivered:>10}",
        f"bounced     {totals.bounced:>10}   failed for good, the sender was told",
        f"discarded   {totals.discarded:>10}   failed for good, nobody left to tell (triple bounces)",
        f"waiting     {totals.waiting:>10}",
    ]
    notes = [
        (totals.repeated, "delivered more than once (a crash between a delivery and its mark)"),
        (totals.maybe_twice, "under way at a crash: perhaps delivered twice"),
        (
            totals.doubtful,
            f"{attempts} in doubt (nobody knows whether it arrived), for {doubted}",
        ),
        (totals.maybe_again, "delivered after an attempt in doubt: perhaps twice"),
        (totals.failed_in_doubt, "failed after an attempt in doubt: the sender was told, perhaps it did arrive"),
        (totals.interrupted, noun(totals.interrupted, "message") + " interrupted before acceptance"),
        (totals.foreign, noun(totals.foreign, "message") + " accepted by programs that keep no ledger"),
    ]
    lines += [f"{count:>22}   {text}" for count, text in notes if count]
    lines += [f"in doubt: {line}" for line in totals.doubts]
    if len(totals.in_doubt) > len(totals.doubts):
        lines.append(f"in doubt: {len(totals.in_doubt) - len(totals.doubts)} more")
    lines += [f"FAULT: {fault}" for fault in totals.faults]
    lines.append("The ledger balances." if not totals.faults else "The ledger does NOT balance: please report this.")
    return "\n".join(lines)
