"""The audit of a real deployment on a real Kafka: clean while it works, and not fooled when its topics are spoilt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition

import witness_callbacks
from logs import Sender, read_topic
from processes import wait_until
from wait_for_me_app import topics as topic_tools
from wait_for_me_app.audit.findings import Report
from wait_for_me_app.auditing.deployment import Patience, audit
from wait_for_me_app.exit_codes import ExitCode

STRICT = Patience(settle_ms=0, skew_ms=0)


def a_little_of_everything(sender: Sender) -> None:
    """Groups that complete, time out, are removed and wait on; misplaced and bad commands."""
    for number in range(20):
        for participant in range(3):
            sender.add(f"full-{number}", f"p{participant}", of=3, wait=60)
        sender.add(f"slow-{number}", "p0", of=3, wait=0.5)
        sender.add(f"gone-{number}", "p0", of=3, wait=1)
        sender.remove(f"gone-{number}")
    for participant in range(30):
        sender.add("many", f"p{participant}", of=100, wait=3600)
    for partition in range(4):
        sender.add("stray", f"p{partition}", of=4, wait=60, partition=partition)
    sender.send(b"not json", b"x")
    sender.send(None, b"x")
    sender.flush()


def settled(deployment: Any, fires: int) -> Report:
    """Return the audit's report when all that is due is there; fail with the last one if it does not come."""
    last = [Report()]

    def all_there() -> bool:
        last[0] = audit(deployment.settings, STRICT)
        return last[0].verdict == "clean" and last[0].found == fires and not last[0].pending

    wait_until(all_there, 60, lambda: f"{last[0].members(0)}")
    return last[0]


@pytest.fixture
def worked(deployment: Any) -> Any:
    """A deployment whose worker has done all of it."""
    deployment.start_worker().wait_for_output("worker_ready")
    a_little_of_everything(Sender(deployment))
    settled(deployment, 41)
    return deployment


def test_a_healthy_deployment_is_clean_while_it_works_and_after(deployment: Any) -> None:
    """Judged again and again amid the work, with the usual grace: never accused. Then strictly, outcomes included."""
    deployment.start_worker().wait_for_output("worker_ready")
    sender = Sender(deployment)
    for _ in range(3):
        a_little_of_everything(sender)
        assert audit(deployment.settings).counts == {}
    path = os.pathsep.join([str(Path(witness_callbacks.__file__).parent), os.environ.get("PYTHONPATH", "")])
    witness = {witness_callbacks.WITNESS: str(deployment.directory / "witness"), "PYTHONPATH": path}
    deployment.start_executor("witness_callbacks", **witness)

    def ended() -> bool:
        report = audit(deployment.settings, Patience(settle_ms=0, outcome_ms=0, asks_for_outcomes=True, skew_ms=0))
        return report.verdict == "clean" and report.pending == 0 and report.timeout >= 20

    wait_until(ended, 60)
    report = settled(deployment, audit(deployment.settings).found)
    assert report.dead_letters == 6
    assert report.warnings == []
    assert max(report.lateness_ms) < 60_000


def test_a_forged_a_changed_and_a_misplaced_record_are_found(worked: Any) -> None:
    """Whoever may write to a topic can spoil it; each is named by its code and its place."""
    topics, log = worked.settings.topics, read_topic(worked.settings.bootstrap_servers, worked.settings.topics.fires)
    fire = next(one for one in log if b'"slow-' in (one.value or b""))
    changed = (fire.value or b"").replace(b'"arrived_count":1', b'"arrived_count":2')
    forged = (fire.value or b"").replace(
        json.loads(changed)["fire_id"].encode(), b"fire_00000000-0000-5000-8000-000000000000"
    )
    producer = Producer({"bootstrap.servers": worked.settings.bootstrap_servers})
    for value in (changed, forged):
        producer.produce(topics.fires, value, fire.key, partition=fire.partition)
    producer.produce(topics.outcomes, b"{", b"nonsense", partition=0)
    assert producer.flush(10) == 0
    report = audit(worked.settings, STRICT)
    assert report.counts == {"wrong_fire": 1, "double_fire": 1, "ghost_fire": 1, "unreadable_record": 1}
    assert {one.partition for one in report.findings if one.topic == topics.fires} == {fire.partition}


def test_fires_that_were_never_written_are_lost(deployment: Any) -> None:
    """The rows say that they were: a worker of this project that wrote its fires elsewhere."""
    deployment.start_worker().wait_for_output("worker_ready")
    topics = deployment.settings.topics
    a_little_of_everything(Sender(deployment))
    settled(deployment, 41)
    producer = Producer({"bootstrap.servers": deployment.settings.bootstrap_servers})
    log = read_topic(deployment.settings.bootstrap_servers, topics.fires)
    deployment.admin.delete_topics([topics.fires])[topics.fires].result(30)
    wait_until(lambda: topics.fires not in deployment.admin.list_topics(timeout=10).topics)
    topic_tools.apply(
        deployment.settings,
        topic_tools.plan(deployment.settings, topic_tools.read(deployment.settings, deployment.admin)),
        deployment.admin,
    )
    missing = next(one for one in log if b'"full-' in (one.value or b""))
    for one in log:
        if one is not missing:
            producer.produce(topics.fires, one.value, one.key, partition=one.partition)
    assert producer.flush(10) == 0
    report = audit(deployment.settings, STRICT)
    assert report.counts == {"lost_fire": 1}
    assert report.findings[0].group_key == (missing.key or b"").decode()


def test_a_log_without_its_beginning_is_judged_in_part(worked: Any) -> None:
    """Retention has taken the first commands: a warning, and no accusation; the command line agrees."""
    commands = worked.settings.topics.commands
    worked.admin.delete_records([TopicPartition(commands, 0, 5)])
    wait_until(lambda: audit(worked.settings, STRICT).truncated == {0})
    done = subprocess.run(
        [sys.executable, "-m", "wait_for_me_app", "audit", "--json", "--settle", "0"],
        env=worked.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    document = json.loads(done.stdout)
    assert (done.returncode, document["verdict"], document["counts"]) == (ExitCode.OK, "clean", {})
    assert [(one["code"], one["partition"], one["offset"]) for one in document["warnings"]] == [("log_truncated", 0, 5)]
