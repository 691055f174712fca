"""Makes a failing schedule small: leaves out actions, then switches, as long as the same kind of violation remains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

from simulation.plan import Options, Plan
from simulation.run import play

MOST_TRIES = 3_000
_PLAIN = Options(percent_poison=0, percent_misplaced=0, percent_remove=0, percent_resend=0, percent_tick=0)


def shrink(plan: Plan, code: str) -> tuple[Plan, list[int]]:
    """Return a smaller plan that ends with the same code, and the indexes of the actions that it kept."""
    tries = 0

    def fails(indexes: list[int], options: Options) -> bool:
        nonlocal tries
        tries += 1
        if tries > MOST_TRIES:
            return False
        _, violation = play(replace(plan.keep(indexes), options=options))
        return violation is not None and violation.code == code

    kept = shrink_actions(list(range(len(plan.actions))), lambda indexes: fails(indexes, plan.options))
    options = _fewer_switches(plan.options, lambda options: fails(kept, options))
    kept = shrink_actions(kept, lambda indexes: fails(indexes, options))
    return replace(plan.keep(kept), options=options), kept


def shrink_actions(kept: list[int], fails: Callable[[list[int]], bool]) -> list[int]:
    """Leave out as many actions as still fail, first many at once, then one by one until none can be spared."""
    size = max(1, len(kept) // 2)
    while True:
        start, before = 0, len(kept)
        while start < len(kept):
            without = kept[:start] + kept[start + size :]
            if fails(without):
                kept = without
            else:
                start += size
        if size == 1 and len(kept) == before:
            return kept
        size = max(1, size // 2)


def _fewer_switches(options: Options, fails: Callable[[Options], bool]) -> Options:
    for field in fields(Options):
        plain = replace(options, **{field.name: getattr(_PLAIN, field.name)})
        if plain != options and fails(plain):
            options = plain
    return options
