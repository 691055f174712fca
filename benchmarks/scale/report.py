"""What a scenario is given and what it returns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.broker import Broker
from benchmarks.cluster import Cluster
from benchmarks.deployment import Deployment, deployed
from benchmarks.figures import Target
from benchmarks.place import say
from benchmarks.systems import PARTITIONS


@dataclass(frozen=True, kw_only=True)
class Session:
    """One broker and the share of the full numbers that is wanted."""

    broker: Broker
    cluster: Cluster
    share: float = 1.0

    def some(self, full: int, at_least: int = 100) -> int:
        """Return the share of a number, but not too little to measure."""
        return max(min(full, at_least), int(full * self.share))

    @contextmanager
    def deployment(self, name: str, *, partitions: int = PARTITIONS) -> Iterator[Deployment]:
        """Yield a fresh deployment."""
        with deployed(self.broker, self.cluster, name, partitions=partitions) as made:
            yield made


@dataclass(kw_only=True)
class Report:
    """Figures by name, and promises."""

    figures: dict[str, Any] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)

    def note(self, name: str, value: Any) -> None:
        """Keep a figure, and print it at once."""
        kept = round(value, 3) if isinstance(value, float) else value
        self.figures[name] = kept
        say(f"  {name}: {kept}")

    def promise(self, name: str, wanted: float, got: float, *, at_most: bool = True, unit: str = "") -> None:
        """Keep a promise and what came of it."""
        target = Target(name=name, wanted=wanted, got=got, at_most=at_most, unit=unit)
        self.targets.append(target)
        say(
            f"  {'met' if target.met else 'MISSED'}: {name} {'<=' if at_most else '>='} {wanted:g} {unit}: {got:.4g} {unit}"
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as it stands in the results."""
        return {"figures": self.figures, "targets": [target.as_json() for target in self.targets]}
