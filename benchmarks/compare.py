"""Measures this project beside its peers, in turns, on one broker, in one session.

    python -m benchmarks.compare            all systems, three rounds: `make bench`
    python -m benchmarks.compare --quick    ourselves and Kafka Streams: `make bench-quick`

In each round every system gets topics of its own with the same commands, and another system begins; ratios are taken within a
round, because a machine's speed drifts. Exit code 1 if an answer was wrong or this project could not be measured.
"""

from __future__ import annotations

import argparse
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException

from benchmarks import plot
from benchmarks.broker import running_broker
from benchmarks.builds import Missing
from benchmarks.cluster import Cluster, TooSlow
from benchmarks.load import Load, LoadFailed
from benchmarks.place import RESULTS, say
from benchmarks.process import Died
from benchmarks.results import Comparison, table, write_json
from benchmarks.systems import ALL, KAFKA_STREAMS, OURS, System
from benchmarks.trial import PACE_PER_SECOND, Outcome, Trial
from benchmarks.verdict import WrongAnswer

_GROUP_SIZE: Final = 5


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured."""

    mode: str
    systems: tuple[System, ...]
    adds: int
    rounds: int
    latency_seconds: float
    output: Path

    def backlog(self, system: System) -> Load:
        """Return what a system has to drain."""
        return Load(name="group", groups=max(100, int(self.adds * system.load_share)) // _GROUP_SIZE)

    def paced(self) -> Load:
        """Return what it has to keep up with afterwards."""
        return Load(name="paced", groups=int(PACE_PER_SECOND * self.latency_seconds) // _GROUP_SIZE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; return the exit code."""
    plan = _plan(arguments)
    comparison, started = Comparison(mode=plan.mode), time.monotonic()
    _name_the_absent(plan, comparison)
    try:
        _measure(plan, comparison)
    except WrongAnswer as error:
        say(f"\nwrong answer, so there is no result: {error}")
        return 1
    document = comparison.as_json()
    say(f"\n{table(document)}\n\nmeasured in {(time.monotonic() - started) / 60:.1f} minutes")
    if OURS.name not in comparison.outcomes:
        say(f"{OURS.label} could not be measured, so there is no result")
        return 1
    _write(plan.output, document)
    return 0


def _measure(plan: Plan, comparison: Comparison) -> None:
    systems = [system for system in plan.systems if _is_built(system, comparison)]
    with running_broker() as broker:
        cluster = Cluster(broker.bootstrap_servers)
        for number in range(plan.rounds):
            begin = number % len(systems)
            for system in [*systems[begin:], *systems[:begin]]:
                if system.name not in comparison.missing:
                    _one_trial(
                        plan,
                        comparison,
                        system,
                        number,
                        Trial(
                            system=system,
                            cluster=cluster,
                            directory=broker.directory,
                            prefix=f"bench-{number + 1}-{system.name.replace('_', '-')}-{uuid.uuid4().hex[:6]}",
                            backlog=plan.backlog(system),
                            paced=plan.paced(),
                        ),
                    )


def _one_trial(plan: Plan, comparison: Comparison, system: System, number: int, trial: Trial) -> None:
    started = time.monotonic()
    try:
        outcome = trial.run()
    except (Died, TooSlow, LoadFailed, KafkaException, RuntimeError) as error:
        comparison.drop(system.name, f"round {number + 1}: {error}")
        say(f"round {number + 1}  {system.label}: {error}")
        return
    comparison.add(system.name, outcome)
    say(f"round {number + 1}/{plan.rounds}  {_line(system, outcome)}  ({time.monotonic() - started:.0f} s)")


def _line(system: System, outcome: Outcome) -> str:
    ordered = sorted(outcome.latencies_ms)
    middle, late = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return (
        f"{system.label:<28} {outcome.adds:>9,} adds  {outcome.adds_per_s:>8,.0f}/s steady {outcome.adds_per_s_whole:>8,.0f}/s whole "
        f"{outcome.cpu_us_per_add:>6.1f} us {outcome.peak_rss_mib:>5,.0f} MiB  p50 {middle} p99 {late} ms"
    )


def _is_built(system: System, comparison: Comparison) -> bool:
    try:
        system.build()
    except Missing as reason:
        comparison.drop(system.name, str(reason))
        say(f"missing: {system.label}: {reason}")
        return False
    return True


def _name_the_absent(plan: Plan, comparison: Comparison) -> None:
    for system in ALL:
        if system not in plan.systems:
            comparison.missing[system.name] = f"not part of this run ({plan.mode})"


def _write(output: Path, document: dict[str, object]) -> None:
    write_json(output, document)
    output.with_suffix(".md").write_text(table(document) + "\n", encoding="utf-8")
    plot.draw(document, output.with_suffix(".svg"))
    say(f"written: {output} and beside it .md and .svg")


def _plan(arguments: Sequence[str] | None) -> Plan:
    parser = argparse.ArgumentParser(description="Measure this project beside its peers.")
    parser.add_argument("--quick", action="store_true", help="ourselves and Kafka Streams, fewer adds")
    parser.add_argument("--systems", nargs="+", choices=[system.name for system in ALL], help="only these")
    parser.add_argument("--adds", type=int, help="size of the backlog")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--latency-seconds", type=float, help="how long the paced load lasts")
    parser.add_argument("--output", type=Path, default=RESULTS / "latest.json")
    given = parser.parse_args(arguments)
    usual = (300_000, 2, 6.0) if given.quick else (1_000_000, 3, 12.0)
    systems = [system for system in ALL if not given.systems or system.name in given.systems]
    return Plan(
        mode=_mode(given),
        systems=tuple(system for system in systems if not given.quick or system in (OURS, *KAFKA_STREAMS)),
        adds=given.adds or usual[0],
        rounds=given.rounds or usual[1],
        latency_seconds=given.latency_seconds or usual[2],
        output=given.output,
    )


def _mode(given: argparse.Namespace) -> str:
    """Return what kind of run this is: only a full one is fit for documents."""
    if given.systems or given.adds or given.rounds or given.latency_seconds:
        return "partial"
    return "quick" if given.quick else "full"


if __name__ == "__main__":
    raise SystemExit(main())
