"""One trial of one system: drain a backlog, then keep up with a paced load in the same process, then be judged.

The latency comes from a process that the backlog has warmed up, because a Java program is at its best then. All times are the broker's
append times; nobody reads the fires while the system works, so that no reader competes with it for the two cores.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.cluster import Cluster, TooSlow, wait
from benchmarks.figures import steady_rate, whole_rate
from benchmarks.load import Load, load_backlog, load_paced
from benchmarks.process import Measured
from benchmarks.systems import System
from benchmarks.verdict import Fires, judge

PACE_PER_SECOND: Final = 1000
_QUIET_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 300.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one trial measured."""

    adds: int
    adds_per_s: float
    """Between the first and the last tenth of the fires."""
    adds_per_s_whole: float
    cpu_us_per_add: float
    """Of the whole process from its start to the last fire."""
    peak_rss_mib: float
    first_fire_s: float
    latencies_ms: list[int]
    copies: int


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A system, its loads, and a prefix of its own for everything it makes."""

    system: System
    cluster: Cluster
    directory: Path
    prefix: str
    backlog: Load
    paced: Load

    @property
    def commands(self) -> str:
        """The topic that is read."""
        return f"{self.prefix}.commands"

    @property
    def fires(self) -> str:
        """The topic that is written."""
        return f"{self.prefix}.fires"

    def run(self) -> Outcome:
        """Measure; topics and files are gone afterwards, however it ends."""
        home = self.directory / self.prefix
        home.mkdir()
        try:
            self._prepare()
            return self._measure(home)
        finally:
            self.cluster.delete_matching(self.prefix)
            shutil.rmtree(home, ignore_errors=True)

    def _prepare(self) -> None:
        """Make the topics and write the backlog."""
        self.system.prepare(self.prefix, self.cluster)
        load_backlog(self.cluster.bootstrap_servers, self.commands, self.backlog.backlog())

    def _measure(self, home: Path) -> Outcome:
        servers = self.cluster.bootstrap_servers
        process = Measured(
            self.system.command(self.prefix, servers, home),
            environment=self.system.environment(self.prefix, servers, home),
            log=home / "log",
        )
        with process:
            self._wait_for_fires(process, self.backlog.groups)
            paced_from = self.cluster.ends(self.commands)
            load_paced(servers, self.commands, self.paced.one_after_another(), PACE_PER_SECOND)
            self._wait_for_fires(process, self.backlog.groups + self.paced.groups)
        fires = judge(self.cluster.read(self.fires), (self.backlog, self.paced), self.system.read)
        return self._outcome(process, fires, paced_from)

    def _wait_for_fires(self, process: Measured, groups: int) -> None:
        """Wait until as many records are there as groups must fire, and no more are coming (transactions leave marks of their own)."""
        wait(
            lambda: self._count(process) >= groups, f"not all of {groups} groups have fired", seconds=_PATIENCE_SECONDS
        )
        before, give_up_at = -1, time.monotonic() + _PATIENCE_SECONDS
        while (now := self._count(process)) != before:
            if time.monotonic() > give_up_at:
                raise TooSlow("fires do not end")
            before = now
            time.sleep(_QUIET_SECONDS)

    def _count(self, process: Measured) -> int:
        process.require_alive()
        return sum(self.cluster.ends(self.fires))

    def _outcome(self, process: Measured, fires: Fires, paced_from: list[int]) -> Outcome:
        times, size = fires.times(self.backlog), self.backlog.participants
        cpu_seconds = process.cpu_seconds_at(max(times))
        return Outcome(
            adds=self.backlog.adds,
            adds_per_s=steady_rate(times, size),
            adds_per_s_whole=whole_rate(times, size),
            cpu_us_per_add=cpu_seconds / self.backlog.adds * 1e6,
            peak_rss_mib=process.peak_rss_mib,
            first_fire_s=(min(times) - process.started_at_ms) / 1000,
            latencies_ms=latencies(self.cluster, self.commands, paced_from, self.paced, fires),
            copies=fires.copies,
        )


def latencies(cluster: Cluster, commands: str, starts: list[int], load: Load, fires: Fires) -> list[int]:
    """Return, for each group of a load, the time from its last add's append to its fire's."""
    last_add: dict[bytes, int] = {}
    mark = load.name.encode() + b"-"
    for record in cluster.read(commands, starts):
        key = record.key()
        if key is not None and key.startswith(mark):
            last_add[key] = max(last_add.get(key, 0), record.timestamp()[1])
    return [fires.first_at_ms[key] - at_ms for key, at_ms in last_add.items()]
