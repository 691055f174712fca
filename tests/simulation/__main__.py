"""`python -m simulation`: plays schedules, replays one, makes one small. The last line of a run is JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import fields, replace

from simulation import product
from simulation.executors import make_actions, play_executors
from simulation.plan import Options, Plan, make_plan
from simulation.run import SOMETIMES_FROM, Tally, play, play_in_parallel
from simulation.shrink import shrink, shrink_actions


def main() -> int:
    """Do what the arguments say; return 1 if anything was violated."""
    arguments = _arguments()
    if arguments.replay is None and arguments.replay_executors is None:
        return _run(arguments.first, arguments.schedules, arguments.processes)
    with product.doubles():
        if arguments.replay_executors is not None:
            return _replay_executors(arguments)
        return _shrink(_plan(arguments)) if arguments.shrink else _replay(_plan(arguments))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m simulation", description="Simulated deployments with seeded faults."
    )
    parser.add_argument("--schedules", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first schedule")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--replay", type=int, metavar="SEED", help="play one schedule and tell its story")
    parser.add_argument("--replay-executors", type=int, metavar="SEED", help="the same for a schedule of executors")
    parser.add_argument("--shrink", action="store_true", help="with --replay: leave out what does not matter")
    parser.add_argument("--keep", help="with --replay: only these actions, as 3,7,9-14")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="with --replay: change an option"
    )
    return parser.parse_args()


# -- many


def _run(first: int, schedules: int, processes: int) -> int:
    started, whole = time.monotonic(), Tally()
    for tally in play_in_parallel(first, schedules, processes):
        whole.add(tally)
        for replay, text in tally.violations.items():
            print(f"{text[:500]}\n    python -m simulation {replay} --shrink", flush=True)
    never = whole.never_happened() if whole.schedules >= SOMETIMES_FROM else []
    if never:
        print(f"never happened in {whole.schedules} schedules: {', '.join(never)}")
    print(_summary(whole, time.monotonic() - started))
    line = {"schedules": whole.schedules, "faults": whole.faults, "violations": len(whole.violations)}
    print(json.dumps(line | ({"never_happened": never} if never else {})))
    return 1 if whole.violations or never else 0


def _summary(tally: Tally, seconds: float) -> str:
    def listed(counter: dict[str, int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))

    return (
        f"{tally.schedules} schedules in {seconds:.1f} s\n  commands: {listed(tally.words)}\n  faults: {listed(tally.counts)}\n"
        f"  crashes at named points: {listed(tally.hits)}"
    )


# -- one


def _plan(arguments: argparse.Namespace) -> Plan:
    plan = make_plan(arguments.replay)
    if arguments.keep is not None:
        plan = plan.keep(_indexes(arguments.keep))
    for text in arguments.set:
        name, _, value = text.partition("=")
        plan = replace(plan, options=replace(plan.options, **{name: json.loads(value)}))
    return plan


def _indexes(text: str) -> list[int]:
    ranges = [part.partition("-") for part in text.split(",") if part]
    return [index for low, _, high in ranges for index in range(int(low), int(high or low) + 1)]


def _ranges(indexes: list[int]) -> str:
    parts: list[list[int]] = []
    for index in indexes:
        if parts and parts[-1][-1] == index - 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _replay(plan: Plan) -> int:
    world, violation = play(plan, with_story=True)
    print("\n".join(world.story or ()))
    print(f"history {world.history()}\n{violation or 'no violation'}")
    return 1 if violation else 0


def _replay_executors(arguments: argparse.Namespace) -> int:
    seed = arguments.replay_executors
    actions = make_actions(seed)
    kept = _indexes(arguments.keep) if arguments.keep is not None else list(range(len(actions)))
    if arguments.shrink and (violation := play_executors(seed)[1]) is not None:
        kept = shrink_actions(kept, lambda some: _code_of(seed, some) == violation.code)
    world, violation = play_executors(seed, with_story=True, actions=tuple(actions[index] for index in kept))
    print("\n".join(world.story or ()))
    print(violation or "no violation")
    if arguments.shrink:
        print(f"python -m simulation --replay-executors {seed} --keep {_ranges(kept)}")
    return 1 if violation else 0


def _code_of(seed: int, kept: list[int]) -> str | None:
    actions = make_actions(seed)
    _, violation = play_executors(seed, actions=tuple(actions[index] for index in kept))
    return violation.code if violation else None


def _shrink(plan: Plan) -> int:
    _, violation = play(plan)
    if violation is None:
        print("no violation: there is nothing to make small")
        return 0
    small, kept = shrink(plan, violation.code)
    _replay(small)
    changed = [
        one.name for one in fields(Options) if getattr(small.options, one.name) != getattr(plan.options, one.name)
    ]
    switches = " ".join(f"--set {name}={json.dumps(getattr(small.options, name)).replace(' ', '')}" for name in changed)
    print(f"python -m simulation --replay {plan.seed} --keep {_ranges(kept)} {switches}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
