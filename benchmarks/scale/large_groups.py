"""Large groups: what an add writes, whatever the size of its group, and whether a huge group hurts those beside it.

What an add writes is measured twice: in the broker's log at a steady pace, and in memory with every add a run of its own, where nothing
is saved by writing a group's row once for many adds.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice

from benchmarks.deployment import Deployment
from benchmarks.figures import latency_summary, percentile
from benchmarks.load import Load, load_paced
from benchmarks.scale.report import Report, Session
from benchmarks.scale.written import bytes_per_add
from benchmarks.systems import PARTITIONS
from wait_for_me.partitioner import partition_for

SIZES = (10, 1_000, 100_000)
_ADDS = 100_000
_PACE_PER_SECOND = 5_000
_OTHERS_PER_SECOND = 500
_OTHERS_SECONDS = 10


def run(session: Session) -> Report:
    """Measure bytes by size, then a huge group beside small ones."""
    report = Report()
    logged = [_bytes_in_the_log(report, session, session.some(size, at_least=10)) for size in SIZES]
    report.promise(
        "changelog bytes per add in the log, in groups of 100,000 to groups of 10", 2.0, logged[-1] / logged[0]
    )
    alone = [_bytes_in_memory(report, session.some(size, at_least=10), session) for size in SIZES]
    report.promise(
        "the same add by add, largest to smallest of groups of 10, 1,000, 100,000", 2.0, max(alone) / min(alone)
    )
    _beside_small_ones(report, session)
    return report


def _bytes_in_the_log(report: Report, session: Session, size: int) -> float:
    adds = session.some(_ADDS)
    load = Load(name="size", groups=max(1, adds // size), participants=size)
    with session.deployment("size") as deployment, deployment.worker() as worker:
        deployment.wait_until_ready(worker)
        load_paced(session.broker.bootstrap_servers, deployment.commands, load.backlog(), _PACE_PER_SECOND)
        deployment.wait_until_folded(worker)
        deployment.wait_for_fires(load.groups, worker)
        written = deployment.broker.log_bytes(deployment.changelog) / load.adds
        report.note(f"changelog_bytes_per_add_in_groups_of_{size}", written)
        report.note(f"longest_stall_ms_with_groups_of_{size}", worker.longest_stall_ms())
    return written


def _bytes_in_memory(report: Report, size: int, session: Session) -> float:
    written = asyncio.run(bytes_per_add(size, adds=max(size, session.some(20_000))))
    report.note(f"changelog_bytes_per_add_in_groups_of_{size}_add_by_add", written)
    return written


def _beside_small_ones(report: Report, session: Session) -> None:
    """Compare small groups of one lane without and with a huge group that fills up in it."""
    huge = Load(name="huge", groups=1, participants=session.some(SIZES[-1]))
    partition = partition_for(huge.key(0), PARTITIONS)
    with session.deployment("huge") as deployment, deployment.worker() as worker:
        deployment.wait_until_ready(worker)
        before = _small_ones(deployment, "before", partition, session.some(_OTHERS_PER_SECOND * _OTHERS_SECONDS // 5))
        report.note("small_groups_latency_ms_alone", latency_summary(before))
        meanwhile = session.some(_OTHERS_PER_SECOND * huge.adds // _PACE_PER_SECOND // 5)
        with ThreadPoolExecutor(1) as background:
            filling = background.submit(_fill, deployment, huge)
            beside = _small_ones(deployment, "beside", partition, meanwhile)
            filling.result()
        deployment.wait_until_folded(worker)
        deployment.wait_for_fires(len(before) + len(beside) + 1, worker)
        report.note("small_groups_latency_ms_beside_a_huge_one", latency_summary(beside))
        report.note("longest_stall_ms_beside_a_huge_one", worker.longest_stall_ms())
        report.promise("event-loop stall with a huge group", 200, worker.longest_stall_ms(), unit="ms")
        late = percentile(sorted(beside), 0.99)
        report.promise("small groups beside a huge one, add -> fire p99", 100, late, unit="ms")


def _fill(deployment: Deployment, huge: Load) -> None:
    load_paced(deployment.broker.bootstrap_servers, deployment.commands, huge.backlog(), _PACE_PER_SECOND)


def _small_ones(deployment: Deployment, name: str, partition: int, groups: int) -> list[int]:
    return deployment.paced_latencies(_pinned(name, groups, partition), per_second=_OTHERS_PER_SECOND)


@dataclass(frozen=True, kw_only=True)
class _PinnedLoad(Load):
    """Groups whose keys all belong to one partition."""

    keys: tuple[bytes, ...]

    def key(self, group: int) -> bytes:
        return self.keys[group]


def _pinned(name: str, groups: int, partition: int) -> _PinnedLoad:
    keys = map(Load(name=name, groups=0).key, count())
    found = islice((key for key in keys if partition_for(key, PARTITIONS) == partition), groups)
    return _PinnedLoad(name=name, groups=groups, keys=tuple(found))
