"""A hundred thousand groups with one deadline: how long until the last has fired, and whether the event loop kept turning.

Each add's wait is reckoned when it is sent, so that the deadlines meet; what is left of a spread is the time a record spends in the
producer. Lateness is a fire's append time less the deadline that the fire itself names.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from benchmarks.deployment import Deployment
from benchmarks.figures import latency_summary
from benchmarks.load import Command, Load, add_around_key, load_backlog
from benchmarks.scale.report import Report, Session
from benchmarks.verdict import WrongAnswer

GROUPS = 100_000
_AHEAD_SECONDS = 12.0


class _Due(msgspec.Struct):
    reason: str
    deadline_at: str


def run(session: Session) -> Report:
    """Load the groups, wait for their common deadline, and see what happens then."""
    report = Report()
    load = Load(name="due", groups=session.some(GROUPS), participants=2)
    report.note("groups", load.groups)
    with session.deployment("due") as deployment, deployment.worker() as worker:
        deployment.wait_until_ready(worker)
        due_ms = (time.time() + _AHEAD_SECONDS) * 1000
        load_backlog(session.broker.bootstrap_servers, deployment.commands, _adds_due_at(load, due_ms))
        deployment.wait_until_folded(worker)
        report.note("folded_before_the_deadline_s", due_ms / 1000 - time.time())
        deployment.wait_for_fires(load.groups, worker)
        time.sleep(1.0)  # the last observation
        _judge(report, load, list(lateness(deployment)))
        stall = worker.longest_stall_ms(from_ms=due_ms - 500)
        report.note("longest_stall_ms_at_the_deadline", stall)
        report.note("longest_stall_ms_at_all", worker.longest_stall_ms())
        report.promise("event-loop stall", 200, stall, unit="ms")
    return report


def _judge(report: Report, load: Load, late: list[tuple[int, float]]) -> None:
    if len(late) != load.groups:
        raise WrongAnswer(f"{len(late)} fires for {load.groups} groups")
    deadlines = [deadline for _, deadline in late]
    last_ms = max(fired for fired, _ in late)
    report.note("spread_of_deadlines_ms", max(deadlines) - min(deadlines))
    report.note("lateness_ms", latency_summary([fired - deadline for fired, deadline in late]))
    report.promise("all fired after the last deadline", 2.0, (last_ms - max(deadlines)) / 1000, unit="s")


def _adds_due_at(load: Load, due_ms: float) -> Iterator[Command]:
    before, after = add_around_key(
        "host-0", load.participants, len(load.key(0)), wait_time_in_seconds=0.5, linger_in_seconds=60
    )
    for group in range(load.groups):
        wait = b"%.3f" % ((due_ms - time.time() * 1000) / 1000)
        key = load.key(group)
        yield key, before + key + after.replace(b"0.5", wait, 1)


def lateness(deployment: Deployment) -> Iterator[tuple[int, float]]:
    """Yield when each fire was appended and what its deadline was; raise WrongAnswer unless it is a timeout that is not early."""
    decode = msgspec.json.Decoder(_Due).decode
    for record in deployment.cluster.read(deployment.fires):
        fire, fired_ms = decode(record.value()), _appended_ms(record)
        deadline_ms = datetime.fromisoformat(fire.deadline_at).timestamp() * 1000
        if fire.reason != "timeout" or fired_ms < deadline_ms - 0.5:
            raise WrongAnswer(
                f"{record.key()!r} fired by {fire.reason}, {deadline_ms - fired_ms:.0f} ms before its deadline"
            )
        yield fired_ms, round(deadline_ms)


def _appended_ms(record: Any) -> int:
    return int(record.timestamp()[1])
