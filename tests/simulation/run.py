"""Runs schedules, in several processes if told so, and says what came of them."""

from __future__ import annotations

import gc
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from simulation import product
from simulation.executors import POINTS, Executors, play_executors
from simulation.plan import Plan, make_plan
from simulation.verdicts import judge
from simulation.world import WORKER_POINTS, Violation, World, make_world

SOMETIMES_FROM: Final = 2_000
"""In so many schedules everything that can happen must have happened."""
SOMETIMES: Final = (
    ("complete", "timeout", "removed", "late", "duplicate", "refresh", "rejected", "rerouted", "tick", "done", "dead"),
    (
        "kill", "zombie", "rebalance", "take_over_cancelled", "request_failed", "late_request", "store_lost", "store_older",
        "store_too_old", "compaction", "hours_pass", "worker_clock_jumps", "broker_clock_steps", "offset_hole", "poison",
        "misplaced", "duplicate", "raises", "standby_stops", "lease_lost", "standstill", "killed_by_callback", "fire_copied",
        "garbage", "stopped",
    ),
)  # fmt: skip
EXECUTORS_EVERY: Final = 40
"""One schedule of executors to so many of workers."""
_CHUNK: Final = 250


@dataclass(kw_only=True)
class Tally:
    """What many schedules have met."""

    schedules: int = 0
    seeds: int = 0
    """How many seeds have been played; some have a schedule of executors besides their own."""
    counts: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    violations: dict[str, str] = field(default_factory=dict)
    """What was violated, by the arguments that play it again."""

    @property
    def faults(self) -> int:
        """How many things went wrong, crashes at named points included."""
        return self.counts.total() + self.hits.total()

    def take(self, world: World | Executors, violation: Violation | None) -> None:
        """Add one schedule."""
        self.schedules += 1
        self.counts += world.counts
        self.words += world.words
        self.hits += world.hits
        if violation is not None:
            name = "--replay" if isinstance(world, World) else "--replay-executors"
            self.violations[f"{name} {world.seed}"] = str(violation)

    def add(self, other: Tally) -> None:
        """Add many schedules."""
        self.schedules += other.schedules
        self.counts += other.counts
        self.words += other.words
        self.hits += other.hits
        self.violations |= other.violations

    def never_happened(self) -> list[str]:
        """Name what should have happened at least once: a quiet simulation is a broken one."""
        words, faults = SOMETIMES
        missing = [word for word in words if not self.words[word]]
        missing += [fault for fault in faults if not self.counts[fault]]
        return missing + [point for point in (*WORKER_POINTS, *POINTS) if not self.hits[point]]


def play(plan: Plan, *, with_story: bool = False) -> tuple[World, Violation | None]:
    """Apply a plan and judge it; `product.doubles()` must be in place."""
    world = make_world(plan, with_story=with_story)
    try:
        world.run()
        judge(world)
    except Violation as violation:
        return world, violation
    else:
        return world, None
    finally:
        world.close()


def play_seeds(first: int, count: int, *, stop_at: int = 1_000_000) -> Tally:
    """Play these seeds of workers, and of executors in between; stop after so many violations."""
    tally = Tally()
    for seed in range(first, first + count):
        tally.seeds += 1
        if tally.seeds % _CHUNK == 0:
            gc.collect()  # it is off while schedules are played
        tally.take(*play(make_plan(seed)))
        if seed % EXECUTORS_EVERY == 0:
            tally.take(*play_executors(seed // EXECUTORS_EVERY))
        if len(tally.violations) >= stop_at:
            break
    return tally


def play_in_parallel(first: int, count: int, processes: int, *, stop_at: int = 20) -> Iterator[Tally]:
    """Play seeds in several processes and yield tallies as they come, until there are so many violations."""
    chunks = [(start, min(_CHUNK, first + count - start)) for start in range(first, first + count, _CHUNK)]
    violations = 0
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for tally in pool.imap_unordered(_play_chunk, chunks):
            yield tally
            violations += len(tally.violations)
            if violations >= stop_at:
                return


def _play_chunk(chunk: tuple[int, int]) -> Tally:
    with product.doubles():
        return play_seeds(*chunk)
