"""Days of traffic and trouble in seconds: every rule holds, a seed replays exactly, and a broken system is noticed.

`make simulate SECONDS=600` runs more seeds; `python -m notqmail.testing.simulation --seed N` one of them.
"""

import os
import subprocess
import sys

import pytest
from broken import LEDGER_VARIANTS, VARIANTS, Breaking

from notqmail.queue import ledger
from notqmail.send import endings, loop, sender, todo
from notqmail.testing.simulation import __main__ as command
from notqmail.testing.simulation.run import Simulation

SEEDS = range(1, 17)
SEEDS_TO_NOTICE = 12


@pytest.mark.parametrize("seed", SEEDS)
def test_every_rule_holds_through_half_a_day_of_traffic_and_trouble(seed: int) -> None:
    one = Simulation(seed, days=0.5)
    held = one.run()
    last = "\n".join(list(one.clock.journal)[-40:])
    assert held, f"{last}\n{one.violation}\npython -m notqmail.testing.simulation --seed {seed} --days 0.5"
    assert one.account.counts["accepted"] > 0


def test_a_seed_gives_the_same_history_in_every_process() -> None:
    histories = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "notqmail.testing.simulation", "--seed", "3", "--days", "0.3"],
            capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )  # fmt: skip
        histories.add(done.stdout.rpartition("\n1 seeds")[0])
    assert len(histories) == 1
    assert "digest" in histories.pop()


@pytest.mark.parametrize("breaking", VARIANTS, ids=lambda breaking: breaking.__name__)
def test_a_broken_variant_is_noticed(breaking: Breaking, monkeypatch: pytest.MonkeyPatch) -> None:
    breaking(monkeypatch)
    for seed in range(1, SEEDS_TO_NOTICE + 1):
        one = Simulation(seed, days=0.5, per_day=300, faults_per_day=150)
        one.run()
        if one.violation is not None:
            assert one.violation.rule in VARIANTS[breaking], one.violation
            return
    raise AssertionError(f"nobody noticed in {SEEDS_TO_NOTICE} seeds")


@pytest.mark.parametrize("breaking", LEDGER_VARIANTS, ids=lambda breaking: breaking.__name__)
def test_a_ledger_that_does_not_know_what_may_have_come_twice_is_noticed(
    breaking: Breaking, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(seed: int) -> Simulation:
        one = Simulation(seed, days=0.5, per_day=300, faults_per_day=150)
        one.faults.spare_the_ledger()
        one.run()
        return one

    found = [run(seed).violation for seed in range(1, SEEDS_TO_NOTICE + 1)]
    assert found == [None] * SEEDS_TO_NOTICE, "as it is, it knows"
    breaking(monkeypatch)
    for seed in range(1, SEEDS_TO_NOTICE + 1):
        one = run(seed)
        if one.violation is not None:
            assert one.violation.rule == LEDGER_VARIANTS[breaking], one.violation
            return
    raise AssertionError(f"nobody noticed in {SEEDS_TO_NOTICE} seeds")


def test_a_violation_is_shown_with_its_history_and_how_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    breaking = next(variant for variant in VARIANTS if variant.__name__ == "ignore_concurrency")
    breaking(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["simulation", "--seed", "5", "--days", "1", "--last", "5"])
    assert command.main() == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[5].startswith("VIOLATION concurrency:")
    assert shown[6] == "repeat: python -m notqmail.testing.simulation --seed 5 --days 1"
    assert shown[7].startswith("seed 5:")


@pytest.mark.parametrize("seed", range(1, 5))
def test_every_rule_holds_where_every_limit_is_reached_at_once(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thresholds that take thousands of messages, made small."""
    for module, name, value in (
        (todo, "DIRECT_MAX", 5), (todo, "BATCH_MAX", 3), (todo, "_MANY", 1), (sender, "_FRESH_MAX", 2),
        (endings, "_ENDED_MAX", 2), (loop, "_CLEAN_A_TURN", 5), (ledger, "JOURNAL_MAX", 4_000),
    ):  # fmt: skip
        assert isinstance(getattr(module, name), int)
        monkeypatch.setattr(module, name, value)
    one = Simulation(seed, days=0.3, per_day=600, faults_per_day=150)
    assert one.run(), one.violation
