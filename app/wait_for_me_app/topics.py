"""The topics of a deployment: what they must be like, what is missing or wrong, and the command that mends it.

The guarantees rest on topic settings that Kafka does not have by default: broker time on every record, two copies before
an acknowledgement, a changelog that is compacted and everything else not. A cluster that differs would not fail; it would
lose or repeat something much later. So the worker refuses it at start, with one sentence and one command a problem.

`plan` is pure: (settings, what exists) -> what to create and what is wrong. `read`, `apply` and `check` are the thin part
that talks to Kafka. Nothing here ever alters or deletes a topic: that is the operator's to decide.
"""

from __future__ import annotations

import math
import shlex
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from wait_for_me.errors import ConfigurationError, NotReady
from wait_for_me.kafka_properties import for_consumer, for_producer
from wait_for_me_app.settings import DEFAULT_LONGEST_GROUP_WAIT_SECONDS

if TYPE_CHECKING:
    from concurrent.futures import Future

    from confluent_kafka import KafkaError
    from confluent_kafka.admin import AdminClient, OffsetSpec

    from wait_for_me_app.settings import Settings

HOUR_MS = 60 * 60 * 1000
DAY_MS = 24 * HOUR_MS
COMMANDS_MAX_BYTES = 1_048_588  # Kafka's default: the limit counts batches, and any producer's default batch must pass
"""Room for a record of 256 KiB, its key, its headers and Kafka's framing."""
OTHERS_MAX_BYTES = 4 * 1024 * 1024
"""Room for a fire that names a thousand participants, and for a batch with all rows of one group."""
MIN_COMPACTION_LAG_MS = HOUR_MS
"""While a paused worker can still come back, both versions of a row must stay readable."""
DELETE_RETENTION_MS = 24 * HOUR_MS
"""A local store that is older than half of this is wiped, because the tombstones that it missed may be gone."""
LONGEST_RETRY_MS = 7 * DAY_MS
"""The longest time that a callback is retried; until then, and after, a repeated fire must find its outcome."""

_TIMEOUT_S = 10.0
_FOREVER = -1

Code = Literal[
    "missing_topic",
    "partition_count",
    "replication_factor",
    "min_insync_replicas",
    "timestamp_type",
    "cleanup_policy",
    "retention",
    "retention_bytes",
    "max_message_bytes",
    "min_compaction_lag",
    "delete_retention",
    "unclean_election",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedTopic:
    """A topic as `topics create` makes it, and the least that `topics check` accepts."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]
    retention_at_least_ms: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ExistingTopic:
    """A topic as Kafka describes it; `config` holds the values in force, defaults included."""

    name: str
    partitions: int
    replication_factor: int
    config: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong: a stable code, a sentence for people, and the command that mends it."""

    code: Code
    topic: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.message} Run: {self.remedy}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What `topics create` would do, and what it cannot do."""

    create: tuple[WantedTopic, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandsTopic:
    """Identity and extent of the commands topic, by which a worker knows that its watermark still belongs to it."""

    topic_id: UUID
    partitions: int
    earliest_offsets: tuple[int, ...]
    latest_offsets: tuple[int, ...]


# --- what the topics must be like ------------------------------------------------------------------------------------


# A record of an earlier executor that lands late must not be all that compaction leaves: the lag keeps both readable.
_OUTCOMES_CONFIG = {"cleanup.policy": "compact,delete", "min.compaction.lag.ms": "3600000"}


def wanted_topics(settings: Settings) -> tuple[WantedTopic, ...]:
    """Return the six topics of a deployment.

    What must fit into the retention of commands and fires is the longest time that all workers, or all executors, are away.
    Open rounds live in the changelog and not in the commands. But the commands are what a lost changelog is folded from
    again, and what a group's history is read from: they are kept as long as groups wait.
    """
    names, longest_ms = settings.topics, _longest_wait_ms(settings)
    deleted = {"cleanup.policy": "delete", "retention.bytes": "-1"}
    commands_ms, fires_ms = max(7 * DAY_MS, longest_ms), 7 * DAY_MS
    commands = {**deleted, "retention.ms": str(commands_ms)}
    outcomes_ms = max(30 * DAY_MS, commands_ms + fires_ms + LONGEST_RETRY_MS)
    return (
        _wanted(settings, names.commands, commands, max(DAY_MS, longest_ms), max_message_bytes=COMMANDS_MAX_BYTES),
        _wanted(settings, names.changelog, _CHANGELOG_CONFIG, None),
        _wanted(settings, names.fires, {**deleted, **_kept(7)}, DAY_MS),
        # The retention of outcomes is judged against the fires and commands that are there: `_retention_problems`.
        _wanted(settings, names.outcomes, {**deleted, **_OUTCOMES_CONFIG, "retention.ms": str(outcomes_ms)}, 0),
        _wanted(settings, names.commands_dead_letters, {**deleted, **_kept(30)}, 7 * DAY_MS),
        _wanted(settings, names.fires_dead_letters, {**deleted, **_kept(30)}, 7 * DAY_MS),
    )


def _longest_wait_ms(settings: Settings) -> int:
    return math.ceil(settings.longest_group_wait_seconds * 1000)


_CHANGELOG_CONFIG: Mapping[str, str] = MappingProxyType(
    {
        "cleanup.policy": "compact",
        "min.compaction.lag.ms": str(MIN_COMPACTION_LAG_MS),
        "delete.retention.ms": str(DELETE_RETENTION_MS),
        # The open segment is never compacted, and a restore reads it whole: small segments keep a restore short.
        "segment.bytes": str(128 * 1024 * 1024),
    }
)


def _kept(days: int) -> dict[str, str]:
    return {"retention.ms": str(days * DAY_MS)}


def _wanted(
    settings: Settings,
    name: str,
    config: Mapping[str, str],
    retention_at_least_ms: int | None,
    *,
    max_message_bytes: int = OTHERS_MAX_BYTES,
) -> WantedTopic:
    common = {
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(settings.min_insync_replicas),
        "max.message.bytes": str(max_message_bytes),
        "unclean.leader.election.enable": "false",
    }
    return WantedTopic(
        name=name,
        partitions=settings.partitions,
        replication_factor=settings.replication_factor,
        config={**common, **config},
        retention_at_least_ms=retention_at_least_ms,
    )


# --- what is missing and what is wrong (pure) ------------------------------------------------------------------------


def plan(settings: Settings, existing: Mapping[str, ExistingTopic]) -> Plan:
    """Compare the topics that a deployment needs with those that exist."""
    wanted = wanted_topics(settings)
    missing = tuple(topic for topic in wanted if topic.name not in existing)
    pairs = [(topic, existing[topic.name]) for topic in wanted if topic.name in existing]
    problems = [*_partition_problems(settings, [there for _, there in pairs])]
    for topic, there in pairs:
        problems += _durability_problems(settings, topic, there)
        problems += _time_problems(settings, topic, there)
        problems += _cleanup_problems(settings, topic, there)
        problems += _size_problems(settings, topic, there)
        problems += _retention_problems(settings, topic, there, existing)
    return Plan(create=missing, problems=tuple(problems))


def problems_of(plan: Plan, settings: Settings) -> tuple[Problem, ...]:
    """Return everything that keeps a worker from starting: missing topics first, then those that differ."""
    missing = (_missing(settings, topic) for topic in plan.create)
    return (*missing, *plan.problems)


def _missing(settings: Settings, topic: WantedTopic) -> Problem:
    return Problem(
        code="missing_topic",
        topic=topic.name,
        message=f"Topic {topic.name} does not exist, and nothing here relies on topics that create themselves.",
        remedy=_create_command(settings),
    )


def _partition_problems(settings: Settings, topics: list[ExistingTopic]) -> Iterator[Problem]:
    """All topics have one partition count, for ever: a group has the same partition number in each."""
    counts = {topic.partitions for topic in topics}
    for topic in topics:
        if topic.partitions == settings.partitions:
            continue
        yield Problem(
            code="partition_count",
            topic=topic.name,
            message=f"Topic {topic.name} has {topic.partitions} partitions where this deployment has {settings.partitions}"
            " (WAIT_FOR_ME_PARTITIONS); the count of a deployment cannot change.",
            remedy=f"export WAIT_FOR_ME_PARTITIONS={topic.partitions}" if len(counts) == 1 else _new_prefix(settings),
        )


def _new_prefix(settings: Settings) -> str:
    return f"{_create_command(settings, prefix=settings.prefix + '-2')}  # the topics disagree: start a new deployment"


def _durability_problems(settings: Settings, topic: WantedTopic, there: ExistingTopic) -> Iterator[Problem]:
    min_insync, replicas = _number(there, "min.insync.replicas", 1), there.replication_factor
    if min_insync > replicas:
        message = f"Topic {there.name} wants {min_insync} copies in sync and has {replicas}, so no write can succeed."
        yield _differs(settings, topic, "min_insync_replicas", message)
    elif min_insync < 2 and not settings.unsafe:
        message = (
            f"Topic {there.name} acknowledges a record that one broker alone has, so that broker's death loses it."
        )
        yield _differs(settings, topic, "min_insync_replicas", message)
    if replicas < settings.replication_factor and not settings.unsafe:
        yield _too_few_replicas(settings, there)
    if there.config.get("unclean.leader.election.enable") == "true":
        message = f"Topic {there.name} may elect a leader that lacks acknowledged records."
        yield _differs(settings, topic, "unclean_election", message)


def _too_few_replicas(settings: Settings, there: ExistingTopic) -> Problem:
    return Problem(
        code="replication_factor",
        topic=there.name,
        message=f"Topic {there.name} has {there.replication_factor} replicas where this deployment wants "
        f"{settings.replication_factor} (WAIT_FOR_ME_REPLICATION_FACTOR).",
        remedy=f"kafka-reassign-partitions.sh --bootstrap-server {settings.bootstrap_servers} --execute "
        f"--reassignment-json-file {there.name}.json  # with {settings.replication_factor} replicas for each partition",
    )


def _time_problems(settings: Settings, topic: WantedTopic, there: ExistingTopic) -> Iterator[Problem]:
    if there.config.get("message.timestamp.type") != "LogAppendTime":
        message = f"Topic {there.name} takes the time from producers, so one fast clock would end everybody's wait."
        yield _differs(settings, topic, "timestamp_type", message)


def _cleanup_problems(settings: Settings, topic: WantedTopic, there: ExistingTopic) -> Iterator[Problem]:
    wanted, actual = topic.config["cleanup.policy"], there.config.get("cleanup.policy", "delete")
    if _policies(actual) != _policies(wanted):
        message = f"Topic {there.name} has cleanup.policy={actual} and needs {wanted}: {_WHY_CLEANUP[wanted]}."
        yield _differs(settings, topic, "cleanup_policy", message)
    if wanted == "compact":
        yield from _compaction_problems(settings, topic, there)


def _policies(text: str) -> set[str]:
    return {policy.strip() for policy in text.split(",")}


_WHY_CLEANUP: Mapping[str, str] = MappingProxyType(
    {
        "delete": "compaction would drop records that nobody has read yet",
        "compact": "deletion by age would drop the rows of groups that are still open",
        "compact,delete": "outcomes are looked up by key, and would otherwise be kept for ever or lost",
    }
)


def _compaction_problems(settings: Settings, topic: WantedTopic, there: ExistingTopic) -> Iterator[Problem]:
    if _number(there, "min.compaction.lag.ms", 0) < MIN_COMPACTION_LAG_MS:
        message = f"Topic {there.name} may compact away a row, within the hour, that a paused worker has overwritten."
        yield _differs(settings, topic, "min_compaction_lag", message)
    if _number(there, "delete.retention.ms", DELETE_RETENTION_MS) < DELETE_RETENTION_MS:
        message = (
            f"Topic {there.name} drops tombstones within a day, so a worker that was away would keep deleted rows."
        )
        yield _differs(settings, topic, "delete_retention", message)


def _size_problems(settings: Settings, topic: WantedTopic, there: ExistingTopic) -> Iterator[Problem]:
    needed, actual = int(topic.config["max.message.bytes"]), _number(there, "max.message.bytes", 1_048_588)
    if actual < needed:
        message = (
            f"Topic {there.name} refuses batches above {actual} bytes, and a producer may send them up to {needed}."
        )
        yield _differs(settings, topic, "max_message_bytes", message)


def _retention_problems(
    settings: Settings, topic: WantedTopic, there: ExistingTopic, existing: Mapping[str, ExistingTopic]
) -> Iterator[Problem]:
    if topic.retention_at_least_ms is None:
        return
    needed, why = topic.retention_at_least_ms, "who is away for longer would find a gap"
    if topic.name == settings.topics.commands and needed > DAY_MS:
        why = "groups wait up to so long (WAIT_FOR_ME_LONGEST_GROUP_WAIT_SECONDS), and are folded again from it if the changelog is lost"
    if topic.name == settings.topics.outcomes:
        needed, why = _outcomes_retention(settings, existing), "a late copy of a fire would run its callback again"
    actual = _number(there, "retention.ms", 7 * DAY_MS)
    if _is_shorter(actual, needed):
        message = f"Topic {there.name} keeps records {_days(actual)} and must keep them {_days(needed)}: {why}."
        usual = int(topic.config["retention.ms"])
        yield _differs(settings, topic, "retention", message, value=needed if _is_shorter(usual, needed) else usual)
    if _number(there, "retention.bytes", _FOREVER) != _FOREVER:
        message = f"Topic {there.name} also drops records by size, so nobody can say how long they are kept."
        yield _differs(settings, topic, "retention_bytes", message)


def _outcomes_retention(settings: Settings, existing: Mapping[str, ExistingTopic]) -> int:
    """An outcome must outlive every copy of its fire: commands + fires, as they are kept here, + the longest retry."""
    before = [existing[name] for name in (settings.topics.commands, settings.topics.fires) if name in existing]
    kept = [_number(topic, "retention.ms", 7 * DAY_MS) for topic in before]
    return _FOREVER if _FOREVER in kept else sum(kept) + LONGEST_RETRY_MS


def _is_shorter(actual: int, needed: int) -> bool:
    return actual != _FOREVER and (needed == _FOREVER or actual < needed)


def _days(milliseconds: int) -> str:
    return "for ever" if milliseconds == _FOREVER else f"for {milliseconds / DAY_MS:g} days"


def _number(topic: ExistingTopic, name: str, default: int) -> int:
    return int(topic.config.get(name, default))


_PROPERTY: Mapping[Code, str] = MappingProxyType(
    {
        "min_insync_replicas": "min.insync.replicas",
        "timestamp_type": "message.timestamp.type",
        "cleanup_policy": "cleanup.policy",
        "retention": "retention.ms",
        "retention_bytes": "retention.bytes",
        "max_message_bytes": "max.message.bytes",
        "min_compaction_lag": "min.compaction.lag.ms",
        "delete_retention": "delete.retention.ms",
        "unclean_election": "unclean.leader.election.enable",
    }
)


def _differs(settings: Settings, topic: WantedTopic, code: Code, message: str, *, value: int | None = None) -> Problem:
    """Return a problem that one `kafka-configs.sh` mends."""
    wanted = topic.config[_PROPERTY[code]] if value is None else str(value)
    wanted = f"[{wanted}]" if "," in wanted else wanted  # the tool takes a bare comma for the next property
    remedy = (
        f"kafka-configs.sh --bootstrap-server {shlex.quote(settings.bootstrap_servers)} --alter --entity-type topics "
        f"--entity-name {topic.name} --add-config {shlex.quote(f'{_PROPERTY[code]}={wanted}')}"
    )
    return Problem(code=code, topic=topic.name, message=message, remedy=remedy)


def _create_command(settings: Settings, *, prefix: str | None = None) -> str:
    command = ["wait-for-me", "topics", "create", "--bootstrap-servers", settings.bootstrap_servers]
    command += ["--prefix", prefix or settings.prefix, "--partitions", str(settings.partitions)]
    command += ["--replication-factor", str(settings.replication_factor), *(["--unsafe"] if settings.unsafe else [])]
    if settings.longest_group_wait_seconds != DEFAULT_LONGEST_GROUP_WAIT_SECONDS:
        command += ["--longest-group-wait", f"{settings.longest_group_wait_seconds:.10g}"]
    return shlex.join(command)


# --- talking to Kafka ------------------------------------------------------------------------------------------------


def admin_client(settings: Settings) -> AdminClient:
    """Return a confluent-kafka admin client for these settings."""
    from confluent_kafka.admin import AdminClient

    quiet = {"log_level": 0, "reconnect.backoff.max.ms": 1000}  # what goes wrong comes back as an exception, once
    properties = settings.librdkafka(client_id="wait-for-me-topics")
    return AdminClient({**quiet, **for_consumer(for_producer(properties))})


def read(settings: Settings, admin: AdminClient) -> dict[str, ExistingTopic]:
    """Describe those topics of the deployment that exist."""
    from confluent_kafka.admin import ConfigResource

    wanted = [topic.name for topic in wanted_topics(settings)]
    with _kafka_errors(settings):
        there = {name: topic for name, topic in admin.list_topics(timeout=_TIMEOUT_S).topics.items() if name in wanted}
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in there]
        answers = admin.describe_configs(resources, request_timeout=_TIMEOUT_S) if resources else {}
        configs = {resource.name: _in_force(answer) for resource, answer in answers.items()}
    return {name: _existing(name, there[name], config) for name, config in configs.items() if config is not None}


def _in_force(answer: Future[Mapping[str, Any]]) -> dict[str, str] | None:
    """Return a topic's settings, defaults included; None if it has been deleted since it was listed."""
    from confluent_kafka import KafkaException

    try:
        return {name: entry.value for name, entry in answer.result().items() if entry.value is not None}
    except KafkaException as error:
        if error.args[0].name() == "UNKNOWN_TOPIC_OR_PART":
            return None
        raise


def _existing(name: str, topic: Any, config: Mapping[str, str]) -> ExistingTopic:
    replicas = min((len(partition.replicas) for partition in topic.partitions.values()), default=0)
    return ExistingTopic(name=name, partitions=len(topic.partitions), replication_factor=replicas, config=config)


def apply(settings: Settings, plan: Plan, admin: AdminClient) -> tuple[str, ...]:
    """Create the missing topics, wait until Kafka serves them, and return their names.

    A topic that somebody else creates in the same moment is left as it is; `check` judges it.
    """
    from confluent_kafka.admin import NewTopic

    new = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=topic.replication_factor,
            config=dict(topic.config),
        )
        for topic in plan.create
    ]
    names = tuple(topic.name for topic in plan.create)
    with _kafka_errors(settings):
        created = admin.create_topics(new, operation_timeout=_TIMEOUT_S) if new else {}
        for answer in created.values():
            _result_unless_there(answer)
        _wait_until_served(admin, plan.create)
    return names


def _result_unless_there(answer: Future[None]) -> None:
    from confluent_kafka import KafkaException

    try:
        answer.result()
    except KafkaException as error:
        if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
            raise


def _wait_until_served(admin: AdminClient, topics: Iterable[WantedTopic]) -> None:
    """The controller answers before the brokers know: wait until each partition has a leader."""
    give_up_at = time.monotonic() + _TIMEOUT_S
    waiting = {topic.name for topic in topics}
    while waiting:
        served = admin.list_topics(timeout=_TIMEOUT_S).topics
        waiting = {name for name in waiting if name not in served or not _has_leaders(served[name])}
        if waiting and time.monotonic() > give_up_at:
            raise NotReady(
                f"Topics {sorted(waiting)} exist but have no leader yet. Look at the brokers, then run it again."
            )
        if waiting:
            time.sleep(0.05)


def _has_leaders(topic: Any) -> bool:
    return bool(topic.partitions) and all(partition.leader >= 0 for partition in topic.partitions.values())


def check(settings: Settings, admin: AdminClient | None = None) -> tuple[Problem, ...]:
    """Return what keeps a worker from running on this cluster; nothing on the demo's embedded broker, which has no settings."""
    if settings.demo_broker:
        return ()
    existing = read(settings, admin or admin_client(settings))
    return problems_of(plan(settings, existing), settings)


def refuse_unfit_cluster(settings: Settings, admin: AdminClient | None = None) -> None:
    """Raise ConfigurationError with every problem and its command, if there is one."""
    if problems := check(settings, admin):
        lines = "\n".join(f"  [{problem.code}] {problem}" for problem in problems)
        raise ConfigurationError(f"The topics of {settings.prefix} cannot carry this deployment's promises:\n{lines}")


def describe_commands_topic(settings: Settings, admin: AdminClient | None = None) -> CommandsTopic:
    """Return the identity, the partition count and the first and next offsets of the commands topic.

    Leaders that move meanwhile are followed for some seconds: a broker's restart must not look like a lost log.
    """
    client, give_up_at = admin or admin_client(settings), time.monotonic() + _TIMEOUT_S
    while True:
        try:
            with _kafka_errors(settings):
                return _describe(settings, client)
        except LeadersMove:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.1)


def _describe(settings: Settings, admin: AdminClient) -> CommandsTopic:
    from confluent_kafka.admin import OffsetSpec

    name = settings.topics.commands
    found, partitions = _identity(settings, name, admin)
    earliest = _offsets(admin, name, partitions, OffsetSpec.earliest())
    latest = _offsets(admin, name, partitions, OffsetSpec.latest())
    return CommandsTopic(topic_id=found, partitions=partitions, earliest_offsets=earliest, latest_offsets=latest)


def topic_id(settings: Settings, name: str, admin: AdminClient) -> UUID:
    """Return the identity of a topic, which changes when it is deleted and created again."""
    with _kafka_errors(settings):
        return _identity(settings, name, admin)[0]


def _identity(settings: Settings, name: str, admin: AdminClient) -> tuple[UUID, int]:
    """Return a topic's id and its partition count."""
    from confluent_kafka import TopicCollection

    if settings.demo_broker:  # it has no ids, and does not answer when asked: the name stands for the topic
        partitions = admin.list_topics(name, timeout=_TIMEOUT_S).topics[name].partitions
        return uuid5(NAMESPACE_URL, f"kafka-topic:{name}"), len(partitions)
    description = admin.describe_topics(TopicCollection([name]), request_timeout=_TIMEOUT_S)[name].result()
    return _as_uuid(str(description.topic_id)), len(description.partitions)


def _as_uuid(kafka_id: str) -> UUID:
    """Kafka writes the 16 bytes of an id in base64, without the padding."""
    return UUID(bytes=urlsafe_b64decode(f"{kafka_id}=="))


def _offsets(admin: AdminClient, topic: str, partitions: int, which: OffsetSpec) -> tuple[int, ...]:
    from confluent_kafka import TopicPartition

    answers = admin.list_offsets(
        {TopicPartition(topic, n): which for n in range(partitions)}, request_timeout=_TIMEOUT_S
    )
    found = {partition.partition: answer.result().offset for partition, answer in answers.items()}
    return tuple(found[n] for n in range(partitions))


class LeadersMove(NotReady):
    """Partitions change their leaders right now; the same question has an answer a moment later."""


_OUT_OF_REACH = frozenset({"_TRANSPORT", "_TIMED_OUT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_TIMED_OUT_QUEUE"})
_LEADERS_MOVE = frozenset(  # beside what every failover brings, see broker_failover.py
    {"NOT_CONTROLLER", "FENCED_LEADER_EPOCH", "UNKNOWN_LEADER_EPOCH", "COORDINATOR_LOAD_IN_PROGRESS"}
)


@contextmanager
def _kafka_errors(settings: Settings) -> Iterator[None]:
    """Turn confluent-kafka's one exception into ours: out of reach (try again), or refused (change something)."""
    from confluent_kafka import KafkaException

    try:
        yield
    except KafkaException as exception:
        raise _as_ours(settings, exception.args[0]) from exception


def _as_ours(settings: Settings, error: KafkaError) -> NotReady | ConfigurationError:
    from wait_for_me_app.broker_failover import PASSING

    is_out_of_reach = error.name() in _OUT_OF_REACH
    if not is_out_of_reach and (error.code() in PASSING or error.name() in _LEADERS_MOVE):
        return LeadersMove(f"Kafka is moving partitions ({error.str()}). Try again when the brokers have settled.")
    if is_out_of_reach or error.retriable():
        return NotReady(
            f"No answer from Kafka at {settings.bootstrap_servers} ({error.str()}). "
            "Check WAIT_FOR_ME_BOOTSTRAP_SERVERS and that a broker runs there, then try again."
        )
    return ConfigurationError(f"Kafka refused: {error.str().rstrip('.')}. {_remedy_for(error.name())}")


def _remedy_for(error_name: str) -> str:
    if error_name == "INVALID_REPLICATION_FACTOR":
        return "Lower WAIT_FOR_ME_REPLICATION_FACTOR to the number of brokers; below 3 it needs WAIT_FOR_ME_UNSAFE=1."
    if error_name.endswith("AUTHORIZATION_FAILED"):
        return "Grant Describe, DescribeConfigs and Create on topics with this prefix and dlq.<prefix>, or ask who may."
    return "Change what it names and run `wait-for-me topics plan` again."
