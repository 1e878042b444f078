"""Words that the subcommands of notqmail(8) share."""

import pytest

from notqmail.admin.command_line import counted
from notqmail.admin.ledger import as_text
from notqmail.queue.ledger_account import Sums
from notqmail.queue.ledger_book import Totals


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("message",), "0 messages"),
        (1, ("message",), "1 message"),
        (2, ("message",), "2 messages"),
        (1, ("fault is", "faults are"), "1 fault is"),
        (2, ("fault is", "faults are"), "2 faults are"),
    ],
)
def test_a_count_and_its_noun(count: int, words: tuple[str, ...], text: str) -> None:
    assert counted(count, *words) == text


def test_one_message_is_one_in_the_ledger_too() -> None:
    totals = Totals(Sums())
    totals.recipients = totals.messages = 1
    assert as_text(totals).startswith("accepted             1 recipient of 1 message\n")
