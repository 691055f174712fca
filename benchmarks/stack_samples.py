"""Where a running worker spends its time, seen from outside: processor time by thread, and stacks sampled by py-spy.

Only what holds the interpreter's lock is sampled, because waiting threads look busy on some machines. What runs without it, such as
librdkafka and RocksDB, is in the processor time by thread, which the operating system tells.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil  # type: ignore[import-untyped]

from benchmarks.broker import Broker
from benchmarks.cluster import Cluster
from benchmarks.deployment import Deployment, ObservedWorker, deployed
from benchmarks.load import Load, load_backlog
from benchmarks.place import say
from benchmarks.results import is_compiled

_RATE: Final = 200
_PY_SPY: Final = Path(sys.executable).with_name("py-spy")

# A stack ends where compiled code begins, so what that does is its caller's.
_LANE: Final = "lane" + (
    ", with decoding, fold, rows and fires, which are compiled" if is_compiled() else ": order of effects"
)

# The first rule that matches a frame decides, looking from the innermost frame outwards.
_RULES: Final[tuple[tuple[str, str], ...]] = (
    (
        r"wait_for_me/(codec|careful|commands|milliseconds|json_text|validation|cloudevents)\.py",
        "decode and check commands",
    ),
    (r"core/fires\.py", "encode fires"),
    (r"core/(fold|deadlines|rows)\.py|wait_for_me/partitioner\.py", "fold"),
    (r"storage/rocks_store\.py", "RocksDB"),
    (r"storage/", "rows: keep, look up, encode"),
    (r"faust_lanes/outlet\.py:?.*|\(aiokafka/record|_batches", "build record batches"),
    (r"aiokafka/(producer|client|conn|protocol|util)", "produce"),
    (r"aiokafka/", "group membership"),
    (r"faust_lanes/(fetch|messages)\.py", "fetch"),
    (r"wait_for_me_app/(lane|lanes|dead_letters|crash_points)\.py", _LANE),
    (r"wait_for_me_app/(sweep|watchdog|broker_clock)\.py", "sweep and watchdog"),
    (r"faust_lanes/|wait_for_me_app/worker\.py|faust/|mode/", "Faust: hand a run to its lane"),
    (r"asyncio/|selectors\.py|uvloop", "event loop"),
)


def take(broker: Broker, cluster: Cluster, adds: int) -> dict[str, Any] | None:
    """Sample a worker that drains a backlog; None, with the reason printed, if py-spy is not there."""
    if not _PY_SPY.exists():
        say("py-spy is not installed here, so no worker is sampled: pip install py-spy")
        return None
    load = Load(name="sample", groups=adds // 5)
    with deployed(broker, cluster, f"samples-{uuid.uuid4().hex[:4]}") as deployment:
        load_backlog(broker.bootstrap_servers, deployment.commands, load.backlog())
        with deployment.worker() as worker:
            return _sample(deployment, worker, load)


def _sample(deployment: Deployment, worker: ObservedWorker, load: Load) -> dict[str, Any] | None:
    deployment.wait_for_fires(1, worker)
    before, first = _cpu_by_thread(worker.measured.pid), worker.observations()[-1]
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "stacks"
        with subprocess.Popen(
            _command(worker.measured.pid, output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as spy:
            _wait_until_nearly_done(deployment, worker, load)
            after, last = _cpu_by_thread(worker.measured.pid), worker.observations()[-1]
            spy.send_signal(2)
            _, said = spy.communicate(timeout=30)
        if not output.exists():
            say(f"py-spy took no samples: {said.decode(errors='replace').strip()[-200:]}")
            return None
        stages = by_stage(output.read_text(encoding="utf-8").splitlines())
    adds, runs = (max(1, _total(last, name) - _total(first, name)) for name in ("watermarks", "runs"))
    threads = {name: round((seconds - before.get(name, 0.0)) / adds * 1e6, 3) for name, seconds in after.items()}
    return {
        "adds": adds,
        "records_per_run": round(adds / runs),
        "cpu_us_per_add_by_thread": threads,
        "share_of_samples": stages,
    }


def _total(observation: Mapping[str, Any], name: str) -> int:
    found = observation[name]
    return sum(found.values()) if isinstance(found, dict) else int(found)


def _command(pid: int, output: Path) -> list[str]:
    options = ["--gil", "--rate", str(_RATE), "--format", "raw", "--output", str(output), "--duration", "300"]
    return [str(_PY_SPY), "record", "--pid", str(pid), *options]


def _wait_until_nearly_done(deployment: Deployment, worker: ObservedWorker, load: Load) -> None:
    """Return while there still is something to drain, or the samples would show a worker at rest."""
    time.sleep(1.0)
    deployment.wait_for_fires(load.groups * 9 // 10, worker)


def _cpu_by_thread(pid: int) -> dict[str, float]:
    seconds: Counter[str] = Counter()
    for thread in psutil.Process(pid).threads():
        with suppress(FileNotFoundError):
            name = Path(f"/proc/{pid}/task/{thread.id}/comm").read_text(encoding="utf-8").strip()
            seconds[_kind_of_thread(name, is_main=thread.id == pid)] += thread.user_time + thread.system_time
    return dict(seconds)


def _kind_of_thread(name: str, *, is_main: bool) -> str:
    if is_main:
        return "event loop"
    if name.startswith("rdk:"):
        return "librdkafka: fetch and parse"
    if name.startswith("rocksdb"):
        return "RocksDB: flush and compact"
    return "other Python threads (fetch, watchdog)"


def by_stage(lines: Sequence[str]) -> dict[str, float]:
    """Return each stage's share of the samples that py-spy wrote, the largest first."""
    counts: Counter[str] = Counter()
    for stack, count in _stacks(lines):
        counts[stage_of(stack)] += count
    total = max(1, counts.total())
    return {stage: round(count / total, 4) for stage, count in counts.most_common()}


def _stacks(lines: Sequence[str]) -> Iterator[tuple[list[str], int]]:
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if count.isdigit():
            yield stack.split(";"), int(count)


def stage_of(stack: Sequence[str]) -> str:
    """Return the stage of the innermost frame that belongs to one."""
    for frame in reversed(stack):
        for pattern, stage in _RULES:
            if re.search(pattern, frame):
                return stage
    return "other"


def table(samples: Mapping[str, Any]) -> list[str]:
    """Return both views in Markdown."""
    threads, stages = samples["cpu_us_per_add_by_thread"], samples["share_of_samples"]
    lines = [f"A worker drained a backlog in runs of {samples['records_per_run']:,} records on the average.", ""]
    lines += ["| Thread of a draining worker | CPU per add |", "|---|---|"]
    lines += [f"| {name} | {us:.2f} us |" for name, us in sorted(threads.items(), key=lambda item: -item[1])]
    lines += ["", "| What it was doing in Python | of the samples |", "|---|---|"]
    return lines + [f"| {stage} | {share:.1%} |" for stage, share in stages.items()]
