"""A schedule as a list of small numbers, made from a seed: what is switched on, and what happens in which order.

Each action carries its own numbers, by which it chooses among what is possible at that moment; one that finds nothing to choose
from does nothing. So actions can be left out and the rest still means something, which is what makes a failing schedule shrink.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Final

Action = tuple[str, int, int]
"""What happens, and two numbers to choose by."""

STEPS: Final = {"go": 46, "send": 16, "fetch": 14, "time": 9, "sweep": 6, "look": 2, "check": 1}
"""What happens in a healthy deployment, by weight."""

FAULTS: Final = {
    "kill": 2,
    "arm": 6,
    "restart": 4,
    "rebalance": 1,
    "zombie": 4,
    "wake": 3,
    "fail": 2,
    "compact": 1,
    "quiet": 2,
    "clock": 1,
    "broker_clock": 1,
    "tail": 2,
    "hole": 1,
}
"""What goes wrong, by weight; a schedule has some of them, and more of some than of others."""

ALWAYS: Final = frozenset({"restart", "rebalance", "wake", "quiet"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is switched on in one schedule."""

    partitions: int = 2
    workers: int = 2
    standby: bool = False
    groups: tuple[int, ...] = (0, 1, 2)
    profiles: tuple[int, ...] = (0, 1, 2)
    participants: int = 4
    batch_bytes: int = 1 << 20
    """Where the outlet begins a new batch."""
    run_records: int = 4096
    hot_rows: int = 8192
    closings_a_slice: int = 1500
    deletions_a_run: int = 2000
    inline_arrivals: int = 8
    restore_records: int = 10_000
    percent_poison: int = 2
    percent_misplaced: int = 5
    percent_remove: int = 6
    percent_resend: int = 8
    percent_tick: int = 2
    percent_raises: int = 0
    clock_rates: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One schedule."""

    seed: int
    options: Options
    actions: tuple[Action, ...]

    def keep(self, indexes: list[int]) -> Plan:
        """Return the plan with these actions only."""
        return replace(self, actions=tuple(self.actions[index] for index in indexes))


SHORT: Final = (30, 65)
LONG: Final = (150, 300)
"""How many actions there are. Most schedules are short, for their number; every fifth is long, for what takes many steps to go wrong."""


LAST_WORDS: Final = ("send", "send", "fetch", "fetch", "fetch", "go", "go", "zombie", "work")
"""An end at which a worker that was left out has the last word: its successor has nothing more to write."""


def make_plan(seed: int) -> Plan:
    """Return the schedule of a seed; the same for ever, on every machine."""
    random = Random(f"wait-for-me {seed}")
    weights = dict(STEPS)
    for name, weight in FAULTS.items():
        if name in ALWAYS or random.random() < 0.6:
            weights[name] = weight * random.choice((1, 1, 1, 3))
    names: list[str] = random.choices(
        list(weights), list(weights.values()), k=random.randint(*(LONG if random.random() < 0.2 else SHORT))
    )
    bits = random.getrandbits
    if random.random() < 0.25:
        names += LAST_WORDS
    return Plan(seed=seed, options=_options(random), actions=tuple((name, bits(24), bits(24)) for name in names))


def _options(random: Random) -> Options:
    choice = random.choice
    return Options(
        partitions=choice((1, 2, 2, 3)),
        workers=choice((1, 2, 2, 3)),
        standby=choice((False, False, True)),
        groups=tuple(random.sample(range(8), random.randint(1, 5))),
        profiles=tuple(random.sample(range(14), random.randint(1, 5))),
        participants=choice((3, 4, 5, 12)),
        batch_bytes=choice((1, 300, 300, 600, 1 << 20)),
        run_records=choice((1, 2, 3, 5, 4096)),
        hot_rows=choice((1, 2, 8192)),
        closings_a_slice=choice((1, 2, 1500)),
        deletions_a_run=choice((1, 3, 2000)),
        inline_arrivals=choice((1, 2, 8)),
        restore_records=choice((1, 2, 10_000)),
        percent_poison=choice((0, 2, 10)),
        percent_misplaced=choice((0, 4, 15)),
        percent_remove=choice((0, 6, 15)),
        percent_resend=choice((0, 8, 25)),
        percent_tick=choice((0, 2, 10)),
        percent_raises=choice((0, 0, 0, 3)),
        clock_rates=choice(((1.0,), (1.0,), (0.9, 1.0, 1.2))),
    )
