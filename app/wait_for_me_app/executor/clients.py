"""The Kafka clients of the executor: their properties, of which the operator's come first and those that carry guarantees last."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, Message, Producer, TopicPartition

from wait_for_me.kafka_properties import for_consumer, for_producer
from wait_for_me_app import topics
from wait_for_me_app.executor.effects import FireRecord
from wait_for_me_app.settings import Settings

log = logging.getLogger(__name__)

NoteError = Callable[[KafkaError], None]


def make_producer(settings: Settings, note_error: NoteError) -> Producer:
    """Return the producer of outcomes and dead letters: acknowledged by all replicas, in order, no copies by retries."""
    properties: dict[str, Any] = {
        **for_producer(settings.librdkafka()),
        "client.id": "wait-for-me-executor",
        "enable.idempotence": True,
        "socket.nagle.disable": True,  # a step is small and waited for; held back in the kernel it costs up to 40 ms
        "acks": "all",
        "linger.ms": 1,
        "message.max.bytes": topics.OTHERS_MAX_BYTES,
        "error_cb": note_error,
    }
    return Producer(properties, logger=log)


def make_consumer(settings: Settings, note_error: NoteError) -> Consumer:
    """Return the consumer of fires, a member of the executors' group."""
    session_ms = settings.session_timeout_ms
    properties: dict[str, Any] = {
        **_reading(settings),
        "client.id": "wait-for-me-executor",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": session_ms,
        "heartbeat.interval.ms": min(3_000, session_ms // 3),
        "max.poll.interval.ms": max(300_000, session_ms),
        "on_commit": _note_commit,
        "error_cb": note_error,
    }
    return Consumer(properties, logger=log)


def make_reader(settings: Settings) -> Consumer:
    """Return the consumer of outcomes. It bears the group's name to ask what that has committed, and never joins it."""
    properties: dict[str, Any] = {
        **_reading(settings),
        "client.id": "wait-for-me-executor-reader",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 50,
    }
    return Consumer(properties, logger=log)


def _reading(settings: Settings) -> dict[str, Any]:
    return {
        **for_consumer(settings.librdkafka()),
        "group.id": settings.topics.executor_group,
        "fetch.queue.backoff.ms": 5,  # the default leaves a reader that is quick without records for up to a second
        "group.protocol": "classic",  # the session timeout and the assignor are the client's there
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "socket.nagle.disable": True,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
    }


def _note_commit(error: KafkaError | None, _partitions: list[TopicPartition]) -> None:
    if error is not None:  # harmless: the fires are read again, and known
        log.warning("commit_failed", extra={"code": error.name(), "why": error.str()})


def fire_record(message: Message) -> FireRecord:
    """Return a message of the fires topic as a plain value."""
    headers: Any = message.headers() or ()  # a list of pairs; the annotations of the client also know other forms
    kind, at_ms = message.timestamp()
    return FireRecord(
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        key=message.key(),
        value=message.value(),
        headers=tuple(headers),
        appended_at_ms=at_ms if kind == TIMESTAMP_LOG_APPEND_TIME else None,
    )
