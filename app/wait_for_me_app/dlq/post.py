"""Reads dead letter topics, and writes copies and markers. The only file of this folder that talks to Kafka.

Nothing is committed and no group is joined: whoever reads here takes nothing from anybody. Copies are acknowledged by
Kafka before their markers are written.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from wait_for_me.errors import ConfigurationError, DeliveryFailed, NotReady
from wait_for_me.kafka_properties import for_consumer, for_producer
from wait_for_me.partitioner import PARTITIONER
from wait_for_me_app import topics
from wait_for_me_app.dlq.copies import Copy
from wait_for_me_app.dlq.handled import Deed, Handled, is_marker, markers
from wait_for_me_app.dlq.letters import Box, Letter, letter
from wait_for_me_app.dlq.selection import LetterId, Selection
from wait_for_me_app.settings import Settings

log = logging.getLogger(__name__)

_CONTACT_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 30.0
_DELIVERY_SECONDS: Final = 60.0
_AT_ONCE: Final = 500
_BY_KEY: Final = -1  # librdkafka lets the partitioner decide
Place = tuple[Box, int]


@dataclass(frozen=True, slots=True)
class Sent:
    """Where a copy has gone."""

    topic: str
    partition: int
    offset: int


class DeadLetters:
    """The dead letter topics of a deployment."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics: dict[Box, str] = {
            "commands": settings.topics.commands_dead_letters,
            "fires": settings.topics.fires_dead_letters,
        }

    def find(self, selection: Selection, *, handled: bool = False) -> list[Letter]:
        """Return the letters that are meant, in brief: the open ones, or those that were handled."""
        known: dict[Place, Handled] = defaultdict(Handled)
        starts = dict.fromkeys(self._places(selection.boxes), OFFSET_BEGINNING)
        found = [one.brief() for one in self._read(starts, known) if selection.takes(one)]
        return [one for one in found if (one.offset in known[one.box, one.partition]) == handled]

    def fetch(self, ids: Collection[LetterId]) -> Iterator[Letter]:
        """Return these letters whole, one after the other, so that they need not all be in memory."""
        there = set(self._places({one.box for one in ids}))
        wanted = {one for one in ids if (one.box, one.partition) in there}
        starts: dict[Place, int] = {}
        for one in wanted:
            starts[one.box, one.partition] = min(one.offset, starts.get((one.box, one.partition), one.offset))
        for found in self._read(starts, defaultdict(Handled)):
            name = LetterId(found.box, found.partition, found.offset)
            if name in wanted:
                wanted.discard(name)
                yield found
            if not wanted:
                return

    def _places(self, boxes: Iterable[Box]) -> Iterator[Place]:
        consumer = self._consumer()
        try:
            for box in boxes:
                for partition in _partitions(consumer, self._topics[box]):
                    yield box, partition
        finally:
            consumer.close()

    def _read(self, starts: Mapping[Place, int], known: dict[Place, Handled]) -> Iterator[Letter]:
        """Return all letters from these offsets to the ends; markers go into `known`."""
        box_of: dict[str | None, Box] = {topic: box for box, topic in self._topics.items()}
        consumer = self._consumer()
        try:
            consumer.assign([TopicPartition(self._topics[box], part, at) for (box, part), at in starts.items()])
            for message in _messages(consumer, len(starts)):
                headers: Any = tuple(message.headers() or ())  # a list of pairs; the annotations also know other forms
                box, partition = box_of[message.topic()], message.partition() or 0
                if is_marker(headers):
                    known[box, partition].take(headers)
                else:
                    at_ms = message.timestamp()[1]
                    yield letter(box, partition, message.offset() or 0, at_ms, message.key(), message.value(), headers)
        finally:
            consumer.close()

    def _consumer(self) -> Consumer:
        properties: dict[str, Any] = {
            **for_consumer(self._settings.librdkafka()),
            "client.id": "wait-for-me-dlq",
            "group.id": f"{self._settings.prefix}-dlq",  # demanded by the library, and never joined
            "group.protocol": "classic",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,  # how long Kafka takes to say that a partition ends
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
        return Consumer(properties, logger=log)

    # -- writing

    def send(self, copies: Iterable[tuple[Letter, Copy]], by: str, at: str) -> Iterator[tuple[Letter, Sent]]:
        """Send copies, and mark the letters of those that Kafka has; raise DeliveryFailed when it refuses one."""
        pen = _Pen(self._settings)
        batch: list[tuple[Letter, Copy]] = []
        for one in copies:
            batch.append(one)
            if len(batch) == _AT_ONCE:
                yield from self._send_batch(pen, batch, by, at)
                batch = []
        yield from self._send_batch(pen, batch, by, at)

    def _send_batch(
        self, pen: _Pen, batch: list[tuple[Letter, Copy]], by: str, at: str
    ) -> Iterator[tuple[Letter, Sent]]:
        sent = pen.write([copy for _, copy in batch])
        done = [(one, place) for (one, _), place in zip(batch, sent, strict=True)]
        self._mark(pen, [one for one, _ in done], "retried", by, at)
        yield from done

    def discard(self, letters: list[Letter], by: str, at: str) -> None:
        """Mark letters as dealt with."""
        self._mark(_Pen(self._settings), letters, "discarded", by, at)

    def _mark(self, pen: _Pen, letters: list[Letter], deed: Deed, by: str, at: str) -> None:
        offsets: dict[Place, list[int]] = defaultdict(list)
        for one in letters:
            offsets[one.box, one.partition].append(one.offset)
        pen.write(
            [
                Copy(topic=self._topics[box], partition=partition, key=None, value=None, headers=headers)
                for (box, partition), handled in offsets.items()
                for headers in markers(handled, deed, by, at)
            ]
        )


class _Pen:
    """A producer that waits for Kafka's word."""

    def __init__(self, settings: Settings) -> None:
        properties: dict[str, Any] = {
            **for_producer(settings.librdkafka()),
            "client.id": "wait-for-me-dlq",
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": PARTITIONER,
            "message.max.bytes": topics.OTHERS_MAX_BYTES,
            "message.timeout.ms": int(_DELIVERY_SECONDS * 1000),
        }
        self._producer = Producer(properties, logger=log)

    def write(self, copies: list[Copy]) -> list[Sent]:
        """Write records and return where they are; raise DeliveryFailed if Kafka has not taken them all."""
        answers: dict[int, KafkaError | Sent] = {}
        for number, copy in enumerate(copies):
            self._producer.produce(
                copy.topic,
                copy.value,
                copy.key,
                partition=_BY_KEY if copy.partition is None else copy.partition,
                headers=list(copy.headers),
                on_delivery=partial(_note, answers, number),
            )
        self._producer.flush(_DELIVERY_SECONDS + 5)
        sent = [answer for _, answer in sorted(answers.items()) if isinstance(answer, Sent)]
        if len(sent) < len(copies):
            why = next((one.str() for one in answers.values() if isinstance(one, KafkaError)), "no answer in time")
            raise DeliveryFailed(
                f"Kafka has taken {len(sent)} of {len(copies)} records ({why}). None of this batch is marked: "
                "run the command again when Kafka is well; a letter that is sent twice does no harm."
            )
        return sent


def _note(answers: dict[int, KafkaError | Sent], number: int, error: KafkaError | None, message: Message) -> None:
    answers[number] = error or Sent(message.topic() or "", message.partition() or 0, message.offset() or 0)


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    try:
        found = consumer.list_topics(topic, timeout=_CONTACT_SECONDS).topics[topic]
    except KafkaException as error:
        raise NotReady(
            f"Kafka cannot be reached ({error.args[0].str()}): check address, network, credentials"
        ) from error
    if found.error is not None:
        raise ConfigurationError(f"{topic}: {found.error.str()}. Create the topics with `wait-for-me topics create`.")
    return sorted(found.partitions)


def _messages(consumer: Consumer, partitions: int) -> Iterator[Message]:
    """Return the messages of so many partitions until each has ended."""
    ended: set[tuple[str | None, int | None]] = set()
    heard = time.monotonic()
    while len(ended) < partitions:
        for message in consumer.consume(_AT_ONCE, 0.2):
            heard = time.monotonic()
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add((message.topic(), message.partition()))
            elif not error.retriable():
                raise NotReady(f"the dead letters cannot be read ({error.str()}): see what Kafka says of this topic")
        if time.monotonic() - heard > _SILENCE_SECONDS:
            raise NotReady(f"Kafka has said nothing for {_SILENCE_SECONDS:g} s: try again when it answers")
