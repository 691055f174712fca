"""What a comparison is written down as: `latest.json`, and the same as a table."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import psutil  # type: ignore[import-untyped]

from benchmarks.figures import Target, latency_summary
from benchmarks.systems import ALL, OURS, TWO_OF_OURS
from benchmarks.trial import Outcome
from wait_for_me_app.core import fold

_LIBRARIES: Final = ("faust-streaming", "aiokafka", "confluent-kafka", "rocksdict", "msgspec", "uvloop")
_RATIOS: Final = {"adds_per_s": "adds_per_s", "cpu": "cpu_us_per_add", "rss": "peak_rss_mib"}
_LABELS: Final = {system.name: system.label for system in ALL}


@dataclass(kw_only=True)
class Comparison:
    """The outcomes of a session, by system and in the order of the rounds."""

    mode: str
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, outcome: Outcome) -> None:
        """Note one trial."""
        self.outcomes.setdefault(name, []).append(outcome)

    def drop(self, name: str, reason: str) -> None:
        """Name a system that could not be measured; what it had measured counts no more."""
        self.outcomes.pop(name, None)
        self.missing[name] = " ".join(reason.split())[:400]

    def as_json(self) -> dict[str, Any]:
        """Return the whole of it."""
        ratios = self._ratios()
        return {
            "mode": self.mode,
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "systems": {name: _system(outcomes) for name, outcomes in self.outcomes.items()},
            "ratios": ratios,
            "ratios_of_two_workers": self._ratios(TWO_OF_OURS.name),
            "missing": self.missing,
            "targets": [target.as_json() for target in targets(ratios, self._our_latency())],
        }

    def _ratios(self, our_name: str = OURS.name) -> dict[str, dict[str, float]]:
        """Return ours to theirs: the median over the rounds of the ratio within a round."""
        ours = self.outcomes.get(our_name, [])
        return {
            name: {
                ratio: round(_median_ratio(_values(ours, attribute), _values(theirs, attribute)), 4)
                for ratio, attribute in _RATIOS.items()
            }
            for name, theirs in self.outcomes.items()
            if name not in (OURS.name, TWO_OF_OURS.name) and ours
        }

    def _our_latency(self) -> dict[str, float]:
        ours = self.outcomes.get(OURS.name)
        return latency_summary(_pooled(ours)) if ours else {}


def _system(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "adds": outcomes[0].adds,
        "adds_per_s": [round(one.adds_per_s) for one in outcomes],
        "adds_per_s_whole": [round(one.adds_per_s_whole) for one in outcomes],
        "cpu_us_per_add": [round(one.cpu_us_per_add, 2) for one in outcomes],
        "peak_rss_mib": [round(one.peak_rss_mib, 1) for one in outcomes],
        "latency_ms": latency_summary(_pooled(outcomes)),
        "latency_ms_by_round": [latency_summary(one.latencies_ms) for one in outcomes],
        "first_fire_s": [round(one.first_fire_s, 2) for one in outcomes],
        "copies": sum(one.copies for one in outcomes),
        "wrong": 0,  # a wrong fire ends the session
    }


def _pooled(outcomes: Sequence[Outcome]) -> list[float]:
    return [latency for one in outcomes for latency in one.latencies_ms]


def _values(outcomes: Sequence[Outcome], attribute: str) -> list[float]:
    return [float(getattr(one, attribute)) for one in outcomes]


def _median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=False))


def targets(ratios: Mapping[str, Mapping[str, float]], latency_ms: Mapping[str, float]) -> list[Target]:
    """Return what was promised beside what was measured, for the peers that were there."""
    at_least_once, exactly_once = (ratios.get(f"kafka_streams_{name}") for name in ("at_least_once", "exactly_once_v2"))
    found: list[Target] = []
    if at_least_once:
        found.append(Target(name="adds/s to Kafka Streams at least once", wanted=2.0, got=at_least_once["adds_per_s"]))
        found.append(Target(name="CPU to the same", wanted=0.4, got=at_least_once["cpu"], at_most=True))
        found.append(Target(name="peak RSS to the same", wanted=0.5, got=at_least_once["rss"], at_most=True))
    if exactly_once:
        found.append(Target(name="adds/s to Kafka Streams exactly once", wanted=2.5, got=exactly_once["adds_per_s"]))
    for name, wanted in (("p50", 10.0), ("p99", 50.0)):
        if latency_ms:
            title = f"add -> fire at 1,000 adds/s, {name}"
            found.append(Target(name=title, wanted=wanted, got=latency_ms[name], at_most=True, unit="ms"))
    return found


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "python": f"{platform.python_version()} ({'compiled' if is_compiled() else 'interpreted'} modules)",
        "java": _java(),
        "kafka": "4.3.1, one node, KRaft, on the same machine",
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
    }


def is_compiled() -> bool:
    """Return whether the busy modules come from a compiled wheel."""
    return not (fold.__file__ or "").endswith(".py")


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _java() -> str:
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    return said.splitlines()[0] if said else "unknown"


# -- as a table


def table(document: Mapping[str, Any]) -> str:
    """Return the results in Markdown: medians of the rounds, the best first, then what was promised."""
    head = "| System | adds/s | CPU per add | peak RSS | add -> fire p50 / p99 | adds/s, ours to theirs | CPU | RSS |"
    systems = sorted(document["systems"].items(), key=lambda item: -statistics.median(item[1]["adds_per_s"]))
    rows = [_row(name, found, document["ratios"].get(name)) for name, found in systems]
    rows += [
        f"| {_LABELS.get(name, name)} | not measured: {reason} |||||||" for name, reason in document["missing"].items()
    ]
    lines = [head, "|---|---|---|---|---|---|---|---|", *rows, ""]
    for name, ratio in document.get("ratios_of_two_workers", {}).items():
        lines.append(
            f"Two workers to {_LABELS.get(name, name)}: {ratio['adds_per_s']:.2f}x adds/s, {ratio['cpu']:.2f}x CPU.  "
        )
    return "\n".join([*lines, "", *target_table(document["targets"])])


def _row(name: str, found: Mapping[str, Any], ratio: Mapping[str, float] | None) -> str:
    latency = found["latency_ms"]
    cells = [
        _LABELS.get(name, name),
        f"{statistics.median(found['adds_per_s']):,.0f}",
        f"{statistics.median(found['cpu_us_per_add']):.1f} us",
        f"{statistics.median(found['peak_rss_mib']):,.0f} MiB",
        f"{latency['p50']:.0f} / {latency['p99']:.0f} ms",
        *([f"{ratio['adds_per_s']:.2f}x", f"{ratio['cpu']:.2f}x", f"{ratio['rss']:.2f}x"] if ratio else ["", "", ""]),
    ]
    return f"| {' | '.join(cells)} |"


def target_table(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return promised and measured side by side."""
    lines = ["| Promised | | Measured | |", "|---|---|---|---|"]
    for target in found:
        sign = "<=" if target["at_most"] else ">="
        unit = f" {target['unit']}" if target["unit"] else ""
        verdict = "met" if target["met"] else "**missed**"
        lines.append(
            f"| {target['name']} | {sign} {target['wanted']:,g}{unit} | {target['got']:,.4g}{unit} | {verdict} |"
        )
    return lines


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write results for people who compare versions: stable order, one figure a line where that helps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
