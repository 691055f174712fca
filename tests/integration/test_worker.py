"""A real Faust worker on a real Kafka: what goes in, what comes out, and what never happens."""

from __future__ import annotations

import signal
import socket
from typing import Any

import msgspec
import pytest

from logs import Judge, Sender, eventually, read_topic

READY = "worker_ready"


@pytest.fixture
def sender(deployment: Any) -> Sender:
    """A service that sends commands to the deployment."""
    return Sender(deployment)


def fires_of(deployment: Any) -> list[dict[str, Any]]:
    """Return the fires as JSON objects."""
    settings = deployment.settings
    return [
        msgspec.json.decode(record.value or b"")
        for record in read_topic(settings.bootstrap_servers, settings.topics.fires)
    ]


def dead_letters_of(deployment: Any) -> list[tuple[str, str, bytes | None]]:
    """Return stage, code and value of each dead letter of the commands topic."""
    settings = deployment.settings
    letters = read_topic(settings.bootstrap_servers, settings.topics.commands_dead_letters)
    headers = [(dict(letter.headers), letter.value) for letter in letters]
    return [(found["wfm_stage"].decode(), found["wfm_error"].decode(), value) for found, value in headers]


def test_six_of_six_complete_and_five_of_six_time_out_and_a_removed_group_stays_silent(
    deployment: Any, sender: Sender
) -> None:
    """The seed's scenario: a fire when all have come, a fire with what is missing when one has not, none after a remove."""
    deployment.start_worker().wait_for_output(READY)
    for number in range(6):
        sender.add("deploy-1", f"web-{number}", of=6, wait=60)
    for number in range(5):
        sender.add("deploy-2", f"web-{number}", of=6, wait=1)
    sender.add("deploy-3", "web-0", of=2, wait=1)
    sender.remove("deploy-3")
    sender.flush()
    eventually(
        lambda: sorted((f["group_key"], f["reason"], f["missing_count"]) for f in fires_of(deployment)), SEEDS_FIRES
    )
    assert Judge(deployment).verdict().is_right


SEEDS_FIRES = [("deploy-1", "complete", 0), ("deploy-2", "timeout", 1)]


def test_what_cannot_be_read_is_set_aside_and_the_next_record_is_handled(deployment: Any, sender: Sender) -> None:
    """Bad input is a dead letter with its bytes and a code; the line does not stop."""
    deployment.start_worker().wait_for_output(READY)
    bad: list[tuple[Any, bytes | None, str]] = [
        (b"\xff\xfe garbage", b"g", "not_utf8"),
        (b"{not json", b"g", "not_json"),
        (b"[1]", b"g", "not_an_object"),
        (None, b"g", "null_value"),
        ({"type": "explode", "group_key": "g"}, b"g", "unknown_type"),
        ({"type": "add", "group_key": "g"}, b"g", "missing_field"),
        ({"type": "remove", "group_key": "g"}, None, "null_key"),
        ({"type": "remove", "group_key": "g"}, b"", "null_key"),
        ({"type": "remove", "group_key": "g"}, b"other", "key_mismatch"),
        (b'{"type":"remove","group_key":"g","x":' + b"[" * 5000 + b"]" * 5000 + b"}", b"g", "too_deep"),
    ]
    for value, key, _ in bad:
        sender.send(value, key)
    sender.add("g", "web-1", of=1, wait=60)
    sender.flush()
    eventually(lambda: sorted(code for _, code, _ in dead_letters_of(deployment)), sorted(code for _, _, code in bad))
    eventually(lambda: [fire["reason"] for fire in fires_of(deployment)], ["complete"])
    raw = [value for value, _, _ in bad if isinstance(value, bytes)]
    assert set(raw) <= {value for _, _, value in dead_letters_of(deployment)}


def test_a_command_on_the_wrong_partition_is_sent_on_once_and_counted_at_home(deployment: Any, sender: Sender) -> None:
    """A producer with another partitioner does not split a group."""
    deployment.start_worker().wait_for_output(READY)
    for partition in range(4):
        sender.add("split", f"web-{partition}", of=4, wait=60, partition=partition)
    sender.flush()
    eventually(lambda: [(fire["group_key"], fire["arrived_count"]) for fire in fires_of(deployment)], [("split", 4)])
    assert dead_letters_of(deployment) == []
    assert Judge(deployment).verdict().is_right


def test_a_worker_ends_by_itself_on_sigterm_and_its_successor_goes_on(deployment: Any, sender: Sender) -> None:
    """SIGTERM drains and exits 0 within ten seconds; open rounds wait in the changelog."""
    first = deployment.start_worker()
    first.wait_for_output(READY)
    sender.add("half", "web-1", of=2, wait=60)
    sender.flush()
    first.signal(signal.SIGTERM)
    assert first.wait(10) == 0
    sender.add("half", "web-2", of=2, wait=60)
    sender.flush()
    deployment.start_worker("w2").wait_for_output(READY)
    eventually(
        lambda: [(f["group_key"], f["reason"], f["arrived_count"]) for f in fires_of(deployment)],
        [("half", "complete", 2)],
    )


def test_deadlines_that_passed_while_nobody_worked_fire_as_the_log_has_it(deployment: Any, sender: Sender) -> None:
    """After an outage a group that timed out fires as timeout, one that completed in time as complete."""
    worker = deployment.start_worker()
    worker.wait_for_output(READY)
    sender.add("lonely", "web-1", of=2, wait=1)
    sender.add("punctual", "web-1", of=2, wait=1)
    sender.flush()
    worker.kill()
    sender.add("punctual", "web-2", of=2, wait=1)
    sender.flush()
    judge = Judge(deployment)
    deployment.start_worker().wait_for_output(READY)
    eventually(lambda: sorted((f["group_key"], f["reason"]) for f in fires_of(deployment)), OUTAGE_FIRES)
    assert judge.verdict().is_right


OUTAGE_FIRES = [("lonely", "timeout"), ("punctual", "complete")]


@pytest.mark.parametrize("offset_seconds", [3600, -3600])
def test_a_worker_whose_clock_is_an_hour_off_fires_neither_early_nor_never(
    deployment: Any, sender: Sender, offset_seconds: int
) -> None:
    """Only the broker's clock counts."""
    worker = deployment.start_worker(**with_clock_off_by(offset_seconds))
    worker.wait_for_output(READY)
    sender.add("slow", "web-1", of=2, wait=2)
    sender.add("quick", "web-1", of=2, wait=30)
    sender.flush()
    eventually(lambda: [fire["group_key"] for fire in fires_of(deployment)], ["slow"])
    sender.add("quick", "web-2", of=2, wait=30)
    sender.flush()
    eventually(lambda: [fire["reason"] for fire in fires_of(deployment)], ["timeout", "complete"])
    assert Judge(deployment).verdict().is_right
    records = {
        record.key: record
        for record in read_topic(deployment.settings.bootstrap_servers, deployment.settings.topics.fires)
    }
    slow = next(fire for fire in fires_of(deployment) if fire["group_key"] == "slow")
    assert records[b"slow"].timestamp_ms >= _ms(slow["deadline_at"])


def with_clock_off_by(seconds: int) -> dict[str, str]:
    """Return an environment in which `time.time()` of a child is wrong by so much."""
    import os
    from pathlib import Path

    directory = str(Path(__file__).parent.parent / "wrong_clock")
    path = os.pathsep.join(filter(None, [directory, os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "WAIT_FOR_ME_TEST_CLOCK_OFFSET_SECONDS": str(seconds)}


def _ms(rfc3339: str) -> int:
    from datetime import datetime

    return round(datetime.fromisoformat(rfc3339).timestamp() * 1000)


def test_fausts_own_command_runs_the_worker_without_fausts_web_server(deployment: Any, sender: Sender) -> None:
    """`faust -A wait_for_me_app.worker worker` does the same job; Faust's page with every table on every address stays off."""
    import sys

    from processes import Running

    command = [
        sys.executable,
        "-m",
        "faust",
        "-A",
        "wait_for_me_app.worker",
        "worker",
        "-l",
        "info",
        "--web-port",
        "16066",
    ]
    worker = Running(command, log=deployment.directory / "faust.log", env=deployment.environment())
    deployment.processes.append(worker)
    worker.wait_for_output(READY)
    sender.add("g", "web-1", of=1, wait=60)
    sender.flush()
    eventually(lambda: [fire["reason"] for fire in fires_of(deployment)], ["complete"])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", 16066), timeout=2)
