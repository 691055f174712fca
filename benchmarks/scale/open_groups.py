"""A million open groups: what they weigh, how long a restore takes, and whether an add becomes slower."""

from __future__ import annotations

import statistics

from benchmarks.deployment import Deployment, ObservedWorker
from benchmarks.figures import latency_summary
from benchmarks.load import Load, load_backlog
from benchmarks.scale.report import Report, Session

GROUPS = 1_000_000
_LATENCY_SECONDS = 15


def run(session: Session) -> Report:
    """Measure an empty worker, then one with all the groups, then its restart with and without its local store."""
    report = Report()
    groups = session.some(GROUPS)
    report.note("open_groups", groups)
    with session.deployment("empty") as deployment, deployment.worker() as worker:
        deployment.wait_until_ready(worker)
        empty = _latencies(report, "latency_ms_empty", deployment, worker, session)
        report.note("rss_mib_empty", worker.measured.rss_mib)
    with session.deployment("open") as deployment:
        opened = Load(name="open", groups=groups, participants=2)
        load_backlog(session.broker.bootstrap_servers, deployment.commands, opened.openings())
        full = _filled(report, deployment, session)
        _restored(report, deployment)
        _restarted(report, deployment)
    report.promise("add -> fire with all groups open, to an empty worker (means)", 1.2, full / empty)
    return report


def _filled(report: Report, deployment: Deployment, session: Session) -> float:
    with deployment.worker() as worker:
        deployment.wait_until_folded(worker)
        report.note("rss_mib_after_folding", worker.measured.rss_mib)
        latency = _latencies(report, "latency_ms_full", deployment, worker, session)
        report.note("rss_mib_peak_folding", worker.measured.peak_rss_mib)
        report.note("longest_stall_ms_folding", worker.longest_stall_ms())
    report.note("changelog_mib", deployment.broker.log_bytes(deployment.changelog) / (1 << 20))
    report.promise("RSS with all groups open", 400, worker.measured.peak_rss_mib, unit="MiB")
    return latency


def _restored(report: Report, deployment: Deployment) -> None:
    deployment.wipe()
    with deployment.worker() as worker:
        deployment.wait_until_ready(worker)
        report.note("restore_s", worker.take_over_seconds)
        report.note("start_to_ready_s_after_wipe", worker.seconds_until_ready())
        report.note("rss_mib_after_restore", worker.measured.rss_mib)
        report.note("rss_mib_peak_restore", worker.measured.peak_rss_mib)
        report.note("longest_stall_ms_restore", worker.longest_stall_ms())
        report.promise("restore from the changelog, local store emptied", 10, worker.take_over_seconds, unit="s")
        report.promise("RSS after a restore", 400, worker.measured.peak_rss_mib, unit="MiB")


def _restarted(report: Report, deployment: Deployment) -> None:
    with deployment.worker() as worker:
        deployment.wait_until_ready(worker)
        report.note("take_over_s_with_local_store", worker.take_over_seconds)
        report.note("start_to_ready_s_with_local_store", worker.seconds_until_ready())


def _latencies(report: Report, name: str, deployment: Deployment, worker: ObservedWorker, session: Session) -> float:
    """Return the mean; it is finer than percentiles of whole milliseconds."""
    load = Load(name="paced", groups=session.some(_LATENCY_SECONDS * 200))
    found = deployment.paced_latencies(load, worker)
    mean = statistics.fmean(found)
    report.note(name, {**latency_summary(found), "mean": round(mean, 2)})
    return mean
