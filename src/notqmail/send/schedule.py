"""When a message is tried again: qmail-send's quadratic schedule, in whole seconds as in C, so interop is exact."""

import math

from notqmail.queue.store import LOCAL, REMOTE

RETRY_SKIP = {LOCAL: 10, REMOTE: 20}
TROUBLE_S = 123  # after trouble with the queue's own files
TODO_S = 1_500  # a look into todo without the trigger
CLEANUP_S = 76_431  # between two walks through mess
FOREVER_S = 86_400  # the longest wait
FUZZ_S = 1  # so that what is due at a second is due when we wake


def next_retry_s(birth_s: int, now_s: int, channel: bytes) -> int:
    """When to try next, decided when a pass begins: (isqrt(age) + skip) squared after the birth.

    From birth: local 100, 400, 900 ... s, remote 400, 1600, 3600 ... s.
    """
    step = math.isqrt(max(0, now_s - birth_s)) + RETRY_SKIP[channel]
    return birth_s + step * step


def is_dying(birth_s: int, now_s: int, lifetime_s: int) -> bool:
    """Whether this pass is the last: the first one after the lifetime, whose deferrals become failures."""
    return now_s > birth_s + lifetime_s
