"""`python -m mutants`: puts each known mistake into the product and counts the schedules until the simulation notices it."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Final

from mutants.registry import MUTANTS, by_name
from simulation import product
from simulation.run import play_seeds

MOST_SCHEDULES: Final = 20_000
NOTICED_BY: Final = Path(__file__).parent / "noticed_by.json"
"""The seed that noticed each mutant last time, so that the tests need not search."""
_CHUNK: Final = 100


def main() -> int:
    """Try every mutant; return 1 if one survives."""
    arguments = _arguments()
    names = arguments.names or [mutant.name for mutant in MUTANTS]
    seeds: dict[str, int] = {}
    tasks = [(name, arguments.schedules) for name in names]
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for name, schedules, text in pool.imap(_try, tasks):
            print(f"{name:38} {f'{schedules:6} schedules, {text[:60]}' if text else 'SURVIVES'}", flush=True)
            if text is not None:
                seeds[name] = schedules - 1
    if arguments.record:
        NOTICED_BY.write_text(json.dumps({**first_seeds(), **seeds}, indent=1, sort_keys=True) + "\n")
    survivors = [name for name in names if name not in seeds]
    print(json.dumps({"mutants": len(names), "killed": len(seeds), "survivors": survivors}))
    return 1 if survivors else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m mutants", description="Known mistakes that the simulation must notice."
    )
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--schedules", type=int, default=MOST_SCHEDULES, help="give up after so many for each")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--record", action="store_true", help="write down which seeds noticed them")
    return parser.parse_args()


def first_seeds() -> dict[str, int]:
    """Return the seed that noticed each mutant last time."""
    return dict(json.loads(NOTICED_BY.read_text())) if NOTICED_BY.exists() else {}


def _try(task: tuple[str, int]) -> tuple[str, int, str | None]:
    name, schedules = task
    return name, *schedules_until_noticed(name, schedules)


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


if __name__ == "__main__":
    sys.exit(main())
