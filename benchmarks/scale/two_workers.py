"""Two workers: what standbys cost them, and how long the lanes of a dead one stay without an owner."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from benchmarks.deployment import Deployment, ObservedWorker
from benchmarks.figures import steady_rate
from benchmarks.load import Load, load_backlog, load_paced
from benchmarks.scale.report import Report, Session
from benchmarks.trial import PACE_PER_SECOND
from benchmarks.verdict import Fires, judge, read_ours

_ADDS = 600_000
_ROUNDS = 3
_OPEN_GROUPS = 200_000
_SESSION_TIMEOUT_MS = 10_000
_SECONDS_BEFORE, _SECONDS_AFTER = 8, 25


def standbys(session: Session) -> Report:
    """Drain the same backlog with two workers, in turns with and without a standby of each lane on the other one."""
    report = Report()
    rates: dict[str, list[float]] = {"0": [], "1": []}
    for number in range(_ROUNDS):
        for copies in ("0", "1") if number % 2 == 0 else ("1", "0"):
            rates[copies].append(_drain(session, copies))
            report.note(f"adds_per_s with {copies} standbys, round {number + 1}", rates[copies][-1])
    ratio = statistics.median(with_ / without for without, with_ in zip(rates["0"], rates["1"], strict=True))
    report.promise("adds/s with standbys, to without", 0.9, ratio, at_most=False)
    return report


def _drain(session: Session, copies: str) -> float:
    load = Load(name="group", groups=session.some(_ADDS // 5))
    with session.deployment(f"standbys-{copies}") as deployment, ExitStack() as stack:
        load_backlog(session.broker.bootstrap_servers, deployment.commands, load.backlog())
        workers = _two(stack, deployment, copies)
        deployment.wait_for_fires(load.groups, *workers)
        _require_both(workers)
        fires = judge(deployment.cluster.read(deployment.fires), (load,), read_ours)
    return steady_rate(fires.times(load), load.participants)


def takeover(session: Session) -> Report:
    """Kill one of two workers while adds keep coming, with a standby and without."""
    report = Report()
    for copies in ("1", "0"):
        seconds, fires = _kill_one(session, copies)
        report.note(f"takeover_s with {copies} standbys", seconds)
        report.note(f"copies of fires with {copies} standbys", fires.copies)
        if copies == "1":
            wanted = _SESSION_TIMEOUT_MS / 1000 + 2
            report.promise("takeover by a standby, from the kill to the first fire", wanted, seconds, unit="s")
    return report


def _kill_one(session: Session, copies: str) -> tuple[float, Fires]:
    opened = Load(name="open", groups=session.some(_OPEN_GROUPS), participants=2)
    paced = Load(name="paced", groups=PACE_PER_SECOND * (_SECONDS_BEFORE + _SECONDS_AFTER) // 5)
    with session.deployment(f"takeover-{copies}") as deployment, ExitStack() as stack:
        load_backlog(session.broker.bootstrap_servers, deployment.commands, opened.openings())
        workers = _two(stack, deployment, copies)
        deployment.wait_until_folded(*workers)
        _require_both(workers)
        lost = set(workers[0].watermarks)
        with ThreadPoolExecutor(1) as background:
            pacing = background.submit(_pace, deployment, paced)
            time.sleep(_SECONDS_BEFORE)
            killed_ms = workers[0].measured.kill()
            pacing.result()
        deployment.wait_for_fires(paced.groups, workers[1])
        deployment.wait_until_folded(workers[1])
        records = list(deployment.cluster.read(deployment.fires))
    fires = judge(iter(records), (paced,), read_ours)
    # What the dying worker had under way may still be appended right after the kill; no takeover comes that soon.
    times = (one.timestamp()[1] for one in records if one.partition() in lost)
    return (min(at_ms for at_ms in times if at_ms > killed_ms + 1000) - killed_ms) / 1000, fires


def _pace(deployment: Deployment, load: Load) -> None:
    load_paced(deployment.broker.bootstrap_servers, deployment.commands, load.one_after_another(), PACE_PER_SECOND)


def _two(stack: ExitStack, deployment: Deployment, copies: str) -> list[ObservedWorker]:
    settings = {
        "WAIT_FOR_ME_STANDBY_REPLICAS": copies,
        "WAIT_FOR_ME_SESSION_TIMEOUT_MS": str(_SESSION_TIMEOUT_MS),
    }
    workers = [
        stack.enter_context(deployment.worker(name, **settings, WAIT_FOR_ME_WORKER_ID=name)) for name in ("one", "two")
    ]
    deployment.wait_until_ready(*workers)
    return workers


def _require_both(workers: list[ObservedWorker]) -> None:
    shares = [len(one.watermarks) for one in workers]
    if 0 in shares:
        raise RuntimeError(f"the lanes were not shared ({shares}), so this measured one worker: run it again")
