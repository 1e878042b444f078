"""What qmail-remote printed and how it ended -> the one report qmail-send gets for a recipient (qmail-rspawn(8)). Pure.

The letters rank D < Z < K. The message report speaks for the recipient unless the recipient's own record was worse;
then that record's text comes first, and the message report's only if it is no better than the recipient's.
"""

from notqmail.wire.reports import PERMANENT, SUCCESS, TEMPORARY, Report, permanent, temporary
from notqmail.wire.smtp_client import ACCEPTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from notqmail.unix.processes import Ended
    from notqmail.wire.smtp_client import Outcome

CRASHED = temporary(b"qmail-remote crashed.\n")
UNABLE = temporary(b"Unable to run qmail-remote.\n")
UNABLE_EVER = permanent(b"Unable to run qmail-remote.\n")
NO_OUTPUT = temporary(b"qmail-remote produced no output.\n")

_RANK = {PERMANENT: -1, TEMPORARY: 0, SUCCESS: 1}
_RECIPIENT_KIND = {b"s": TEMPORARY, b"h": PERMANENT}
_NOT_STARTED = (111, 120, 126, 127)  # 126 and 127: how a shell or env(1) says that it could not run a program


def report_for_end(ended: "Ended", output: bytes) -> Report:
    """The report after a run of a qmail-remote that may not be ours."""
    if ended.crashed:
        return CRASHED
    if ended.code in _NOT_STARTED:
        return UNABLE
    if ended.code:
        return UNABLE_EVER
    return combine_records(output)


def combine_records(output: bytes) -> Report:
    """The report from the records of a run that ended well. What has no NUL behind it is not a record.

    Without a message report nobody has said what became of the message: temporary (C says permanent).
    """
    if not output:
        return NO_OUTPUT
    records = output.split(b"\0")[:-1]
    message = next((record[:1] for record in records if record[:1] in _RANK), TEMPORARY)
    if not records:
        return temporary(b"")
    kind = _RECIPIENT_KIND.get(records[0][:1], message)
    text = records[0][1:]
    if _RANK[message] <= _RANK[kind] and len(records) > 1 and records[1][:1] in _RANK:
        text += records[1][1:]
    return Report(kind, text)


def reports_of(outcome: "Outcome", recipients: int) -> "Sequence[Report]":
    """What our own client's outcome says to each of so many recipients: what it would say to that one alone."""
    answered = len(outcome.records) - outcome.unanswered
    found = []
    for at, (letter, text) in enumerate(outcome.records):
        kind = _RECIPIENT_KIND.get(letter)
        last_words = outcome.last_words if at < answered else b""
        found.append(outcome.report if kind is None else Report(kind, text + last_words))
    return found + [outcome.report] * (recipients - len(found))


def refused_at_the_end(outcome: "Outcome") -> "Sequence[int]":
    """Who was refused (by number) after the last one that was accepted: perhaps only because so many came before.

    Servers say "too many" in many ways (452, 552, 550, 571 ...), so it shows only when they are asked again, in a
    transaction of their own.
    """
    accepted = [number for number, (letter, _) in enumerate(outcome.records) if letter == ACCEPTED]
    return range(accepted[-1] + 1, len(outcome.records)) if accepted else ()
