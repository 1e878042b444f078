"""Every fuzz target, a bounded part: its kept corpus, and the same inputs from chance on every machine.

`make fuzz SECONDS=600` goes on from here with inputs that nobody has seen.
"""

import random

import fuzz_adopt
import fuzz_commands
import fuzz_fetch
import fuzz_files
import fuzz_filters
import fuzz_ledger
import fuzz_qmtp
import fuzz_queue
import fuzz_sessions
import fuzz_wide
import fuzz_wire
import pytest
from fuzz_driver import CORPUS, TARGETS, mutated, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TARGET_MODULES = (
    fuzz_adopt,
    fuzz_commands,
    fuzz_fetch,
    fuzz_files,
    fuzz_filters,
    fuzz_ledger,
    fuzz_qmtp,
    fuzz_queue,
    fuzz_sessions,
    fuzz_wide,
    fuzz_wire,
)
HYPOTHESIS_INPUTS = 40  # a target; more only where it is worth the time: that is what `make fuzz` is for
MUTATED_INPUTS = 120


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_kept_corpus_does_no_harm(name: str) -> None:
    inputs = TARGETS[name].corpus()
    assert inputs, "each target begins with something that is nearly right"
    for data in [*inputs, b"", *TARGETS[name].words]:
        run(TARGETS[name], data)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_nothing_that_chance_finds_does_harm(name: str) -> None:
    one = TARGETS[name]

    @settings(max_examples=HYPOTHESIS_INPUTS, derandomize=True, database=None, deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.lists(st.one_of(st.sampled_from([*one.words, *one.corpus()]), st.binary(max_size=8)), max_size=12))
    def check(pieces: list[bytes]) -> None:
        run(one, b"".join(pieces))

    check()


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_nothing_near_the_corpus_does_harm(name: str) -> None:
    one, chance = TARGETS[name], random.Random(name)
    pool = one.corpus()
    for _ in range(MUTATED_INPUTS):
        run(one, mutated(chance, one, pool))


def test_each_corpus_belongs_to_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
