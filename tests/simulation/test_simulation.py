"""Simulated deployments heal to what the log says, whatever goes wrong; and the simulation itself is repeatable and not blind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mutants.registry import by_name
from simulation import product
from simulation.plan import make_plan
from simulation.run import Tally, play, play_in_parallel, play_seeds
from simulation.shrink import shrink

SCHEDULES = int(os.environ.get("WAIT_FOR_ME_TEST_SCHEDULES", "20000"))
TESTS = Path(__file__).parent.parent

HASH_OF_HISTORIES = """
from simulation import product
from simulation.executors import play_executors
from simulation.plan import make_plan
from simulation.run import play
with product.doubles():
    for seed in range(60):
        print(play(make_plan(seed))[0].history())
    for seed in range(10):
        print(play_executors(seed)[0].history())
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_schedule_loses_doubles_or_hastens_a_fire() -> None:
    """Thousands of deployments, each with its own faults, all end as the reference says; and every fault has happened."""
    whole = Tally()
    for tally in play_in_parallel(0, SCHEDULES, os.cpu_count() or 1):
        whole.add(tally)
    replays = [f"{text[:200]}\n    python -m simulation {how} --shrink" for how, text in whole.violations.items()]
    assert not whole.violations, "\n".join(replays)
    assert whole.schedules >= SCHEDULES
    assert SCHEDULES < 2_000 or whole.never_happened() == []


def test_a_seed_has_the_same_history_in_another_process() -> None:
    """Neither the order of a set nor anything else of a process has a say, so a failing seed fails everywhere."""
    histories = {_histories(hash_seed) for hash_seed in ("1", "2")}
    assert len(histories) == 1


def _histories(hash_seed: str) -> str:
    path = os.pathsep.join([str(TESTS), *sys.path])
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
    command = [sys.executable, "-c", HASH_OF_HISTORIES]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_a_failing_schedule_becomes_small() -> None:
    """What is left after shrinking still fails in the same way, and none of its actions can be spared."""
    with by_name("watermark_before_rows").applied(), product.doubles():
        seed = next(seed for seed in range(500) if play(make_plan(seed))[1] is not None)
        plan = make_plan(seed)
        _, violation = play(plan)
        assert violation is not None
        small, kept = shrink(plan, violation.code)
        _, again = play(small)
        without_one = [play(small.keep([*range(at), *range(at + 1, len(kept))]))[1] for at in range(len(kept))]
    assert again is not None
    assert again.code == violation.code
    assert len(kept) < len(plan.actions)
    assert violation.code not in [less.code for less in without_one if less is not None]


def test_a_quiet_simulation_is_reported() -> None:
    """A run in which something never happened says so, because a fault that is never injected proves nothing."""
    with product.doubles():
        tally = play_seeds(0, 1)
    assert "K9" in tally.never_happened()
    assert "dead" in Tally().never_happened()


def test_the_product_is_as_before_when_the_doubles_have_gone() -> None:
    """Doubles and limits are taken out again, so other tests in this process meet the real ones."""
    from wait_for_me_app import lane, lanes, restore
    from wait_for_me_app.core import fold

    before = (lane.asyncio, lanes.Lane, restore.Consumer, fold.Fold.apply, fold.INLINE_ARRIVALS, restore.BATCH_RECORDS)
    with product.doubles():
        play(make_plan(1))
        assert restore.Consumer is not before[2]
    assert before == (
        lane.asyncio,
        lanes.Lane,
        restore.Consumer,
        fold.Fold.apply,
        fold.INLINE_ARRIVALS,
        restore.BATCH_RECORDS,
    )
