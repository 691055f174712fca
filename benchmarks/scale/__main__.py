"""Measures what grows, on a broker of its own: `make bench-scale`, or `python -m benchmarks.scale NAME ...` for some.

Results go to benchmarks/results/scale.json; a scenario that was not run keeps the figures of the last time it was. With `--share` the
numbers are a part of the full ones, to see that everything works, and are written elsewhere.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from confluent_kafka import KafkaException

from benchmarks.broker import running_broker
from benchmarks.cluster import Cluster, TooSlow
from benchmarks.place import RESULTS, say
from benchmarks.process import Died
from benchmarks.results import machine, target_table, write_json
from benchmarks.scale import cost, due_at_once, executor, large_groups, lateness, open_groups, two_workers
from benchmarks.scale.report import Report, Session
from benchmarks.verdict import WrongAnswer

SCENARIOS: Final[Mapping[str, Callable[[Session], Report]]] = MappingProxyType(
    {
        "open_groups": open_groups.run,
        "due_at_once": due_at_once.run,
        "lateness": lateness.run,
        "large_groups": large_groups.run,
        "standbys": two_workers.standbys,
        "takeover": two_workers.takeover,
        "cost_by_open_groups": cost.by_open_groups,
        "cost_by_partitions": cost.by_partitions,
        "executor": executor.run,
    }
)
_REBALANCE_DELAY: Final = {"group.initial.rebalance.delay.ms": "3000"}  # Kafka's default: two workers join together


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios; exit code 1 if one of them could not be measured."""
    given = _arguments(arguments)
    names = given.scenarios or list(SCENARIOS)
    output = given.output or RESULTS / ("scale.json" if given.share == 1.0 else "scale-try.json")
    document = _known(output)
    failed = _run(names, given.share, document, output)
    say("\n" + "\n".join(table(document)))
    say(f"\nwritten: {output}")
    for name, reason in failed.items():
        say(f"not measured: {name}: {reason.strip().splitlines()[-1]}")
    return 1 if failed else 0


def _run(names: Sequence[str], share: float, document: dict[str, Any], output: Path) -> dict[str, str]:
    failed: dict[str, str] = {}
    with running_broker(_REBALANCE_DELAY) as broker:
        session = Session(broker=broker, cluster=Cluster(broker.bootstrap_servers), share=share)
        for name in names:
            started = time.monotonic()
            say(f"{name} ...")
            try:
                report = SCENARIOS[name](session)
            except (Died, TooSlow, WrongAnswer, KafkaException, RuntimeError) as error:
                failed[name] = str(error)
                say(f"  FAILED: {error}")
                continue
            say(f"  ({time.monotonic() - started:.0f} s)")
            document["scenarios"][name] = {"measured_at": _now(), **report.as_json()}
            write_json(output, document)
    return failed


def _known(output: Path) -> dict[str, Any]:
    """Return what was measured before, for the scenarios that are left out this time."""
    before: dict[str, Any] = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    scenarios = {name: found for name, found in before.get("scenarios", {}).items() if name in SCENARIOS}
    return {"measured_at": _now(), "machine": machine(), "scenarios": scenarios}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def table(document: Mapping[str, Any]) -> list[str]:
    """Return the promises of all scenarios in Markdown."""
    return target_table(
        [target for name in SCENARIOS for target in document["scenarios"].get(name, {}).get("targets", [])]
    )


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what grows.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"some of: {', '.join(SCENARIOS)}")
    parser.add_argument("--share", type=float, default=1.0, help="part of the full numbers, for a try")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args(arguments)
    if unknown := set(given.scenarios) - SCENARIOS.keys():
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are: {', '.join(SCENARIOS)}")
    return given


if __name__ == "__main__":
    raise SystemExit(main())
