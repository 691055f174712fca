"""What may be wrong with a setup: one finding a check, with the cure. It looks, as a viewer; nothing is written, joined or committed."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Final, Literal

from confluent_kafka import KafkaException, TopicCollection, libversion
from confluent_kafka.admin import AclOperation

from wait_for_me.codec import decode_command
from wait_for_me.commands import Add
from wait_for_me.errors import ConfigurationError, InvalidCommand, NotReady, WaitForMeError
from wait_for_me.partitioner import partition_for
from wait_for_me_app import topics
from wait_for_me_app.settings import Settings
from wait_for_me_app.views.asking import Server
from wait_for_me_app.views.output import span
from wait_for_me_app.web.log_reader import SeenRecord, bounds, new_consumer, read_range

TIMEOUT_S: Final = 8.0
SAMPLE_A_PARTITION: Final = 500
SKEW_TOLERATED_S: Final = 2.0
Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What one check has found."""

    check: str
    verdict: Verdict
    says: str
    cure: str = ""

    def members(self) -> dict[str, str]:
        """Return it for JSON."""
        return asdict(self)


def examine(settings: Settings) -> list[Finding]:
    """Run every check; one that cannot be made is a finding too. Without Kafka there is nothing more to look at there."""
    findings = [_versions()]
    reach = _safely("kafka", lambda: _kafka(settings))
    findings += reach
    if reach[-1].verdict != "fail":
        for name, check in (
            ("topics", _topics),
            ("rights", _rights),
            ("commands", _commands),
            ("executors", _executors),
        ):
            findings += _safely(name, lambda check=check: check(settings))  # type: ignore[misc]
    findings += _safely("workers", lambda: _workers(settings))
    return findings


def _safely(name: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(check())
    except (WaitForMeError, KafkaException, TimeoutError) as error:
        text = str(error.args[0].str()) if isinstance(error, KafkaException) else str(error) or "no answer in time"
        return [
            Finding(
                check=name,
                verdict="fail",
                says=text if text.endswith(".") else f"{text}.",
                cure="" if isinstance(error, (NotReady, ConfigurationError)) else "Mend this first.",
            )
        ]


def _versions() -> Finding:
    known = [f"{name} {_version(name)}" for name in ("kafka-wait-for-me", "faust-streaming", "aiokafka", "rocksdict")]
    return Finding(
        check="versions",
        verdict="ok",
        says=f"{', '.join(known)}, librdkafka {libversion()[0]}, Python {platform.python_version()}",
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _kafka(settings: Settings) -> Iterator[Finding]:
    started = time.monotonic()
    try:
        cluster = topics.admin_client(settings).list_topics(timeout=TIMEOUT_S)
    except KafkaException as error:
        raise NotReady(
            f"No broker answers at {settings.bootstrap_servers} ({error.args[0].str()}). Check WAIT_FOR_ME_BOOTSTRAP_SERVERS, the network, and "
            "WAIT_FOR_ME_KAFKA_SECURITY_PROTOCOL."
        ) from error
    brokers, took = len(cluster.brokers), time.monotonic() - started
    yield Finding(
        check="kafka",
        verdict="ok",
        says=f"{brokers} broker{'s' if brokers != 1 else ''} at {settings.bootstrap_servers}, answered in {span(took)}",
    )
    if brokers < settings.replication_factor:
        yield Finding(
            check="kafka",
            verdict="warn" if settings.unsafe else "fail",
            says=f"{brokers} brokers cannot hold {settings.replication_factor} copies.",
            cure="Add brokers, or lower WAIT_FOR_ME_REPLICATION_FACTOR.",
        )
    if settings.unsafe:
        yield Finding(
            check="kafka", verdict="warn", says="WAIT_FOR_ME_UNSAFE lets one copy do.", cure="Unset it in production."
        )


def _topics(settings: Settings) -> Iterator[Finding]:
    problems = topics.check(settings)
    for problem in problems:
        yield Finding(check="topics", verdict="fail", says=problem.message, cure=f"Run: {problem.remedy}")
    if not problems:
        yield Finding(
            check="topics",
            verdict="ok",
            says=f"the six topics of {settings.prefix} are as they must be, {settings.partitions} partitions each",
        )


_NEEDED: Final = {
    "commands": "RW",
    "fires": "RW",
    "outcomes": "RW",
    "changelog": "RW",
    "commands_dead_letters": "RW",
    "fires_dead_letters": "RW",
}


def _rights(settings: Settings) -> Iterator[Finding]:
    names = [getattr(settings.topics, name) for name in _NEEDED]
    admin = topics.admin_client(settings)  # held: an answer never comes to a client that is gone
    answers = admin.describe_topics(
        TopicCollection(names), include_authorized_operations=True, request_timeout=TIMEOUT_S
    )
    lacking = []
    for name, answer in answers.items():
        allowed = answer.result(TIMEOUT_S + 2).authorized_operations
        if allowed is None:
            continue  # a broker without an authorizer allows everything, and says nothing
        lacking += [
            f"{wanted.name} on {name}"
            for wanted in (AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE)
            if not {wanted, AclOperation.ALL} & set(allowed)
        ]
    if lacking:
        yield Finding(
            check="rights",
            verdict="fail",
            says=f"Not allowed: {', '.join(lacking)}.",
            cure="Grant them with kafka-acls.sh to the user of this deployment.",
        )
    else:
        yield Finding(check="rights", verdict="ok", says="this user may read and write all six topics")


def _commands(settings: Settings) -> Iterator[Finding]:
    """Look at the newest commands: do their producers partition as we do, and is what they wait for longer than the log is kept?"""
    sample = _sample(settings)
    keyed = [record for record in sample if record.key]
    misplaced = [
        record for record in keyed if partition_for(record.key or b"", settings.partitions) != record.partition
    ]
    if misplaced:
        one = misplaced[-1]
        yield Finding(
            check="partitioner",
            verdict="warn",
            says=f"{len(misplaced)} of the newest {len(keyed)} commands lie on a wrong partition (partition {one.partition}, offset {one.offset}); each costs a detour.",
            cure="Set partitioner=murmur2_random in the producer that sent them (librdkafka's default is another).",
        )
    else:
        yield Finding(check="partitioner", verdict="ok", says=f"the newest {len(keyed)} commands lie where they belong")
    yield _waits(settings, keyed)


def _sample(settings: Settings) -> list[SeenRecord]:
    found: list[SeenRecord] = []
    with closing(new_consumer(settings)) as consumer:
        for partition in range(settings.partitions):
            low, high = bounds(consumer, settings.topics.commands, partition)
            give_up_at = time.monotonic() + 2
            found += read_range(
                consumer,
                settings.topics.commands,
                partition,
                max(low, high - SAMPLE_A_PARTITION),
                high,
                go_on=lambda end=give_up_at: time.monotonic() < end,  # type: ignore[misc]
            )
    return found


def _waits(settings: Settings, records: list[SeenRecord]) -> Finding:
    longest_ms = max((add.wait_ms for add in map(_add_of, records) if add is not None), default=0)
    existing = topics.read(settings, topics.admin_client(settings)).get(settings.topics.commands)
    kept_ms = int(existing.config.get("retention.ms", "-1")) if existing else -1
    return judge_waits(settings, longest_ms=longest_ms, kept_ms=kept_ms)


def judge_waits(settings: Settings, *, longest_ms: int, kept_ms: int) -> Finding:
    """Compare the longest wait in use with what commands are kept for, and with what the settings say of it."""
    if 0 <= kept_ms < longest_ms:
        return Finding(
            check="retention",
            verdict="warn",
            says=f"Groups wait up to {span(longest_ms / 1000)}, and commands are kept {span(kept_ms / 1000)}: such waits end as they must, but their "
            "history is cut, and they cannot be folded again if the changelog is lost.",
            cure=f"Raise retention.ms of {settings.topics.commands} to {longest_ms} or more.",
        )
    if longest_ms > settings.longest_group_wait_seconds * 1000:
        return Finding(
            check="retention",
            verdict="warn",
            says=f"Groups wait up to {span(longest_ms / 1000)}, and WAIT_FOR_ME_LONGEST_GROUP_WAIT_SECONDS says {span(settings.longest_group_wait_seconds)}.",
            cure=f"Set it to {math.ceil(longest_ms / 1000)} or more; `wait-for-me topics check` then says whether commands are kept long enough.",
        )
    return Finding(
        check="retention",
        verdict="ok",
        says=f"commands are kept longer than groups wait ({span(longest_ms / 1000)} at most, lately)",
    )


def _add_of(record: SeenRecord) -> Add | None:
    try:
        command = decode_command(record.key, record.value, record.headers)
    except InvalidCommand:
        return None
    return command if isinstance(command, Add) else None


def _executors(settings: Settings) -> Iterator[Finding]:
    group = settings.topics.executor_group
    admin = topics.admin_client(settings)
    answer = admin.describe_consumer_groups([group], request_timeout=TIMEOUT_S)[group]
    try:
        members = len(answer.result(TIMEOUT_S + 2).members)
    except KafkaException:
        members = 0
    if members:
        yield Finding(
            check="executors", verdict="ok", says=f"{members} executor{'s' if members != 1 else ''} in {group}"
        )
    else:
        yield Finding(
            check="executors",
            verdict="warn",
            says="No executor runs, so nothing that fires is done here.",
            cure="Start one: wait-for-me executor --callbacks MODULE. Fine if services act themselves.",
        )


def _workers(settings: Settings) -> Iterator[Finding]:
    server = Server(settings, timeout_s=TIMEOUT_S)
    before_ms = time.time() * 1000
    answer: dict[str, Any] = server.get("/api/v1/partitions")
    meta = answer["meta"]
    skew_s = abs(meta["now_ms"] - (before_ms + time.time() * 1000) / 2) / 1000
    if meta["missing_partitions"]:
        why = "; ".join(f"{one['url']}: {one['why']}" for one in meta["silent"]) or "nobody has them"
        yield Finding(
            check="workers",
            verdict="fail",
            says=f"Partitions {meta['missing_partitions']} are not answered for ({why}).",
            cure="Look at these workers' logs, and at WAIT_FOR_ME_WEB_URL.",
        )
    else:
        yield Finding(
            check="workers",
            verdict="ok",
            says=f"{meta['workers_answered']} of {meta['workers_known']} answered for all {len(answer['partitions'])} partitions",
        )
    lag = sum(one["lag"] or 0 for one in answer["partitions"])
    yield Finding(
        check="lag",
        verdict="ok" if lag < 10_000 else "warn",
        says=f"{lag} commands are not folded yet",
        cure="" if lag < 10_000 else "Add workers, up to one a partition.",
    )
    yield Finding(
        check="clock",
        verdict="ok" if skew_s <= SKEW_TOLERATED_S else "warn",
        says=f"this machine and the brokers differ by {span(skew_s)}; deadlines follow the brokers",
        cure=""
        if skew_s <= SKEW_TOLERATED_S
        else "Synchronise the clocks (chrony, NTP), or times in logs will mislead.",
    )
