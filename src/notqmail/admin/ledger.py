"""`notqmail ledger`: does the sum come out? Reads the journals and the queue; changes nothing.

A running system moves while we read, so a fault is believed only when it stands, word for word, in each of a few
looks. A message that is really lost does not move.
"""

import os
import time
from collections.abc import Callable

from notqmail.queue.layout import queue_directory
from notqmail.queue.ledger import ACCEPTED, ENDED, journal_lines
from notqmail.queue.ledger_book import Events, Totals, balance
from notqmail.queue.store import BadRecord, QueueStore
from notqmail.unix.durable import Disk

LOOKS = 4
PAUSE_S = 0.5


class NoLedger(Exception):
    """This home keeps none; str() says what to do."""


def look(home: bytes) -> Totals:
    """One look. Raises NoLedger, OSError."""
    disk = Disk(queue_directory(home))
    store = QueueStore(disk)
    if not store.ledger.kept:
        raise NoLedger(f"{os.fsdecode(home)} keeps no ledger: `notqmail init {os.fsdecode(home)}` begins one")
    events = Events()
    events.read(journal_lines(disk, ENDED))
    accepted = journal_lines(disk, ACCEPTED)
    in_todo: dict[int, int] = {}
    for number in store.accepted_numbers():
        try:
            in_todo[number] = store.read_accepted(number).pid
        except (OSError, BadRecord):
            continue  # it has just been preprocessed, or is damaged: then its account says so
    undone = {}
    for number in events.living:
        count = store.undone(number)
        if count is not None:
            undone[number] = count
    return balance(accepted, events, in_todo, undone)


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
    lines = [
        f"accepted    {totals.recipients:>10} recipients of {totals.messages} messages",
        f"delivered   {totals.delivered:>10}",
        f"bounced     {totals.bounced:>10}   failed for good, the sender was told",
        f"discarded   {totals.discarded:>10}   failed for good, nobody left to tell (triple bounces)",
        f"waiting     {totals.waiting:>10}",
    ]
    notes = [
        (totals.repeated, "delivered more than once (a crash between a delivery and its mark)"),
        (totals.maybe_twice, "under way at a crash of qmail-send: perhaps delivered twice"),
        (totals.doubtful, "attempts in doubt (connection lost after the final dot), tried again"),
        (totals.interrupted, "messages interrupted before they were accepted"),
        (totals.foreign, "messages accepted by programs that keep no ledger"),
    ]
    lines += [f"{count:>22}   {text}" for count, text in notes if count]
    lines += [f"FAULT: {fault}" for fault in totals.faults]
    lines.append("The ledger balances." if not totals.faults else "The ledger does NOT balance: please report this.")
    return "\n".join(lines)
