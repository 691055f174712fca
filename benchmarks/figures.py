"""Arithmetic of measurements: rates, percentiles, and what is compared with a target. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a share of the ordered values lies (nearest rank, from below)."""
    return ordered[int((len(ordered) - 1) * share)]


def steady_rate(times_ms: Sequence[float], weight: float) -> float:
    """Return `weight` times the events per second between the first and the last tenth of them."""
    ordered = sorted(times_ms)
    first, last = len(ordered) // 10, len(ordered) * 9 // 10
    return (last - first) * weight / max(1e-3, (ordered[last] - ordered[first]) / 1000)


def whole_rate(times_ms: Sequence[float], weight: float, started_ms: float | None = None) -> float:
    """Return `weight` times the events per second, from the first event or a given start to the last event."""
    begin = min(times_ms) if started_ms is None else started_ms
    return len(times_ms) * weight / max(1e-3, (max(times_ms) - begin) / 1000)


def latency_summary(latencies_ms: Sequence[float]) -> dict[str, float]:
    """Return the percentiles that are reported."""
    ordered = sorted(latencies_ms)
    shares = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "p99_9": 0.999, "max": 1.0}
    return {"samples": len(ordered), **{name: round(percentile(ordered, share), 3) for name, share in shares.items()}}


@dataclass(frozen=True, kw_only=True)
class Target:
    """A figure that was promised, and what was measured."""

    name: str
    wanted: float
    got: float
    at_most: bool = False
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the promise holds."""
        return self.got <= self.wanted if self.at_most else self.got >= self.wanted

    def as_json(self) -> dict[str, Any]:
        """Return it as it stands in the results."""
        return {**asdict(self), "got": round(self.got, 4), "met": self.met}
