"""librdkafka's properties from the environment: `WAIT_FOR_ME_KAFKA_SASL_USERNAME` is `sasl.username`.

The dangers: a setting that is dropped in silence (so a name given twice, or a secret file that cannot be read, is
an error), and a secret in a log (so whoever prints properties prints `redacted` ones). An empty variable counts as
not set, because that is how compose files and charts spell "no value".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

from .errors import ConfigurationError

DEFAULT_BOOTSTRAP_SERVERS: Final = "localhost:9092"
BOOTSTRAP_VARIABLE: Final = "WAIT_FOR_ME_BOOTSTRAP_SERVERS"
VARIABLE_PREFIX: Final = "WAIT_FOR_ME_KAFKA_"

Value = str | int | float | bool
_Any = TypeVar("_Any")

_NAMES_WITH_UNDERSCORE: Final = {"log.level": "log_level"}
_NAMES_THAT_END_WITH_FILE: Final = frozenset({
    "sasl.oauthbearer.assertion.file",
    "sasl.oauthbearer.assertion.jwt.template.file",
    "sasl.oauthbearer.assertion.private.key.file",
})  # fmt: skip

PRODUCER_ONLY: Final = frozenset({
    "acks", "batch.num.messages", "batch.size", "compression.codec", "compression.level", "compression.type",
    "delivery.report.only.error", "delivery.timeout.ms", "enable.gapless.guarantee", "enable.idempotence", "linger.ms",
    "message.send.max.retries", "message.timeout.ms", "partitioner", "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes", "queue.buffering.max.messages", "queue.buffering.max.ms", "queuing.strategy",
    "request.required.acks", "request.timeout.ms", "retries", "sticky.partitioning.linger.ms", "transaction.timeout.ms",
    "transactional.id",
})  # fmt: skip
"""What librdkafka's table of properties marks with P."""

CONSUMER_ONLY: Final = frozenset({
    "auto.commit.enable", "auto.commit.interval.ms", "auto.offset.reset", "check.crcs", "consume.callback.max.messages",
    "coordinator.query.interval.ms", "enable.auto.commit", "enable.auto.offset.store", "enable.partition.eof",
    "fetch.error.backoff.ms", "fetch.max.bytes", "fetch.message.max.bytes", "fetch.min.bytes", "fetch.queue.backoff.ms",
    "fetch.wait.max.ms", "group.id", "group.instance.id", "group.protocol", "group.protocol.type",
    "group.remote.assignor", "heartbeat.interval.ms", "isolation.level", "max.partition.fetch.bytes",
    "max.poll.interval.ms", "max.poll.records", "offset.store.method", "offset.store.path",
    "offset.store.sync.interval.ms", "partition.assignment.strategy", "queued.max.messages.kbytes",
    "queued.min.messages", "session.timeout.ms",
})  # fmt: skip
"""What librdkafka's table of properties marks with C."""

_SECRET = re.compile(r"password|secret|private\.key|key\.pem|oauthbearer\.config|jaas")


def properties_from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the environment says of Kafka; `bootstrap.servers` is always in it."""
    properties: dict[str, str] = {}
    for variable in sorted(environ):
        if variable.startswith(VARIABLE_PREFIX) and environ[variable]:
            name, value = _property(variable, environ[variable])
            if name in properties:
                raise ConfigurationError(f"{name} is set twice, the second time by {variable}: unset one of the two")
            properties[name] = value
    properties["bootstrap.servers"] = _bootstrap_servers(environ.get(BOOTSTRAP_VARIABLE), properties)
    return properties


def for_producer(properties: Mapping[str, _Any]) -> dict[str, _Any]:
    """Return the properties that mean something to a producer; what is for consumers only is left to them."""
    return {name: value for name, value in properties.items() if name not in CONSUMER_ONLY}


def for_consumer(properties: Mapping[str, _Any]) -> dict[str, _Any]:
    """Return the properties that mean something to a consumer; what is for producers only is left to them."""
    return {name: value for name, value in properties.items() if name not in PRODUCER_ONLY}


def redacted(properties: Mapping[str, object]) -> dict[str, str]:
    """Return the properties fit for a log: secrets are stars."""
    return {name: "****" if _SECRET.search(name) else str(value) for name, value in properties.items()}


def _property(variable: str, value: str) -> tuple[str, str]:
    name = variable.removeprefix(VARIABLE_PREFIX).lower().replace("_", ".")
    if name.endswith(".file") and name not in _NAMES_THAT_END_WITH_FILE:
        name, value = name.removesuffix(".file"), _read(variable, value)
    return _NAMES_WITH_UNDERSCORE.get(name, name), value


def _read(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{variable} names a file that cannot be read ({error}): name a readable file"
        ) from error


def _bootstrap_servers(short: str | None, properties: Mapping[str, str]) -> str:
    """Return where Kafka is; it has one variable of its own and one under each of librdkafka's two names."""
    given = {short, properties.get("bootstrap.servers"), properties.get("metadata.broker.list")} - {None, ""}
    if len(given) > 1:
        raise ConfigurationError(
            f"Kafka's address is given as {sorted(map(str, given))}: set {BOOTSTRAP_VARIABLE} alone"
        )
    return str(given.pop()) if given else DEFAULT_BOOTSTRAP_SERVERS
