"""The worker as it is, with a thread beside it that notes how it fares: `faust -A benchmarks.observed_worker worker`.

A line of JSON every quarter of a second, into the file that BENCH_OBSERVATIONS names: how far each lane has folded, and the longest
that the event loop has stood still since the line before.
"""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any, TextIO

from wait_for_me_app.worker import Worker, app, worker

__all__ = ["app"]

INTERVAL_SECONDS = 0.25


def observe(observed: Worker, path: str) -> None:
    """Write a line at every interval until the process ends."""
    with open(path, "a", encoding="utf-8") as lines:
        while True:
            time.sleep(INTERVAL_SECONDS)
            _write(lines, _line(observed))


def _line(observed: Worker) -> dict[str, Any]:
    watchdog, lanes = observed.watchdog, observed.lanes
    stall, watchdog.longest_stall_seconds = watchdog.longest_stall_seconds, 0.0
    by_partition = lanes.by_partition.copy()
    return {
        "at_ms": time.time() * 1000,
        "stall_ms": round(stall * 1000, 1),
        "ready": lanes.is_ready,
        "take_over_s": lanes.taken_over_in_seconds,
        "watermarks": {partition: lane.watermark for partition, lane in by_partition.items()},
        "runs": sum(lane.counts.runs for lane in by_partition.values()),
    }


def _write(lines: TextIO, line: dict[str, Any]) -> None:
    lines.write(json.dumps(line) + "\n")
    lines.flush()


if path := os.environ.get("BENCH_OBSERVATIONS"):
    threading.Thread(target=observe, args=(worker, path), name="observer", daemon=True).start()
