"""`python -m mutants`: puts each known mistake into the product and counts the schedules until the simulation notices it."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys

from mutants.registry import MUTANTS
from mutants.search import MOST_SCHEDULES, NOTICED_BY, first_seeds, search


def main() -> int:
    """Try every mutant; return 1 if one survives."""
    arguments = _arguments()
    names = arguments.names or [mutant.name for mutant in MUTANTS]
    seeds: dict[str, int] = {}
    tasks = [(name, arguments.schedules) for name in names]
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for name, schedules, text in pool.imap(search, tasks):
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


if __name__ == "__main__":
    sys.exit(main())
