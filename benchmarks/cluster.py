"""What a measurement asks of the cluster: topics made and deleted, ends looked up, records read back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

TOPIC_CONFIG: Final[Mapping[str, str]] = MappingProxyType(
    {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "4194304"}
)
"""As this project has its topics: broker time on every record, and room for a large one."""
_TIMEOUT_SECONDS: Final = 30.0
_PASSING: Final = frozenset(
    {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART}
)


class TooSlow(Exception):
    """Something did not happen in the time that was allowed for it."""


class Cluster:
    """The brokers at one address."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
        self._partitions: dict[str, int] = {}

    # -- topics

    def create(self, name: str, partitions: int, config: Mapping[str, str]) -> None:
        """Create a topic with one copy and wait until it is served."""
        topic = NewTopic(name, partitions, 1, config=dict(config))
        self._admin.create_topics([topic])[name].result(_TIMEOUT_SECONDS)
        wait(lambda: self._is_served(name, partitions), f"topic {name} is not served", seconds=_TIMEOUT_SECONDS)

    def delete_matching(self, part: str) -> None:
        """Delete every topic that has `part` in its name; a system makes topics of its own, named after its group."""
        names = [name for name in self._admin.list_topics(timeout=_TIMEOUT_SECONDS).topics if part in name]
        if names:
            for future in self._admin.delete_topics(names).values():
                future.result(_TIMEOUT_SECONDS)

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has; asked once, since it is asked for with every look at the ends."""
        if topic not in self._partitions:
            found = self._admin.list_topics(topic, timeout=_TIMEOUT_SECONDS).topics[topic]
            self._partitions[topic] = len(found.partitions)
        return self._partitions[topic]

    def _is_served(self, name: str, partitions: int) -> bool:
        found = self._admin.list_topics(timeout=_TIMEOUT_SECONDS).topics.get(name)
        return found is not None and sum(one.leader >= 0 for one in found.partitions.values()) == partitions

    # -- offsets and records

    def ends(self, topic: str) -> list[int]:
        """Return the offset that the next record of each partition will get."""
        give_up_at = time.monotonic() + _TIMEOUT_SECONDS
        while True:
            try:
                return self._ends(topic)
            except KafkaException as error:  # a topic that has just been made may not have its leaders everywhere
                if error.args[0].code() not in _PASSING or time.monotonic() > give_up_at:
                    raise
            time.sleep(0.05)

    def _ends(self, topic: str) -> list[int]:
        asked = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(self.partitions(topic))}
        found = {one.partition: answer.result().offset for one, answer in self._admin.list_offsets(asked).items()}
        return [found[number] for number in range(len(found))]

    def read(self, topic: str, starts: Sequence[int] | None = None) -> Iterator[Any]:
        """Yield every committed record of a topic from these offsets to its end."""
        starts = starts or [0] * self.partitions(topic)
        consumer = Consumer(self._reader_properties())
        try:
            consumer.assign([TopicPartition(topic, number, start) for number, start in enumerate(starts)])
            yield from _until_ends(consumer, len(starts))
        finally:
            consumer.close()

    def _reader_properties(self) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "group.id": f"reader-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
        }


def _until_ends(consumer: Consumer, partitions: int) -> Iterator[Any]:
    ended: set[int] = set()
    while len(ended) < partitions:
        messages = consumer.consume(20_000, 0.2)
        for message in messages:
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition() or 0)
            else:
                raise KafkaException(error)


def wait(condition: Callable[[], bool], otherwise: str, *, seconds: float, every: float = 0.1) -> None:
    """Poll until the condition holds; raise TooSlow with what it means that it does not."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            raise TooSlow(f"{otherwise} after {seconds:.0f} s")
        time.sleep(every)
