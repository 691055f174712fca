"""Cost of an add as things grow: with the number of open groups, and with the number of partitions.

The cost is the processor time of a worker over the adds that it folds, without its start. For open groups the adds come while it runs,
so that the groups stay as they are, and after a first load of the same size that is not counted: a worker whose store is empty works
quicker, whatever its open groups are. For partitions they wait for it, because the length of runs, which decides the cost of an add,
must not depend on how the sender's speed is spread over partitions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.deployment import Deployment, ObservedWorker
from benchmarks.figures import steady_rate
from benchmarks.load import Load, load_backlog
from benchmarks.scale.report import Report, Session
from benchmarks.verdict import judge, read_ours

OPEN_GROUPS = (10_000, 100_000, 1_000_000)
PARTITIONS = (4, 16, 64)
_ADDS = 400_000
_BACKLOG_ADDS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a load cost."""

    cpu_us_per_add: float
    adds_per_s: float


def by_open_groups(session: Session) -> Report:
    """Measure the same load with ever more open groups in one worker."""
    report, costs = Report(), list[Cost]()
    with session.deployment("open-cost") as deployment, deployment.worker() as worker:
        _cost(deployment, worker, Load(name="first", groups=session.some(_ADDS // 5)))
        for number, total in enumerate(OPEN_GROUPS):
            before = OPEN_GROUPS[number - 1] if number else 0
            more = Load(name=f"open{number}", groups=session.some(total - before), participants=2)
            load_backlog(session.broker.bootstrap_servers, deployment.commands, more.openings())
            deployment.wait_until_folded(worker)
            costs.append(_cost(deployment, worker, Load(name=f"cost{number}", groups=session.some(_ADDS // 5))))
            _note(report, f"with {total:,} open groups", costs[-1])
    _promise_flat(report, "from 10,000 to 1,000,000 open groups", costs)
    return report


def by_partitions(session: Session) -> Report:
    """Drain the same backlog from ever more partitions."""
    report, costs = Report(), list[Cost]()
    load = Load(name="cost", groups=session.some(_BACKLOG_ADDS // 5))
    for partitions in PARTITIONS:
        with session.deployment("partitions", partitions=partitions) as deployment:
            load_backlog(session.broker.bootstrap_servers, deployment.commands, load.backlog())
            with deployment.worker() as worker:
                costs.append(_drain_cost(deployment, worker, load))
            _note(report, f"with {partitions} partitions", costs[-1])
            report.note(f"rss_mib with {partitions} partitions", worker.measured.peak_rss_mib)
            if partitions == PARTITIONS[0]:
                _note_bytes(report, deployment)
    _promise_flat(report, "from 4 to 64 partitions", costs)
    return report


def _drain_cost(deployment: Deployment, worker: ObservedWorker, load: Load) -> Cost:
    deployment.wait_for_fires(load.groups, worker)
    fires = judge(deployment.cluster.read(deployment.fires), (load,), read_ours)
    times, cpu_at = fires.times(load), worker.measured.cpu_seconds_at
    used = cpu_at(max(times)) - cpu_at(worker.ready_at_ms)
    return Cost(cpu_us_per_add=used / load.adds * 1e6, adds_per_s=steady_rate(times, load.participants))


def _note_bytes(report: Report, deployment: Deployment) -> None:
    """Keep what an add takes in each log, so that a cluster can be reckoned from it."""
    adds = sum(deployment.cluster.ends(deployment.commands))
    for name in ("commands", "changelog", "fires"):
        size = deployment.broker.log_bytes(getattr(deployment, name))
        report.note(f"log_bytes_per_add {name}", size / adds)


def _cost(deployment: Deployment, worker: ObservedWorker, load: Load) -> Cost:
    """Let a worker that has nothing to do fold a load; it is sent at full speed, faster than it can be folded."""
    deployment.wait_until_ready(worker)
    fires_from = deployment.cluster.ends(deployment.fires)
    before = _cpu_seconds(worker)
    load_backlog(deployment.broker.bootstrap_servers, deployment.commands, load.backlog())
    deployment.wait_for_fires(sum(fires_from) + load.groups, worker)
    used = _cpu_seconds(worker) - before
    fires = judge(deployment.cluster.read(deployment.fires, fires_from), (load,), read_ours)
    rate = steady_rate(fires.times(load), load.participants)
    return Cost(cpu_us_per_add=used / load.adds * 1e6, adds_per_s=rate)


def _cpu_seconds(worker: ObservedWorker) -> float:
    time.sleep(0.3)  # the next sample
    return worker.measured.samples[-1].cpu_seconds


def _note(report: Report, what: str, cost: Cost) -> None:
    report.note(f"cpu_us_per_add {what}", cost.cpu_us_per_add)
    report.note(f"adds_per_s {what}", cost.adds_per_s)


def _promise_flat(report: Report, what: str, costs: list[Cost]) -> None:
    used = [cost.cpu_us_per_add for cost in costs]
    report.promise(f"largest to smallest CPU per add {what}", 1.2, max(used) / min(used))
