"""Reads topics for people: never as a member of a group, never committing anything, always with an end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from wait_for_me.errors import NotReady
from wait_for_me.kafka_properties import for_consumer
from wait_for_me_app.settings import Settings

TIMEOUT_S: Final = 5.0
BATCH: Final = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenRecord:
    """One record, in the shape that the fold reads."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    def header(self, name: str) -> str | None:
        """Return a header's text."""
        value = dict(self.headers).get(name)
        return None if value is None else value.decode(errors="replace")


def seen(message: Message) -> SeenRecord:
    """Translate confluent-kafka's message."""
    kind, timestamp = message.timestamp()
    headers = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    return SeenRecord(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp=timestamp,
        timestamp_type=1 if kind == 2 else 0,  # librdkafka: 2 is LogAppendTime; on the wire it is 1
        key=message.key(),
        value=message.value(),
        headers=tuple((name, value or b"") for name, value in headers),
    )


def new_consumer(settings: Settings, **properties: Any) -> Any:
    """Return a consumer that assigns itself; the group id is never joined."""
    own = {
        "group.id": f"{settings.prefix}-viewers",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "queued.max.messages.kbytes": 8192,
        "fetch.wait.max.ms": 100,
        "client.id": "wait-for-me-viewer",
        "log_level": 0,
        **properties,
    }
    configuration = {**for_consumer(settings.librdkafka()), **own}
    return Consumer({name: value for name, value in configuration.items() if name != "group.instance.id"})


def bounds(consumer: Any, topic: str, partition: int) -> tuple[int, int]:
    """Return the first and the next offset of a partition."""
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_S)
    except KafkaException as error:
        raise NotReady(
            f"Kafka does not say where {topic} {partition} ends ({error.args[0].str()}). Try again in a moment."
        ) from error
    return low, high


def read_range(
    consumer: Any, topic: str, partition: int, start: int, end: int, *, go_on: Callable[[], bool]
) -> Iterator[SeenRecord]:
    """Yield the records from `start` to before `end`, for as long as `go_on` says."""
    if start >= end:
        return
    consumer.assign([TopicPartition(topic, partition, start)])
    give_up_at = time.monotonic() + TIMEOUT_S
    position = start
    while position < end and go_on() and time.monotonic() < give_up_at:
        for message in consumer.consume(BATCH, 0.25):
            error = message.error()
            if error is not None:
                if error.retriable() or error.name() == "_PARTITION_EOF":
                    continue
                raise NotReady(f"{topic} {partition} cannot be read ({error.str()}). Try again in a moment.")
            if message.offset() >= end:
                return
            give_up_at = time.monotonic() + TIMEOUT_S
            position = message.offset() + 1
            yield seen(message)
        places = consumer.position([TopicPartition(topic, partition)])
        position = max(position, places[0].offset)  # beyond markers of transactions, which are never delivered
