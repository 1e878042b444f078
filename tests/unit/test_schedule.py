"""When mail is tried again (qmail-send(8)), and which try is the last."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notqmail.queue.store import LOCAL, REMOTE
from notqmail.send.schedule import is_dying, next_retry_s

BIRTH_S = 1_795_000_000


@pytest.mark.parametrize(
    ("channel", "times"),
    [
        (LOCAL, [100, 400, 900, 1_600, 2_500, 3_600]),
        (REMOTE, [400, 1_600, 3_600, 6_400, 10_000, 14_400]),
    ],
)
def test_mail_that_is_tried_on_time_follows_the_squares(channel: bytes, times: list[int]) -> None:
    age_s = 0
    for expected_s in times:
        assert next_retry_s(BIRTH_S, BIRTH_S + age_s, channel) == BIRTH_S + expected_s
        age_s = expected_s


@pytest.mark.parametrize(
    ("channel", "age_s", "next_s"),
    [
        (LOCAL, 121, 441), (REMOTE, 121, 961),  # seen on C: 21 and 31 squared
        (LOCAL, 120, 400), (LOCAL, 0, 100), (LOCAL, 1, 121), (LOCAL, 3, 121), (LOCAL, 4, 144),
        (REMOTE, 86_400, 97_969),  # a day old: isqrt 293, then 313 squared
        (LOCAL, -5, 100), (REMOTE, -1_000_000, 400),  # born in the future: the clock was set back
        (LOCAL, 4_000_000_000, 63_255**2),
    ],
)  # fmt: skip
def test_the_next_try_depends_on_the_age_when_the_pass_begins(channel: bytes, age_s: int, next_s: int) -> None:
    assert next_retry_s(BIRTH_S, BIRTH_S + age_s, channel) == BIRTH_S + next_s


@given(st.integers(0, 10**9), st.sampled_from([LOCAL, REMOTE]))
def test_the_next_try_is_always_later(age_s: int, channel: bytes) -> None:
    assert next_retry_s(0, age_s, channel) > age_s


@pytest.mark.parametrize(("age_s", "dying"), [(0, False), (604_800, False), (604_801, True), (608_400, True)])
def test_the_last_try_is_the_first_after_the_lifetime(age_s: int, dying: bool) -> None:
    assert is_dying(BIRTH_S, BIRTH_S + age_s, 604_800) == dying


@pytest.mark.parametrize("channel", [LOCAL, REMOTE])
def test_by_default_both_channels_give_up_after_a_week_and_an_hour(channel: bytes) -> None:
    age_s = 0
    while not is_dying(0, age_s, 604_800):
        age_s = next_retry_s(0, age_s, channel)
    assert age_s == 608_400
