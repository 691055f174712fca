"""Topics on a real Kafka: created as they must be, refused as they must not be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from processes import wait_until
from wait_for_me.errors import ConfigurationError
from wait_for_me_app import cli, topics
from wait_for_me_app.settings import Settings

if TYPE_CHECKING:
    from conftest import Deployment

Run = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def run(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `wait-for-me topics ...` for the deployment: exit code, stdout, stderr."""

    def command(*arguments: str, prefix: str | None = None) -> tuple[int, str, str]:
        flags = ("-b", deployment.settings.bootstrap_servers, "--prefix", prefix or deployment.settings.prefix)
        cluster = ("--partitions", "4", "--replication-factor", "1", "--unsafe")
        code = cli.main(("topics", *arguments, *flags, *cluster))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return command


def alter(deployment: Deployment, topic: str, config: Mapping[str, str]) -> None:
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()]
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
    deployment.admin.incremental_alter_configs([resource])[resource].result(timeout=10)
    # the controller has answered; the broker learns of it a moment later
    wait_until(lambda: config.items() <= topics.read(deployment.settings, deployment.admin)[topic].config.items(), 10)


def test_what_create_has_made_is_accepted_and_there_is_nothing_left_to_plan(deployment: Deployment, run: Run) -> None:
    """create, check and plan agree on a real broker, defaults of the broker included."""
    assert topics.check(deployment.settings, deployment.admin) == ()
    assert run("check")[0] == 0
    code, out, _ = run("plan", "--json")
    assert (code, json.loads(out)) == (0, {"create": [], "problems": []})
    assert run("create")[0] == 0, "creating again changes nothing"


def test_create_makes_what_plan_announces(deployment: Deployment, run: Run) -> None:
    """A second deployment on the same cluster starts from nothing: plan tells, check refuses, create makes."""
    other = f"{deployment.settings.prefix}-2"
    code, out, _ = run("plan", "--json", prefix=other)
    planned = [topic["name"] for topic in json.loads(out)["create"]]
    assert (code, len(planned)) == (0, 6)
    code, out, _ = run("check", "--json", prefix=other)
    assert (code, {problem["code"] for problem in json.loads(out)["problems"]}) == (78, {"missing_topic"})
    code, out, _ = run("create", "--json", prefix=other)
    assert (code, json.loads(out)) == (0, {"created": planned, "problems": []})
    assert run("check", prefix=other)[0] == 0


def test_kafka_holds_every_setting_that_was_asked_for(deployment: Deployment) -> None:
    """What is read back from the broker is what was wanted, name by name."""
    existing = topics.read(deployment.settings, deployment.admin)
    for topic in topics.wanted_topics(deployment.settings):
        there = existing[topic.name]
        assert (there.partitions, there.replication_factor) == (4, 1)
        assert {name: there.config[name] for name in topic.config} == dict(topic.config)


def test_a_cluster_that_was_changed_is_refused_with_each_problem(deployment: Deployment, run: Run) -> None:
    """Producers' time on commands, deletion on the changelog: found by their codes, by the tool and by the worker."""
    names = deployment.settings.topics
    alter(deployment, names.commands, {"message.timestamp.type": "CreateTime", "max.message.bytes": "1000"})
    alter(deployment, names.changelog, {"cleanup.policy": "delete", "min.compaction.lag.ms": "0"})
    code, out, _ = run("check", "--json")
    found = {(problem["topic"], problem["code"]) for problem in json.loads(out)["problems"]}
    assert code == 78
    assert found == {
        (names.commands, "timestamp_type"),
        (names.commands, "max_message_bytes"),
        (names.changelog, "cleanup_policy"),
        (names.changelog, "min_compaction_lag"),
    }
    with pytest.raises(ConfigurationError, match=r"\[timestamp_type\].*kafka-configs\.sh"):
        topics.refuse_unfit_cluster(deployment.settings, deployment.admin)


def test_neither_worker_nor_executor_starts_on_a_cluster_that_breaks_a_promise(deployment: Deployment) -> None:
    """Both end with 78, because a restart would not help, and print the command that mends it."""
    alter(deployment, deployment.settings.topics.commands, {"message.timestamp.type": "CreateTime"})
    processes = [deployment.start_worker(), deployment.start_executor("wait_for_me_app.demo.callbacks")]
    for process in processes:
        assert process.wait(60) == 78, process.tail()
        assert "[timestamp_type]" in process.output()
        assert "--add-config message.timestamp.type=LogAppendTime" in process.output()


def test_fausts_own_command_is_kept_from_a_running_workers_directory(deployment: Deployment) -> None:
    """`faust -A wait_for_me_app.worker worker` reads the same settings and respects the same lock."""
    holder = deployment.start_worker("w1")
    holder.wait_for_output("worker_ready", 60)
    environment = deployment.environment(WAIT_FOR_ME_DATA_DIR=str(deployment.directory / "data" / "w1"))
    command = [sys.executable, "-m", "faust", "-A", "wait_for_me_app.worker", "worker", "-l", "info"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 78, done.stderr
    assert f"belongs to the running worker with process id {holder.pid}" in done.stderr
    assert holder.stop() == 0


def test_one_copy_is_refused_unless_the_deployment_says_unsafe(deployment: Deployment) -> None:
    """The same topics, judged by the settings of production."""
    safe = Settings(
        bootstrap_servers=deployment.settings.bootstrap_servers, prefix=deployment.settings.prefix, partitions=4
    )
    codes = {problem.code for problem in topics.check(safe, deployment.admin)}
    assert codes == {"min_insync_replicas", "replication_factor"}


def test_more_copies_than_brokers_are_refused_with_the_setting_to_lower(deployment: Deployment) -> None:
    """The broker's own message says what it has; ours says what to do."""
    greedy = Settings(bootstrap_servers=deployment.settings.bootstrap_servers, prefix="t-greedy", replication_factor=9)
    with pytest.raises(ConfigurationError, match="Lower WAIT_FOR_ME_REPLICATION_FACTOR"):
        topics.apply(greedy, topics.plan(greedy, {}), deployment.admin)


def test_the_identity_of_a_topic_changes_when_it_is_made_anew(deployment: Deployment) -> None:
    """A watermark belongs to one incarnation of the commands topic; its id is how a worker knows."""
    first = topics.describe_commands_topic(deployment.settings, deployment.admin)
    assert isinstance(first.topic_id, UUID)
    assert first.partitions == 4
    name = deployment.settings.topics.commands
    deployment.admin.delete_topics([name])[name].result(timeout=10)
    wait_until(lambda: name not in topics.read(deployment.settings, deployment.admin), 10)
    existing = topics.read(deployment.settings, deployment.admin)
    topics.apply(deployment.settings, topics.plan(deployment.settings, existing), deployment.admin)
    again = topics.describe_commands_topic(deployment.settings, deployment.admin)
    assert again.topic_id != first.topic_id
    assert again.topic_id == topics.topic_id(deployment.settings, name, deployment.admin)


def test_the_extent_of_the_commands_follows_what_is_written_and_deleted(deployment: Deployment) -> None:
    """Earliest and next offset of every partition, as retention and producers move them."""
    from confluent_kafka import Producer, TopicPartition

    name = deployment.settings.topics.commands
    producer = Producer(deployment.settings.librdkafka())
    for partition, count in enumerate((3, 0, 1, 0)):
        for _ in range(count):
            producer.produce(name, b"{}", partition=partition)
    assert producer.flush(10) == 0
    deletion = TopicPartition(name, 0, 2)
    deployment.admin.delete_records([deletion])[deletion].result(timeout=10)
    found = topics.describe_commands_topic(deployment.settings, deployment.admin)
    assert found.earliest_offsets == (2, 0, 0, 0)
    assert found.latest_offsets == (3, 0, 1, 0)


def test_the_broker_stamps_its_own_time_on_commands(deployment: Deployment) -> None:
    """A producer with a clock in the year 2100 changes nothing."""
    from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, Producer, TopicPartition

    name = deployment.settings.topics.commands
    producer = Producer(deployment.settings.librdkafka())
    producer.produce(name, b"{}", partition=0, timestamp=4_102_444_800_000)
    assert producer.flush(10) == 0
    consumer = Consumer({**deployment.settings.librdkafka(), "group.id": "t", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(name, 0, 0)])
    [message] = consumer.consume(1, timeout=10)
    consumer.close()
    kind, stamp = message.timestamp()
    assert (kind, stamp < 4_000_000_000_000) == (TIMESTAMP_LOG_APPEND_TIME, True)


def test_the_embedded_broker_is_described_too(embedded_kafka: str) -> None:
    """It has no topic ids and no settings; the demo's worker asks all the same."""
    settings = Settings(bootstrap_servers=embedded_kafka, partitions=4, replication_factor=1, demo_broker=True)
    admin = topics.admin_client(settings)
    admin.list_topics(settings.topics.commands, timeout=10)
    found = topics.describe_commands_topic(settings, admin)
    assert (found.partitions, found.latest_offsets) == (4, (0, 0, 0, 0))
    assert found.topic_id == topics.topic_id(settings, settings.topics.commands, admin)
    assert found.topic_id != topics.topic_id(settings, settings.topics.fires, admin)
