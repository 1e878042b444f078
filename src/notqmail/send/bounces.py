"""Telling the sender: one bounce for all failures of a message, when nothing of it is left to try."""

from notqmail.message.bounce_text import bounce_head, bounce_middle
from notqmail.message.verp import bounce_envelope

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from notqmail.queue.client import Submission
    from notqmail.queue.store import QueueStore
    from notqmail.send.log import Log
    from notqmail.unix.clock import Clock


class Bouncer:
    """Makes bounces and queues them. `open_submission` begins a message (queue/client.py)."""

    def __init__(
        self, store: "QueueStore", log: "Log", clock: "Clock", open_submission: "Callable[[], Submission]", *,
        bounce_from: bytes, bounce_host: bytes, double_bounce_recipient: bytes,
    ) -> None:  # fmt: skip
        self._store, self._log, self._clock, self._open = store, log, clock, open_submission
        self._from, self._host, self._double = bounce_from, bounce_host, double_bounce_recipient

    def bounce_if_needed(self, number: int) -> bool:
        """Whether the message's failures, if any, are dealt with; False: try again later (it is logged).

        Raises OSError when the queue cannot be read.
        """
        if not self._store.has_bounce(number):
            return True
        _birth, sender = self._store.birth_and_sender(number)
        envelope = bounce_envelope(sender, self._double)
        if envelope is None:
            self._log.line(b"triple bounce: discarding bounce/%d" % number)
            self._store.ledger.note(b"t %d" % number)
        elif not self._inject(number, sender, *envelope):
            return False
        self._store.bounce_done(number)
        return True

    def _inject(self, number: int, original_sender: bytes, sender: bytes, recipient: bytes) -> bool:
        try:
            submission = self._open()
        except OSError:
            self._log.warning(b"unable to start qmail-queue, will try later")
            return False
        try:
            submission.write(
                bounce_head(
                    now_s=self._clock.now_s(),
                    bounce_from=self._from,
                    bounce_host=self._host,
                    recipient=recipient,
                    original_sender=original_sender,
                )
            )
            for chunk in self._store.bounce_chunks(number):
                submission.write(chunk)
            submission.write(bounce_middle(original_sender))
            for chunk in self._store.message_chunks(number):
                submission.write(chunk)
        except OSError:
            submission.abandon()
            self._log.warning(b"trouble injecting bounce message, will try later")
            return False
        if not submission.close(sender, [recipient]).succeeded:
            self._log.warning(b"trouble injecting bounce message, will try later")
            return False
        self._log.line(b"bounce msg %d qp %d" % (number, submission.qp))
        return True
