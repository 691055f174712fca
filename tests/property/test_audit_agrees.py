"""The audit accuses no deployment that has healed, whatever had gone wrong in it; amid the faults it accuses nobody either.

The histories are the simulation's: zombies, lost stores, compaction, re-sent commands, records at which the fold raises, clocks that step back.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from simulation import product, run
from simulation.plan import make_plan
from simulation.worker import TOPIC_ID, Names
from simulation.world import World
from wait_for_me_app.audit import state
from wait_for_me_app.audit.findings import Report
from wait_for_me_app.audit.judge import Case, Log, conclude, judge_partition
from wait_for_me_app.core import fold

SCHEDULES = 150
AMID_SLICES = (1115,)
"""Here a worker dies between the rows of a slice and its watermark."""
NAMES = ("changelog", "fires", "commands_dead_letters", "commands")


def audited(world: World, settle_ms: int) -> Report:
    """Return what the audit says of a simulated deployment as it is now."""
    case = Case(
        topic_id=TOPIC_ID,
        partitions=world.options.partitions,
        names={
            **dict.fromkeys(("outcomes", "fires_dead_letters"), "-"),
            **{name: getattr(Names, name) for name in NAMES},
        },
        cut_ms=world.broker_now_ms,
        settle_ms=settle_ms,
        skew_ms=1 << 40,  # here the brokers' clock steps back at will
    )
    partitions = range(world.options.partitions)
    return conclude(case, [judge_partition(case, number, logs_of(world, number)) for number in partitions])


def logs_of(world: World, partition: int) -> dict[str, Log]:
    """Return the topics of one partition."""
    logs: dict[str, Any] = {name: world.logs[getattr(Names, name)][partition] for name in NAMES}
    return {name: Log(end=log.end, records=list(log.records)) for name, log in logs.items()}


@pytest.mark.timeout(300)
def test_what_has_healed_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every schedule's end, judged a second time by the audit with no grace at all."""
    judge, seen = run.judge, Counter[str]()

    def judge_twice(world: World) -> None:
        judge(world)
        report = audited(world, 0)
        assert report.findings == [], f"seed {world.seed}: {report.findings[:3]}"
        seen.update(fires=report.found, letters=report.dead_letters, rows=report.rows, copies=report.copies)

    monkeypatch.setattr(run, "judge", judge_twice)
    with product.doubles():
        for seed in range(SCHEDULES):
            run.play(make_plan(seed))
    assert min(seen[name] for name in ("fires", "letters", "rows", "copies")) > 0


@pytest.mark.interpreted
@pytest.mark.timeout(300)
def test_what_has_not_healed_yet_is_never_accused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right after the last fault, before anything is healed: all that is young is pending, and old rows are right or ignored."""
    judge, pending = run.judge, Counter[str]()

    def judge_before(world: World) -> None:
        monkeypatch.setattr(state, "INLINE_ARRIVALS", fold.INLINE_ARRIVALS)  # small here, so that small groups reach it
        report = audited(world, 1 << 40)
        assert report.findings == [], f"seed {world.seed}: {report.findings[:3]}"
        pending.update(pending=report.pending)
        judge(world)

    monkeypatch.setattr(run, "judge", judge_before)
    with product.doubles():
        for seed in (*range(SCHEDULES), *AMID_SLICES):
            run.play(make_plan(seed))
    assert pending["pending"] > 0
