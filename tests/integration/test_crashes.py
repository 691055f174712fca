"""Workers that die, come back, or come back too late, on a real Kafka; the reference fold is the judge."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

import witness_callbacks
from logs import Judge, Sender, eventually, read_topic
from processes import wait_until

READY = "worker_ready"
TESTS = str(Path(__file__).parent.parent)
GROUPS = 4000
PARTICIPANTS = 5


def send_rounds(sender: Sender, groups: range, *, wait: float = 600) -> None:
    """Send all adds of these groups, participant by participant, so that many rounds are open at once."""
    for start in range(groups.start, groups.stop, 250):
        for participant in range(PARTICIPANTS):
            for group in range(start, min(start + 250, groups.stop)):
                sender.add(f"group-{group}", f"web-{participant}", of=PARTICIPANTS, wait=wait)
    sender.flush()


def outcomes_of(deployment: Any) -> dict[bytes, tuple[str, ...]]:
    """Return, by fire_id, the states of all its final outcomes in order."""
    states: dict[bytes, tuple[str, ...]] = {}
    for record in read_topic(deployment.settings.bootstrap_servers, deployment.settings.topics.outcomes):
        if record.key and record.value and not record.key.endswith(b"/progress"):
            states[record.key] = (*states.get(record.key, ()), msgspec.json.decode(record.value)["state"])
    return states


@pytest.mark.parametrize("wipe", [False, True], ids=["store kept", "store wiped"])
def test_three_kills_of_one_of_two_workers_lose_nothing(deployment: Any, wipe: bool, tmp_path: Path) -> None:
    """20,000 adds in 4,000 groups, SIGKILL three times: every group fires, no group has two different fires, every callback runs once."""
    sender, witness = Sender(deployment), tmp_path / "witness"
    deployment.start_executor(
        "witness_callbacks",
        PYTHONPATH=os.pathsep.join(filter(None, [TESTS, os.environ.get("PYTHONPATH")])),
        WAIT_FOR_ME_TEST_WITNESS=str(witness),
    )
    short = {"WAIT_FOR_ME_SESSION_TIMEOUT_MS": "6000"}
    steady = deployment.start_worker("steady", **short)
    victim = deployment.start_worker("victim", **short)
    for worker in (steady, victim):
        worker.wait_for_output(READY)
    for kill in range(3):
        share = GROUPS // 4
        send_rounds(sender, range(kill * share, (kill + 1) * share))
        victim.kill()
        if wipe:
            shutil.rmtree(deployment.directory / "data" / "victim", ignore_errors=True)
        victim = deployment.start_worker("victim", **short)
    send_rounds(sender, range(3 * (GROUPS // 4), GROUPS))
    verdict = Judge(deployment).wait_until_settled(90)
    assert verdict.is_right, verdict.ghosts[:2]
    assert (verdict.expected, verdict.reasons) == (GROUPS, {"complete": GROUPS})
    eventually(lambda: len(outcomes_of(deployment)), GROUPS, timeout=60)
    assert set(outcomes_of(deployment).values()) == {("done",)}
    runs = Counter(line.fire_id for line in witness_callbacks.read(witness) if line.what == "note")
    assert (len(runs), set(runs.values())) == (GROUPS, {1})


@pytest.mark.parametrize("point", ["K1", "K4", "K3", "K6"])
def test_a_kill_at_a_named_point_loses_nothing(deployment: Any, point: str, tmp_path: Path) -> None:
    """SIGKILL exactly between two effects, three times at each place."""
    sender, hits = Sender(deployment), tmp_path / "hits"
    hits.touch()
    for passes, first in zip((1, 2, 3), (0, 200, 400), strict=True):
        send_rounds(sender, range(first, first + 200))
        armed = deployment.start_worker(
            WAIT_FOR_ME_TEST_BUILD="1",
            WAIT_FOR_ME_TEST_CRASH_AT=f"{point}:{passes}",
            WAIT_FOR_ME_TEST_CRASH_LOG=str(hits),
            WAIT_FOR_ME_SESSION_TIMEOUT_MS="6000",
        )
        sender.add(f"tail-{first}", "web-0", of=2, wait=0.5)
        wait_until(lambda w=armed: w.exit_code is not None, 40, armed.tail)
        assert armed.exit_code == -signal.SIGKILL, armed.tail()
    assert [line.split()[0] for line in hits.read_text().splitlines()] == [point] * 3
    deployment.start_worker(WAIT_FOR_ME_SESSION_TIMEOUT_MS="6000").wait_for_output(READY)
    verdict = Judge(deployment).wait_until_settled(60)
    assert verdict.is_right, verdict.ghosts[:2]
    assert verdict.reasons == {"complete": 600, "timeout": 3}


def test_a_worker_paused_past_its_session_timeout_ends_by_itself(deployment: Any) -> None:
    """A zombie that wakes up sends nothing more; its successor has long taken over."""
    sender = Sender(deployment)
    short = {"WAIT_FOR_ME_SESSION_TIMEOUT_MS": "6000"}
    zombie = deployment.start_worker("zombie", **short)
    zombie.wait_for_output(READY)
    send_rounds(sender, range(200))
    zombie.signal(signal.SIGSTOP)
    for participant in range(PARTICIPANTS - 1):
        sender.add("late", f"web-{participant}", of=PARTICIPANTS, wait=1)
    sender.flush()
    successor = deployment.start_worker("successor", **short)
    verdict = Judge(deployment).wait_until_settled(60)
    zombie.signal(signal.SIGCONT)
    assert zombie.wait(20) == 70
    assert "loop_stood_still" in zombie.output()
    send_rounds(sender, range(200, 400))
    verdict = Judge(deployment).wait_until_settled(60)
    assert verdict.is_right
    assert successor.exit_code is None


def test_rows_of_a_foreign_writer_are_written_over(deployment: Any) -> None:
    """An old row that lands in the changelog behind the owner's back is healed before it can be restored."""
    from confluent_kafka import Producer

    sender = Sender(deployment)
    worker = deployment.start_worker()
    worker.wait_for_output(READY)
    for participant in range(PARTICIPANTS - 1):
        sender.add("group-1", f"web-{participant}", of=PARTICIPANTS, wait=60)
    sender.flush()
    settings = deployment.settings
    wait_until(lambda: any(row.key and row.key[:1] == b"G" for row in changelog(deployment)), 20, worker.tail)
    oldest = next(row for row in changelog(deployment) if row.key and row.key[:1] == b"G")
    foreign = Producer({"bootstrap.servers": settings.bootstrap_servers})
    foreign.produce(
        settings.topics.changelog,
        key=oldest.key,
        value=oldest.value,
        partition=oldest.partition,
        headers=list(oldest.headers),
    )
    assert foreign.flush(10) == 0
    worker.wait_for_output("foreign_writer_healed")
    worker.kill()
    shutil.rmtree(deployment.directory / "data", ignore_errors=True)
    deployment.start_worker("w2").wait_for_output(READY)
    sender.add("group-1", f"web-{PARTICIPANTS - 1}", of=PARTICIPANTS, wait=60)
    sender.flush()
    verdict = Judge(deployment).wait_until_settled(30)
    assert verdict.is_right
    assert verdict.reasons == {"complete": 1}


def changelog(deployment: Any) -> list[Any]:
    """Return the changelog's records."""
    return read_topic(deployment.settings.bootstrap_servers, deployment.settings.topics.changelog)
