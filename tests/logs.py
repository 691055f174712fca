"""Reads whole topics of a deployment, and judges its fires by the reference fold."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, Producer, TopicPartition

from processes import wait_until
from wait_for_me_app.audit.reference import fold_partition


@dataclass(frozen=True)
class Logged:
    """A record as it lies in a topic."""

    partition: int
    offset: int
    timestamp_ms: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def read_topic(bootstrap_servers: str, topic: str) -> list[Logged]:
    """Return every committed record of a topic, as far as it goes now."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"read-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
            "log_level": 0,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        return list(_until_the_ends(consumer, len(partitions)))
    finally:
        consumer.close()


def _until_the_ends(consumer: Consumer, partitions: int) -> Iterator[Logged]:
    ended: set[int | None] = set()
    give_up_at = time.monotonic() + 60
    while len(ended) < partitions:
        assert time.monotonic() < give_up_at, "the topic could not be read within a minute"
        for message in consumer.consume(10_000, 0.05):
            error = message.error()
            if error is None:
                yield _logged(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())


def _logged(message: Any) -> Logged:
    kind, timestamp_ms = message.timestamp()
    return Logged(
        message.partition(),
        message.offset(),
        timestamp_ms,
        1 if kind == TIMESTAMP_LOG_APPEND_TIME else 0,
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
    )


@dataclass
class Verdict:
    """What the fires topic holds, against what the log says it must hold."""

    expected: int = 0
    fires: int = 0
    overdue: int = 0
    """Rounds whose deadline has passed by this machine's clock: the log has not said so yet."""
    lost: list[bytes] = field(default_factory=list)
    ghosts: list[bytes] = field(default_factory=list)
    copies: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    lateness_ms: list[int] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """Whether nothing is lost and nothing is there that should not be; equal copies are allowed."""
        return not self.lost and not self.ghosts


class Judge:
    """Folds a deployment's commands with the reference and compares the fires byte for byte."""

    def __init__(self, deployment: Any) -> None:
        from wait_for_me_app.topics import describe_commands_topic

        self._settings = deployment.settings
        self._topic = describe_commands_topic(deployment.settings, deployment.admin)

    def verdict(self) -> Verdict:
        """Read fires and then commands as they are now, and compare.

        In this order: a fire that a tick brings about between the two would else seem to have come from nowhere.
        """
        fires = read_topic(self._settings.bootstrap_servers, self._settings.topics.fires)
        verdict = Verdict()
        expected = self._expected(verdict)
        verdict.expected = len(expected)
        found: Counter[bytes] = Counter()
        for record in fires:
            assert record.value is not None
            found[record.value] += 1
            fire = msgspec.json.decode(record.value)
            verdict.reasons[fire["reason"]] += found[record.value] == 1
        verdict.fires = sum(found.values())
        verdict.lost = [value for value in expected if value not in found]
        verdict.ghosts = [value for value in found if value not in expected]
        verdict.copies = verdict.fires - len(found)
        return verdict

    def wait_until_settled(self, timeout: float = 60.0) -> Verdict:
        """Wait until every fire is there that the log demands or soon will, and return the verdict; fail with it after the timeout."""
        last = [Verdict()]

        def settled() -> bool:
            last[0] = self.verdict()
            return not last[0].lost and not last[0].overdue

        wait_until(
            settled,
            timeout,
            lambda: (
                f"{len(last[0].lost)} of {last[0].expected} fires are missing: {last[0].lost[:2]}; "
                f"{last[0].overdue} rounds are overdue"
            ),
        )
        return last[0]

    def _expected(self, verdict: Verdict) -> set[bytes]:
        settings = self._settings
        logs: dict[int, list[Logged]] = {number: [] for number in range(self._topic.partitions)}
        for record in read_topic(settings.bootstrap_servers, settings.topics.commands):
            logs[record.partition].append(record)
        expected: set[bytes] = set()
        for number, log in logs.items():
            outcome = fold_partition(
                log, topic_id=self._topic.topic_id, partition=number, partitions=self._topic.partitions
            )
            expected |= {value for _, _, value in outcome.fires}
            now_ms = time.time_ns() // 1_000_000
            verdict.overdue += sum(deadline_ms <= now_ms for _, _, deadline_ms in outcome.open_groups.values())
        return expected


class Sender:
    """Sends commands as any service would: librdkafka, murmur2, waiting for the acknowledgement at `flush`."""

    def __init__(self, deployment: Any) -> None:
        self._topic = deployment.settings.topics.commands
        self._producer = Producer(
            {
                "bootstrap.servers": deployment.settings.bootstrap_servers,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 5,
                "batch.size": 262_144,
                "log_level": 0,  # the broker may end before its clients
            }
        )
        self._refused: list[str] = []

    def add(
        self, group: str, participant: str, *, of: int, wait: float, partition: int | None = None, **more: Any
    ) -> None:
        """Send an add."""
        self.send(
            {
                "type": "add",
                "group_key": group,
                "participant_key": participant,
                "number_of_participants_in_group": of,
                "execute_after_waiting": "test.note",
                "wait_time_in_seconds": wait,
                **more,
            },
            group.encode(),
            partition=partition,
        )

    def remove(self, group: str) -> None:
        """Send a remove."""
        self.send({"type": "remove", "group_key": group}, group.encode())

    def send(self, value: Any, key: bytes | None, *, partition: int | None = None, headers: Any = None) -> None:
        """Send a value: bytes and None as they are, anything else as JSON."""
        body = value if value is None or isinstance(value, bytes) else msgspec.json.encode(value)
        options: dict[str, Any] = {} if partition is None else {"partition": partition}
        while True:
            try:
                self._producer.produce(
                    self._topic, value=body, key=key, headers=headers, on_delivery=self._note, **options
                )
                break
            except BufferError:
                self._producer.poll(0.05)
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until Kafka has everything; fail if it refused any of it."""
        assert self._producer.flush(30) == 0
        assert not self._refused, self._refused[:3]

    def _note(self, error: Any, _message: Any) -> None:
        if error is not None:
            self._refused.append(str(error))


def eventually(read: Callable[[], Any], wanted: Any, timeout: float = 30.0) -> None:
    """Wait until a reading equals what is wanted; fail with the last reading."""
    last = [None]

    def reached() -> bool:
        last[0] = read()
        return bool(last[0] == wanted)

    wait_until(reached, timeout, lambda: f"wanted {wanted!r}, got {last[0]!r}")
