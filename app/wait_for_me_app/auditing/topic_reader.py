"""Reads topics from their first offset to an end that is fixed beforehand; joins no group, commits nothing, writes nothing.

The danger is an end that is never reached: a topic may end in markers of transactions, which are never delivered, so the end of a partition
counts as its end too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, KafkaException, TopicPartition

from wait_for_me.errors import ConfigurationError, NotReady
from wait_for_me.kafka_properties import for_consumer

BATCH: Final = 10_000
TIMEOUT_S: Final = 30.0
ANSWER_S: Final = 8.0


class Bounds(NamedTuple):
    """The first offset of a partition, and the one that its next record would get."""

    first: int
    end: int


class AuditedRecord(NamedTuple):
    """A record in the shape that the audit reads; timestamp type 1 is LogAppendTime."""

    offset: int
    timestamp_ms: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class TopicReader:
    """Reads one partition after another over one connection."""

    def __init__(self, properties: Mapping[str, Any], group: str) -> None:
        own = {
            "group.id": group,  # never joined
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "queued.max.messages.kbytes": 32_768,
            "fetch.message.max.bytes": 4_194_304,
            "fetch.queue.backoff.ms": 2,
            "fetch.wait.max.ms": 10,
            "client.id": "wait-for-me-audit",
            "log_level": 0,
        }
        configuration = {**for_consumer(properties), **own}
        self._servers = properties["bootstrap.servers"]
        self._consumer: Any = Consumer(
            {name: value for name, value in configuration.items() if name != "group.instance.id"}
        )

    def close(self) -> None:
        """End the connection."""
        self._consumer.close()

    def partitions(self) -> dict[str, int]:
        """Return how many partitions each topic of the cluster has."""
        try:
            found = self._consumer.list_topics(timeout=ANSWER_S).topics
        except KafkaException as error:
            raise NotReady(
                f"No answer from Kafka at {self._servers} ({error.args[0].str()}). "
                "Check WAIT_FOR_ME_BOOTSTRAP_SERVERS and that a broker runs there, then try again."
            ) from error
        return {name: len(topic.partitions) for name, topic in found.items()}

    def bounds(self, topic: str, partition: int) -> Bounds:
        """Return where a partition begins and ends now."""
        try:
            first, end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_S)
        except KafkaException as error:
            raise _unreadable(topic, partition, error.args[0]) from error
        return Bounds(first, end)

    def records(self, topic: str, partition: int, bounds: Bounds) -> Iterator[AuditedRecord]:
        """Yield the records of a partition within its bounds."""
        first, end = bounds
        if first >= end:
            return
        self._consumer.assign([TopicPartition(topic, partition, first)])
        give_up_at, last = time.monotonic() + TIMEOUT_S, first - 1
        while last < end - 1:
            # Asked for more than there is, it would wait for the rest.
            messages = self._consumer.consume(min(BATCH, end - 1 - last), 0.05)
            if not messages:
                if time.monotonic() > give_up_at:
                    raise NotReady(f"{topic} {partition} does not go on behind offset {last}. Look at its leader.")
                continue
            for message in messages:
                error = message.error()
                if error is None:
                    last = message.offset()
                    if last >= end:
                        return
                    kind, timestamp_ms = message.timestamp()
                    yield AuditedRecord(
                        last,
                        timestamp_ms,
                        1 if kind == TIMESTAMP_LOG_APPEND_TIME else 0,
                        message.key(),
                        message.value(),
                        tuple(message.headers() or ()),
                    )
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
                elif not error.retriable() and error.code() != KafkaError._TRANSPORT:
                    raise _unreadable(topic, partition, error)
            give_up_at = time.monotonic() + TIMEOUT_S


def _unreadable(topic: str, partition: int, error: KafkaError) -> NotReady | ConfigurationError:
    if error.name().endswith("AUTHORIZATION_FAILED"):
        return ConfigurationError(
            f"Kafka refuses to have {topic} read ({error.str()}): grant Read and Describe on the topics, and Describe on the group."
        )
    return NotReady(f"{topic} {partition} cannot be read ({error.str()}). Try again when the brokers have settled.")
