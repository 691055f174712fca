"""Numbers in Prometheus' text format: what is counted how, and how it is written. Worker and executor both use it."""

from __future__ import annotations

import bisect
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

Names = Mapping[str, tuple[str, str]]
"""By name, the kind of a metric and what it means."""


class Histogram:
    """Counts of observations by upper bound."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.observe_all((value,))

    def observe_all(self, values: Sequence[float]) -> None:
        """Count many, in one call."""
        bounds, counts = self._bounds, self._counts
        for value in values:
            counts[bisect.bisect_left(bounds, value)] += 1
        self._sum += sum(values)

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self._counts)

    def samples(self, name: str) -> Iterator[Sample]:
        """Yield what Prometheus wants of it: cumulative buckets, sum, count."""
        seen = 0
        for bound, count in zip((*self._bounds, None), self._counts, strict=True):
            seen += count
            yield Sample(f"{name}_bucket", {"le": "+Inf" if bound is None else f"{bound:g}"}, seen)
        yield Sample(f"{name}_sum", {}, self._sum)
        yield Sample(f"{name}_count", {}, seen)


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of the exposition."""

    name: str
    labels: Mapping[str, str]
    value: float


def process_samples() -> Iterator[Sample]:
    """Yield what every process tells of itself."""
    yield Sample("process_cpu_seconds_total", {}, time.process_time())
    with (
        suppress(OSError, ValueError, AttributeError),
        open("/proc/self/status", encoding="ascii", errors="replace") as status,
    ):
        found = re.search(r"VmRSS:\s+(\d+) kB", status.read())
        if found:
            yield Sample("process_resident_memory_bytes", {}, int(found[1]) * 1024)


def exposition(samples: Iterable[Sample], names: Names) -> str:
    """Write samples in Prometheus' text format 0.0.4, the samples of a name together."""
    families: dict[str, list[str]] = {}
    for sample in samples:
        families.setdefault(family_of(sample.name, names), []).append(_line(sample))
    lines: list[str] = []
    for name, found in families.items():
        kind, meaning = names[name]
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *found]
    return "\n".join(lines) + "\n"


def family_of(name: str, names: Names) -> str:
    """Return the name that a sample belongs to: a histogram has three kinds of them."""
    stem = re.sub(r"_(bucket|sum|count)$", "", name)
    return stem if names.get(stem, ("",))[0] == "histogram" else name


def _line(sample: Sample) -> str:
    labels = ",".join(f'{name}="{_escape(value)}"' for name, value in sample.labels.items())
    return f"{sample.name}{f'{{{labels}}}' if labels else ''} {_number(sample.value)}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
