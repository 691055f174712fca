"""Looks for the schedule that notices a mutant. In a module of its own, since a pool that spawns cannot find what `__main__` defines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from mutants.registry import by_name
from simulation import product
from simulation.run import play_seeds

MOST_SCHEDULES: Final = 20_000
NOTICED_BY: Final = Path(__file__).parent / "noticed_by.json"
"""The seed that noticed each mutant last time, so that the tests need not search."""
_CHUNK: Final = 100


def first_seeds() -> dict[str, int]:
    """Return the seed that noticed each mutant last time."""
    return dict(json.loads(NOTICED_BY.read_text())) if NOTICED_BY.exists() else {}


def search(task: tuple[str, int]) -> tuple[str, int, str | None]:
    """Look from seed 0 on, then at the seed that noticed it last time: some mistakes show in one schedule of a million."""
    name, schedules = task
    tried, text = schedules_until_noticed(name, schedules)
    seed = first_seeds().get(name, 0)
    if text is None and seed >= schedules:
        text = schedules_until_noticed(name, 0, first=seed)[1]
        tried = seed + 1
    return name, tried, text


def schedules_until_noticed(name: str, at_most: int, first: int | None = None) -> tuple[int, str | None]:
    """Return how many schedules it took until something was violated, and what; None if nothing was.

    `first` is a seed to try before all others.
    """
    with by_name(name).applied(), product.doubles():
        if first is not None and (violations := play_seeds(first, 1).violations):
            return 1, next(iter(violations.values()))
        for start in range(0, at_most, _CHUNK):
            tally = play_seeds(start, min(_CHUNK, at_most - start), stop_at=1)
            if tally.violations:
                return start + tally.seeds, next(iter(tally.violations.values()))
    return at_most, None
