"""Timeouts in ordinary use: how much later than its deadline a group fires on a healthy cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.figures import latency_summary
from benchmarks.load import Command, Load, add_around_key, load_paced
from benchmarks.scale.due_at_once import lateness
from benchmarks.scale.report import Report, Session

GROUPS_PER_SECOND = 500
SECONDS = 15


def run(session: Session) -> Report:
    """Open groups at an even rate, none of which completes within its second."""
    report = Report()
    load = Load(name="late", groups=session.some(GROUPS_PER_SECOND * SECONDS), participants=2)
    with session.deployment("late") as deployment, deployment.worker() as worker:
        deployment.wait_until_ready(worker)
        load_paced(session.broker.bootstrap_servers, deployment.commands, _adds(load), GROUPS_PER_SECOND)
        deployment.wait_for_fires(load.groups, worker)
        time.sleep(1.0)
        found = [fired - deadline for fired, deadline in lateness(deployment)]
        ticks = sum(deployment.cluster.ends(deployment.commands)) - load.groups
        report.note("groups", len(found))
        report.note("lateness_ms", latency_summary(found))
        report.note("ticks_per_timeout", ticks / load.groups)
        report.note("longest_stall_ms", worker.longest_stall_ms())
        report.promise("timeout lateness, p99", 100, latency_summary(found)["p99"], unit="ms")
    return report


def _adds(load: Load) -> Iterator[Command]:
    before, after = add_around_key("host-0", load.participants, len(load.key(0)), wait_time_in_seconds=1)
    return ((key, before + key + after) for key in map(load.key, range(load.groups)))
