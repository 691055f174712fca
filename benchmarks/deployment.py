"""A deployment of this project for one scenario: its topics, its workers, its commands and fires."""

from __future__ import annotations

import json
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.broker import Broker
from benchmarks.cluster import Cluster, wait
from benchmarks.load import Load, load_paced
from benchmarks.place import REPOSITORY, clean_environment
from benchmarks.process import Measured
from benchmarks.systems import PARTITIONS, create_our_topics, our_settings
from benchmarks.trial import PACE_PER_SECOND, latencies
from benchmarks.verdict import judge, read_ours

_PATIENCE_SECONDS: Final = 300.0


class ObservedWorker:
    """A worker process that says how it fares."""

    def __init__(self, measured: Measured, directory: Path) -> None:
        self.measured = measured
        self.directory = directory

    def observations(self) -> list[dict[str, Any]]:
        """Return everything it has noted."""
        path = observations_path(self.directory)
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    @property
    def is_ready(self) -> bool:
        """Whether its lanes are being fed."""
        self.measured.require_alive()
        seen = self.observations()
        return bool(seen and seen[-1]["ready"])

    @property
    def watermarks(self) -> dict[int, int]:
        """The last folded offset by partition."""
        seen = self.observations()
        return {int(partition): offset for partition, offset in seen[-1]["watermarks"].items()} if seen else {}

    @property
    def take_over_seconds(self) -> float:
        """How long its last taking over of lanes took."""
        return float(self.observations()[-1]["take_over_s"])

    def longest_stall_ms(self, from_ms: float = 0.0, to_ms: float = float("inf")) -> float:
        """Return the longest that its event loop stood still between two moments, to a quarter of a second."""
        seen = [one for one in self.observations() if from_ms <= one["at_ms"] <= to_ms + 500]
        return max((float(one["stall_ms"]) for one in seen), default=0.0)

    @property
    def ready_at_ms(self) -> float:
        """When it was first seen to be ready, to a quarter of a second."""
        return next(float(one["at_ms"]) for one in self.observations() if one["ready"])

    def seconds_until_ready(self) -> float:
        """Return the time from its start until then."""
        return (self.ready_at_ms - self.measured.started_at_ms) / 1000

    def stop(self) -> None:
        """End it in order."""
        self.measured.stop()


def observations_path(directory: Path) -> Path:
    """Return where a worker with this directory writes its observations."""
    return directory.with_suffix(".observations")


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Topics of one prefix, and what is done with them."""

    broker: Broker
    cluster: Cluster
    prefix: str
    partitions: int
    home: Path

    @property
    def commands(self) -> str:
        return f"{self.prefix}.commands"

    @property
    def fires(self) -> str:
        return f"{self.prefix}.fires"

    @property
    def changelog(self) -> str:
        return f"{self.prefix}-groups-changelog"

    def settings(self, directory: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of one of its processes."""
        return {
            **clean_environment(),
            **our_settings(self.prefix, self.broker.bootstrap_servers, self.partitions),
            "WAIT_FOR_ME_DATA_DIR": str(directory),
            "PYTHONPATH": str(REPOSITORY),
            **(more or {}),
        }

    @contextmanager
    def worker(self, name: str = "worker", **settings: str) -> Iterator[ObservedWorker]:
        """Run a worker with the data directory of that name; `settings` are further variables."""
        directory = self.home / name
        observations_path(directory).unlink(missing_ok=True)
        environment = self.settings(directory, {**settings, "BENCH_OBSERVATIONS": str(observations_path(directory))})
        faust = [sys.executable, "-P", "-m", "faust", "-A", "benchmarks.observed_worker"]
        command = [*faust, "worker", "-l", "info", "--without-web"]
        with Measured(command, environment=environment, log=self.home / f"{name}.log") as measured:
            yield ObservedWorker(measured, directory)

    def wipe(self, name: str = "worker") -> None:
        """Delete the local store of a stopped worker."""
        shutil.rmtree(self.home / name)

    def wait_until_ready(self, *workers: ObservedWorker) -> None:
        """Wait until the workers' lanes are fed."""
        wait(lambda: all(one.is_ready for one in workers), "the workers are not ready", seconds=_PATIENCE_SECONDS)

    def wait_until_folded(self, *workers: ObservedWorker) -> None:
        """Wait until every command that is there now has been folded."""
        ends = self.cluster.ends(self.commands)
        wait(lambda: _have_folded(workers, ends), "the commands are not folded", seconds=_PATIENCE_SECONDS)

    def wait_for_fires(self, groups: int, *workers: ObservedWorker) -> None:
        """Wait until that many fires are there."""

        def are_there() -> bool:
            for one in workers:
                one.measured.require_alive()
            return sum(self.cluster.ends(self.fires)) >= groups

        wait(are_there, f"not all of {groups} groups have fired", seconds=_PATIENCE_SECONDS)

    def paced_latencies(
        self,
        load: Load,
        *workers: ObservedWorker,
        per_second: float = PACE_PER_SECOND,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> list[int]:
        """Send a load at an even pace and return how long each group's fire took; what else is in the logs is left out."""
        commands_from, fires_from = self.cluster.ends(self.commands), self.cluster.ends(self.fires)
        load_paced(self.broker.bootstrap_servers, self.commands, load.one_after_another(), per_second)
        meanwhile()
        self.wait_for_fires(sum(fires_from) + load.groups, *workers)
        fires = judge(self.records_of(load, fires_from), (load,), read_ours)
        return latencies(self.cluster, self.commands, commands_from, load, fires)

    def records_of(self, load: Load, starts: Sequence[int] | None = None) -> Iterator[Any]:
        """Yield the fires of one load."""
        mark = load.name.encode() + b"-"
        return (record for record in self.cluster.read(self.fires, starts) if record.key().startswith(mark))


def _have_folded(workers: Sequence[ObservedWorker], ends: Sequence[int]) -> bool:
    folded: dict[int, int] = {}
    for one in workers:
        one.measured.require_alive()
        folded.update(one.watermarks)
    return all(folded.get(partition, -1) >= end - 1 for partition, end in enumerate(ends))


@contextmanager
def deployed(broker: Broker, cluster: Cluster, name: str, *, partitions: int = PARTITIONS) -> Iterator[Deployment]:
    """Make a deployment, yield it, and delete its topics and files."""
    prefix = f"scale-{name}-{uuid.uuid4().hex[:6]}"
    home = broker.directory / prefix
    home.mkdir()
    create_our_topics(prefix, broker.bootstrap_servers, partitions)
    try:
        yield Deployment(broker=broker, cluster=cluster, prefix=prefix, partitions=partitions, home=home)
    finally:
        cluster.delete_matching(prefix)
        shutil.rmtree(home, ignore_errors=True)
