"""Workers that die while they take lanes over, or between a deadline and its tick, on a real Kafka; the reference fold is the judge."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from logs import Judge, Sender
from processes import wait_until

GROUPS = 200
SESSION = {"WAIT_FOR_ME_SESSION_TIMEOUT_MS": "6000"}


@pytest.mark.parametrize(
    ("point", "passes"), [("K7", (1, 2, 3)), ("K8", (1, 1, 1)), ("K9", (1, 1, 1))], ids=["K7", "K8", "K9"]
)
def test_a_kill_during_a_take_over_or_before_a_tick_loses_nothing(
    deployment: Any, point: str, passes: tuple[int, ...], tmp_path: Path
) -> None:
    """Each of three workers in a row dies there, with rows to restore and a deadline that has passed; the fourth makes it good."""
    sender, hits = Sender(deployment), tmp_path / "hits"
    hits.touch()
    for group in range(GROUPS):
        sender.add(f"group-{group}", "web-0", of=2, wait=600)
    sender.flush()
    first = deployment.start_worker(**SESSION)
    first.wait_for_output("worker_ready")
    sender.add("all-read", "web-0", of=1, wait=600)
    sender.flush()
    Judge(deployment).wait_until_settled(40)
    first.kill()
    for time, count in enumerate(passes):
        shutil.rmtree(deployment.directory / "data")  # so that there is something to restore
        sender.add(f"tail-{time}", "web-0", of=2, wait=0.5)
        sender.flush()
        armed = deployment.start_worker(
            WAIT_FOR_ME_TEST_BUILD="1",
            WAIT_FOR_ME_TEST_CRASH_AT=f"{point}:{count}",
            WAIT_FOR_ME_TEST_CRASH_LOG=str(hits),
            **SESSION,
        )
        wait_until(lambda w=armed: w.exit_code is not None, 40, armed.tail)
        assert armed.exit_code == -signal.SIGKILL, armed.tail()
    assert [line.split()[0] for line in hits.read_text().splitlines()] == [point] * 3
    deployment.start_worker(**SESSION).wait_for_output("worker_ready")
    for group in range(GROUPS):
        sender.add(f"group-{group}", "web-1", of=2, wait=600)
    sender.flush()
    verdict = Judge(deployment).wait_until_settled(60)
    assert verdict.is_right, verdict.ghosts[:2]
    assert verdict.reasons == {"complete": GROUPS + 1, "timeout": 3}
