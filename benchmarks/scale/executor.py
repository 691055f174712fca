"""The executor: how many trivial callbacks it runs in a second, and how soon after its fire one starts."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

from benchmarks.cluster import wait
from benchmarks.deployment import Deployment
from benchmarks.figures import latency_summary, steady_rate
from benchmarks.load import Command, Load, add_around_key, load_backlog, load_paced
from benchmarks.process import Measured
from benchmarks.scale.callbacks import ENTRY
from benchmarks.scale.report import Report, Session
from benchmarks.trial import PACE_PER_SECOND
from benchmarks.verdict import WrongAnswer
from wait_for_me.codec import encode_fire
from wait_for_me.fires import Arrival, Fire

_FIRES: Final = 50_000
_SECONDS: Final = 15
_WARM_UP_GROUPS: Final = 200
_AT: Final = "2026-01-01T00:00:00.000Z"


def run(session: Session) -> Report:
    """Drain a backlog of fires with each kind of callback, then keep up with a worker's fires."""
    report = Report()
    rates = {kind: _drain(report, session, kind) for kind in ("plain", "async")}
    report.promise("trivial callbacks per second, one process", 5_000, max(rates.values()), at_most=False, unit="/s")
    _keep_up(report, session)
    return report


def _drain(report: Report, session: Session, kind: str) -> float:
    count = session.some(_FIRES)
    with session.deployment(f"callbacks-{kind}") as deployment:
        load_backlog(session.broker.bootstrap_servers, deployment.fires, _made_up_fires(count, f"bench.{kind}"))
        with _executor(deployment) as (process, notes):
            _wait_for_callbacks(process, notes, count)
            used = process.samples[-1].cpu_seconds
        started = _started(notes, count)
    rate = steady_rate(list(started.values()), 1)
    report.note(f"callbacks_per_s {kind}", rate)
    report.note(f"cpu_us_per_callback {kind}", used / count * 1e6)
    report.note(f"rss_mib {kind}", process.peak_rss_mib)
    return rate


def _keep_up(report: Report, session: Session) -> None:
    """Send a thousand adds a second, of groups of five, to a worker, and compare callbacks with the fires they belong to.

    The first groups are waited for and left out: they find a worker and an executor that are still starting.
    """
    load = Load(name="call", groups=_WARM_UP_GROUPS + session.some(_SECONDS * PACE_PER_SECOND // 5))
    adds = _adds(load)
    with session.deployment("callbacks") as deployment, deployment.worker() as worker:
        deployment.wait_until_ready(worker)
        with _executor(deployment) as (process, notes):
            warm_up = islice(adds, _WARM_UP_GROUPS * load.participants)
            load_paced(session.broker.bootstrap_servers, deployment.commands, warm_up, PACE_PER_SECOND)
            _wait_for_callbacks(process, notes, _WARM_UP_GROUPS)
            load_paced(session.broker.bootstrap_servers, deployment.commands, adds, PACE_PER_SECOND)
            _wait_for_callbacks(process, notes, load.groups)
        fired = {
            int(one.key().rpartition(b"-")[2]): one.timestamp()[1] for one in deployment.cluster.read(deployment.fires)
        }
        started = _started(notes, load.groups)
    # A fire's append time is in whole milliseconds, so half of one is taken off what is between them.
    summary = latency_summary(
        [at_ms - fired[number] - 0.5 for number, at_ms in started.items() if number >= _WARM_UP_GROUPS]
    )
    report.note("fire_to_callback_ms", summary)
    report.promise("fire -> start of the callback, p99", 50, summary["p99"], unit="ms")


@contextmanager
def _executor(deployment: Deployment) -> Iterator[tuple[Measured, Path]]:
    notes = deployment.home / "callbacks.bin"
    environment = deployment.settings(deployment.home / "executor", {"BENCH_CALLBACKS": str(notes)})
    command = [sys.executable, "-m", "wait_for_me_app", "executor", "--callbacks", "benchmarks.scale.callbacks"]
    with Measured(command, environment=environment, log=deployment.home / "executor.log") as process:
        yield process, notes


def _wait_for_callbacks(process: Measured, notes: Path, count: int) -> None:
    def are_there() -> bool:
        process.require_alive()
        return notes.exists() and notes.stat().st_size >= count * ENTRY.size

    wait(are_there, f"not all of {count} callbacks have run", seconds=180)


def _started(notes: Path, count: int) -> dict[int, float]:
    """Return when each fire's callback was started; raise WrongAnswer unless every one was run once."""
    entries = list(ENTRY.iter_unpack(notes.read_bytes()))
    started = dict(entries)
    if len(entries) != count or started.keys() != set(range(count)):
        raise WrongAnswer(f"{len(entries)} callbacks were run for {len(started)} of {count} fires")
    return started


def _adds(load: Load) -> Iterator[Command]:
    size = len(load.key(0))
    values = [
        add_around_key(
            f"host-{number}",
            load.participants,
            size,
            execute_after_waiting="bench.plain",
            execute_after_waiting_params=[],
        )
        for number in range(load.participants)
    ]
    return ((key, before + key + after) for key in map(load.key, range(load.groups)) for before, after in values)


def _made_up_fires(count: int, name: str) -> Iterator[Command]:
    """Yield fires as a worker writes them."""
    for number in range(count):
        key = f"call-{number:07d}"
        yield key.encode(), encode_fire(_fire(key, name, number))


def _fire(key: str, name: str, number: int) -> Fire:
    return Fire(
        fire_id=f"fire_{uuid.uuid5(uuid.NAMESPACE_OID, key)}",
        group_key=key,
        reason="complete",
        number_of_participants_in_group=5,
        arrived_count=5,
        missing_count=0,
        arrived=tuple(Arrival(participant_key=f"host-{one}", at=_AT) for one in range(5)),
        arrived_truncated=False,
        conflict_count=0,
        execute_after_waiting=name,
        wait_time_in_seconds=60,
        opened_at=_AT,
        last_add_at=_AT,
        deadline_at=_AT,
        fired_at=_AT,
        partition=0,
        opened_offset=number,
        closed_offset=number,
    )
