"""What the topics of a deployment must be like: a pure comparison of what is needed with what is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

import pytest
from confluent_kafka import KafkaError

from wait_for_me.errors import ConfigurationError, NotReady
from wait_for_me_app import callbacks, topics
from wait_for_me_app.broker_failover import PASSING
from wait_for_me_app.settings import Settings
from wait_for_me_app.topics import DAY_MS, HOUR_MS, ExistingTopic, Problem, plan, problems_of, wanted_topics

SETTINGS = Settings()
COMMANDS, FIRES = "wait-for-me.commands", "wait-for-me.fires"
OUTCOMES, CHANGELOG = "wait-for-me.outcomes", "wait-for-me-groups-changelog"


def as_created(settings: Settings = SETTINGS) -> dict[str, ExistingTopic]:
    """Return the topics as `topics create` makes them."""
    return {
        topic.name: ExistingTopic(
            name=topic.name,
            partitions=topic.partitions,
            replication_factor=topic.replication_factor,
            config=topic.config,
        )
        for topic in wanted_topics(settings)
    }


def with_config(name: str, *, settings: Settings = SETTINGS, **changes: str) -> dict[str, ExistingTopic]:
    existing = as_created(settings)
    config = {**existing[name].config, **{key.replace("_", "."): value for key, value in changes.items()}}
    return {**existing, name: replace(existing[name], config=config)}


def problems(existing: Mapping[str, ExistingTopic], settings: Settings = SETTINGS) -> tuple[Problem, ...]:
    return problems_of(plan(settings, existing), settings)


def only(existing: Mapping[str, ExistingTopic], settings: Settings = SETTINGS) -> Problem:
    found = problems(existing, settings)
    assert len(found) == 1, found
    return found[0]


def test_an_empty_cluster_needs_all_six_topics_of_the_design() -> None:
    """Names, policies and keeping times are those that the promises rest on."""
    config = {topic.name: topic.config for topic in plan(SETTINGS, {}).create}
    assert list(config) == [COMMANDS, CHANGELOG, FIRES, OUTCOMES, f"dlq.{COMMANDS}", f"dlq.{FIRES}"]
    assert {name: one["cleanup.policy"] for name, one in config.items()} == {
        COMMANDS: "delete",
        CHANGELOG: "compact",
        FIRES: "delete",
        OUTCOMES: "compact,delete",
        f"dlq.{COMMANDS}": "delete",
        f"dlq.{FIRES}": "delete",
    }
    days = {name: int(one["retention.ms"]) // DAY_MS for name, one in config.items() if "retention.ms" in one}
    assert days == {COMMANDS: 7, FIRES: 7, OUTCOMES: 30, f"dlq.{COMMANDS}": 30, f"dlq.{FIRES}": 30}
    assert {name: one["max.message.bytes"] for name, one in config.items() if name != COMMANDS} == dict.fromkeys(
        set(config) - {COMMANDS}, "4194304"
    )
    assert config[COMMANDS]["max.message.bytes"] == "1048588"


def test_every_topic_has_broker_time_and_two_copies_in_sync() -> None:
    """LogAppendTime and min.insync.replicas=2 are not for the commands alone."""
    for topic in wanted_topics(SETTINGS):
        assert topic.config["message.timestamp.type"] == "LogAppendTime"
        assert topic.config["min.insync.replicas"] == "2"
        assert (topic.partitions, topic.replication_factor) == (12, 3)


def test_what_create_makes_check_accepts() -> None:
    """The plan never complains of its own work, in a safe deployment or an unsafe one."""
    unsafe = Settings(partitions=4, replication_factor=1, unsafe=True)
    assert problems(as_created()) == ()
    assert problems(as_created(unsafe), unsafe) == ()


def test_a_missing_topic_is_a_problem_with_the_command_that_makes_it() -> None:
    """The command repeats the settings, so it can be pasted anywhere."""
    unsafe = Settings(prefix="dev", partitions=4, replication_factor=1, unsafe=True)
    existing = {name: topic for name, topic in as_created(unsafe).items() if name != "dev.fires"}
    problem = only(existing, unsafe)
    assert (problem.code, problem.topic) == ("missing_topic", "dev.fires")
    assert problem.remedy == (
        "wait-for-me topics create --bootstrap-servers localhost:9092 --prefix dev "
        "--partitions 4 --replication-factor 1 --unsafe"
    )


def test_a_partition_count_that_all_topics_share_is_told_as_the_setting_to_use() -> None:
    """The topics are right and the setting is wrong: nothing must be created anew."""
    existing = {name: replace(topic, partitions=6) for name, topic in as_created().items()}
    found = problems(existing)
    assert {problem.code for problem in found} == {"partition_count"}
    assert {problem.remedy for problem in found} == {"export WAIT_FOR_ME_PARTITIONS=6"}


def test_topics_that_disagree_on_the_count_need_a_new_deployment() -> None:
    """A group must have the same partition number everywhere, and a count cannot be changed back."""
    existing = as_created()
    existing[FIRES] = replace(existing[FIRES], partitions=6)
    existing[OUTCOMES] = replace(existing[OUTCOMES], partitions=7)
    found = problems(existing)
    assert [(problem.code, problem.topic) for problem in found] == [
        ("partition_count", FIRES),
        ("partition_count", OUTCOMES),
    ]
    assert "--prefix wait-for-me-2" in found[0].remedy


def test_one_topic_with_another_count_is_not_told_as_the_setting_to_use() -> None:
    """Following the odd one out would break the five that agree."""
    existing = as_created()
    existing[FIRES] = replace(existing[FIRES], partitions=6)
    assert "export" not in only(existing).remedy


@pytest.mark.parametrize(
    ("topic", "change", "code"),
    [
        (COMMANDS, {"message_timestamp_type": "CreateTime"}, "timestamp_type"),
        (CHANGELOG, {"message_timestamp_type": "CreateTime"}, "timestamp_type"),
        (COMMANDS, {"cleanup_policy": "compact"}, "cleanup_policy"),
        (FIRES, {"cleanup_policy": "compact,delete"}, "cleanup_policy"),
        (f"dlq.{FIRES}", {"cleanup_policy": "compact"}, "cleanup_policy"),
        (CHANGELOG, {"cleanup_policy": "delete"}, "cleanup_policy"),
        (CHANGELOG, {"cleanup_policy": "compact,delete"}, "cleanup_policy"),
        (OUTCOMES, {"cleanup_policy": "delete"}, "cleanup_policy"),
        (COMMANDS, {"min_insync_replicas": "1"}, "min_insync_replicas"),
        (COMMANDS, {"min_insync_replicas": "4"}, "min_insync_replicas"),
        (COMMANDS, {"retention_ms": str(HOUR_MS)}, "retention"),
        (f"dlq.{COMMANDS}", {"retention_ms": str(DAY_MS)}, "retention"),
        (FIRES, {"retention_bytes": "1000000"}, "retention_bytes"),
        (COMMANDS, {"max_message_bytes": "262144"}, "max_message_bytes"),
        (FIRES, {"max_message_bytes": "1048588"}, "max_message_bytes"),
        (CHANGELOG, {"min_compaction_lag_ms": "0"}, "min_compaction_lag"),
        (CHANGELOG, {"delete_retention_ms": "3600000"}, "delete_retention"),
        (COMMANDS, {"unclean_leader_election_enable": "true"}, "unclean_election"),
    ],
)
def test_a_setting_that_breaks_a_promise_is_one_problem_with_one_command(
    topic: str, change: dict[str, str], code: str
) -> None:
    """Each has a stable code and names the topic; kafka-configs.sh mends it."""
    problem = only(with_config(topic, **change))
    assert (problem.code, problem.topic) == (code, topic)
    assert problem.remedy.startswith("kafka-configs.sh --bootstrap-server localhost:9092 --alter --entity-type topics")
    assert problem.message.count(". ") == 0, "one sentence"
    assert problem.message.endswith(".")


@pytest.mark.parametrize("topic", [COMMANDS, CHANGELOG, FIRES, OUTCOMES, f"dlq.{COMMANDS}", f"dlq.{FIRES}"])
def test_the_command_of_a_problem_mends_it(topic: str) -> None:
    """Applying what the remedies say leaves nothing to complain of."""
    broken = {
        "message.timestamp.type": "CreateTime",
        "min.insync.replicas": "1",
        "max.message.bytes": "1000",
        "unclean.leader.election.enable": "true",
        "cleanup.policy": "compact" if topic != CHANGELOG else "delete",
        "min.compaction.lag.ms": "0",
        "delete.retention.ms": "0",
        "retention.ms": "1000",
        "retention.bytes": "1000",
    }
    existing = as_created()
    existing[topic] = replace(existing[topic], config=broken)
    mended = dict(broken)
    for problem in problems(existing):
        name, value = re.findall(r"--add-config '?([^=']+)=([^']+)'?$", problem.remedy)[0]
        mended[name] = value.strip("[]")
    existing[topic] = replace(existing[topic], config=mended)
    assert problems(existing) == ()


def test_a_value_with_a_comma_is_written_as_the_tool_wants_it() -> None:
    """kafka-configs.sh takes a bare comma for the start of the next property."""
    assert only(with_config(OUTCOMES, cleanup_policy="delete")).remedy.endswith("'cleanup.policy=[compact,delete]'")


def test_too_few_replicas_are_a_problem_unless_the_deployment_is_unsafe() -> None:
    """The setting says how many copies this deployment wants."""
    existing = as_created()
    existing[FIRES] = replace(existing[FIRES], replication_factor=2)
    assert only(existing).code == "replication_factor"
    unsafe = Settings(unsafe=True)
    assert problems(existing, unsafe) == ()
    assert problems(with_config(FIRES, min_insync_replicas="1"), unsafe) == ()


def test_a_topic_that_no_write_can_reach_is_a_problem_even_when_unsafe() -> None:
    """min.insync.replicas above the number of replicas refuses every record."""
    unsafe = Settings(partitions=4, replication_factor=1, unsafe=True)
    existing = with_config("wait-for-me.fires", settings=unsafe, min_insync_replicas="2")
    assert "no write can succeed" in only(existing, unsafe).message


def test_outcomes_must_outlive_commands_fires_and_the_longest_retry_as_they_are_kept() -> None:
    """Whoever keeps commands longer must keep outcomes longer, or a late copy of a fire runs its callback again."""
    found = only(with_config(COMMANDS, retention_ms=str(20 * DAY_MS)))
    assert (found.code, found.topic) == ("retention", OUTCOMES)
    assert f"retention.ms={34 * DAY_MS}" in found.remedy
    assert problems(with_config(OUTCOMES, retention_ms="-1")) == ()


def test_commands_that_are_kept_for_ever_need_outcomes_that_are() -> None:
    """-1 is longer than any number."""
    found = only(with_config(COMMANDS, retention_ms="-1"))
    assert (found.topic, found.remedy.endswith("retention.ms=-1")) == (OUTCOMES, True)


def test_the_longest_retry_is_the_one_that_callbacks_may_ask_for() -> None:
    """A policy that retries longer is refused where it is written, so outcomes are kept long enough for all."""
    assert topics.LONGEST_RETRY_MS == callbacks.LONGEST_SPAN_MS


def test_commands_are_kept_as_long_as_the_longest_wait_of_the_deployment() -> None:
    """What a lost changelog is folded from again must reach back to the opening; the setting says how far that is."""
    two_days = with_config(COMMANDS, retention_ms=str(2 * DAY_MS))
    found = only(two_days)
    assert (found.code, found.topic) == ("retention", COMMANDS)
    assert "WAIT_FOR_ME_LONGEST_GROUP_WAIT_SECONDS" in found.message
    assert f"retention.ms={7 * DAY_MS}" in found.remedy
    assert problems(two_days, Settings(longest_group_wait_seconds=2 * 86_400)) == ()
    assert only(two_days, Settings(unsafe=True)).code == "retention", "unsafe is about copies"


def test_topics_are_made_for_the_longest_wait_of_the_deployment() -> None:
    """Outcomes are then kept longer too, and the command in a remedy says the wait."""
    settings = Settings(longest_group_wait_seconds=30 * 86_400)
    made = as_created(settings)
    assert made[COMMANDS].config["retention.ms"] == str(30 * DAY_MS)
    assert made[OUTCOMES].config["retention.ms"] == str(44 * DAY_MS)
    assert problems(made, settings) == ()
    assert "--longest-group-wait 2592000" in problems({}, settings)[0].remedy


def test_the_embedded_broker_of_the_demo_is_not_judged() -> None:
    """It has no topic settings to judge; nothing is asked of it."""
    assert topics.check(Settings(demo_broker=True, replication_factor=1)) == ()


def test_a_topic_id_is_the_one_that_kafkas_own_tools_show() -> None:
    """Kafka writes ids in base64 without padding; a fire's id is made from the 16 bytes."""
    assert topics._as_uuid("B7SGMhsORYC7CO3zNt30zA") == UUID("07b48632-1b0e-4580-bb08-edf336ddf4cc")


@pytest.mark.parametrize("code", sorted(PASSING), ids=lambda code: KafkaError(code).name())
def test_what_a_brokers_death_brings_is_no_refusal(code: int) -> None:
    """A worker or an executor that starts during a failover must be started again, not given up as badly configured."""
    assert isinstance(topics._as_ours(Settings(), KafkaError(code)), NotReady)


def test_a_missing_permission_is_a_refusal() -> None:
    """Starting again does not help."""
    error = topics._as_ours(Settings(), KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    assert isinstance(error, ConfigurationError)
