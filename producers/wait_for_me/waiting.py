"""Waits for the fire of a group, or for the outcome of a fire, with a consumer that joins no group and commits nothing.

The danger is the moment before: what one waits for may have happened already, while the add was being acknowledged. So
reading begins some time in the past (`lookback`); and `after`, the receipt of an add, tells the fire of its round from
that of an earlier one.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from .codec import decode_fire
from .commands import MAX_KEY_BYTES
from .errors import ClientClosed, ConfigurationError, InvalidFire, NotReady, WaitTimeout
from .fires import Fire
from .kafka_properties import for_consumer
from .outcomes import FinalOutcome, decode_final_outcome
from .partitioner import partition_for
from .producer_properties import choose_servers
from .producing import Receipt, explain
from .topic_names import TopicNames
from .validation import check_name, missing

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

_kafka_log = logging.getLogger("wait_for_me.kafka")

DEFAULT_WAIT_SECONDS: Final = 60.0
DEFAULT_LOOKBACK_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.2
_CONTACT_SECONDS: Final = 10.0
_A_FEW: Final = 1_000

_T = TypeVar("_T")
IsOver = Callable[[], bool]
"""Says that nobody waits any more."""


class Waiting:
    """How the waits of one client reach Kafka."""

    def __init__(self, bootstrap_servers: str | None, kafka: Mapping[str, Any] | None, topics: TopicNames) -> None:
        given = for_consumer(kafka or {})
        servers = choose_servers(bootstrap_servers, given)
        given.pop("metadata.broker.list", None)
        self._topics = topics
        self._properties: dict[str, Any] = {
            "client.id": "wait-for-me-waiting",
            **given,
            "bootstrap.servers": servers,
            "group.id": "wait-for-me-waiting",  # demanded by librdkafka, and never joined
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
        }

    def fired(
        self, group_key: str | None, after: Receipt | None, timeout: float, lookback: float, is_over: IsOver
    ) -> Fire:
        """Return the group's first fire within the time."""
        key = _checked_key(group_key)

        def take(message: Message) -> Fire | None:
            try:
                fire = decode_fire(message.value())
            except InvalidFire:
                return None  # the executor sets it aside
            is_meant = fire.group_key == key and (after is None or _closed_after(fire, after))
            return fire if is_meant else None

        with _Wait(self._properties, self._topics.fires, key, timeout, lookback, is_over) as wait:
            return wait.first(take, f"no fire of {key!r}")

    def done(
        self, group_key: str | None, fire_id: str | None, timeout: float, lookback: float, is_over: IsOver
    ) -> FinalOutcome:
        """Return the first final outcome of the group, or of one fire of it, within the time."""
        key = _checked_key(group_key)

        def take(message: Message) -> FinalOutcome | None:
            outcome = decode_final_outcome(message.value())
            is_meant = outcome and outcome.group_key == key and fire_id in (None, outcome.fire_id)
            return outcome if is_meant else None

        with _Wait(self._properties, self._topics.outcomes, key, timeout, lookback, is_over) as wait:
            return wait.first(take, f"no final outcome of {fire_id or key!r}")


class _Wait:
    """One wait: a consumer on the one partition where the answer will be."""

    def __init__(
        self,
        properties: dict[str, Any],
        topic: str,
        key: str,
        timeout: float,
        lookback: float,
        is_over: IsOver,
    ) -> None:
        self._timeout = _checked_seconds("timeout", timeout)
        lookback_ms = math.ceil(_checked_seconds("lookback", lookback) * 1000)
        self._since_ms = max(0, time.time_ns() // 1_000_000 - lookback_ms)
        self._deadline = time.monotonic() + self._timeout
        self._is_over = is_over
        self._consumer = _make_consumer(properties)
        try:
            self._begin(topic, key)
        except BaseException:
            self._consumer.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def first(self, take: Callable[[Message], _T | None], nothing: str) -> _T:
        """Return what `take` makes of the first message that it takes."""
        while True:
            if self._is_over():
                raise ClientClosed("the client is closed, or was during the wait: make a new one")
            left = self._deadline - time.monotonic()
            message = self._consumer.poll(min(_POLL_SECONDS, max(0.0, left)))
            found = take(message) if message and self._counts(message) else None
            if found is not None:
                return found
            if left <= 0:
                raise WaitTimeout(f"{nothing} within {self._timeout:g} s: wait longer, or look at worker and executor")

    def _counts(self, message: Message) -> bool:
        return _is_good(message) and message.timestamp()[1] >= self._since_ms

    def _begin(self, topic: str, key: str) -> None:
        from confluent_kafka import KafkaException, TopicPartition

        patience = min(_CONTACT_SECONDS, self._timeout)
        try:
            there = TopicPartition(topic, partition_for(key.encode(), self._partitions(topic, patience)))
            first, end = self._consumer.get_watermark_offsets(there, patience)  # now, so that none is missed
            there.offset = self._since_ms
            begin = self._consumer.offsets_for_times([there], patience)[0].offset
            if begin < 0:  # nothing so young; or librdkafka's embedded broker, which knows no times
                begin = max(first, end - _A_FEW)
            self._consumer.assign([TopicPartition(topic, there.partition, begin)])
        except KafkaException as error:
            raise NotReady(
                f"Kafka cannot be reached ({explain(error)}): check its address, the network and the credentials"
            ) from error

    def _partitions(self, topic: str, patience: float) -> int:
        found = self._consumer.list_topics(topic, patience).topics[topic]
        if found.error is not None:
            raise ConfigurationError(
                f"{topic}: {found.error.str()}. Create the topics with `wait-for-me topics create`."
            )
        return len(found.partitions)


def _is_good(message: Message) -> bool:
    error = message.error()
    if error is None:
        return True
    if error.code() in (error.TOPIC_AUTHORIZATION_FAILED, error.GROUP_AUTHORIZATION_FAILED):
        raise ConfigurationError(f"{error.str()}: allow this user to READ the topic {message.topic()}")
    _kafka_log.warning("%s", error.str())
    return False


def _make_consumer(properties: dict[str, Any]) -> Consumer:
    from confluent_kafka import Consumer, KafkaException

    try:
        return Consumer({**properties, "logger": _kafka_log})
    except (KafkaException, TypeError, ValueError) as error:
        raise ConfigurationError(f"librdkafka refuses a property ({explain(error)}): correct or remove it") from error


def _closed_after(fire: Fire, receipt: Receipt) -> bool:
    return fire.partition == receipt.partition and fire.closed_offset >= receipt.offset


def _checked_key(group_key: str | None) -> str:
    if not group_key:
        raise missing(["group_key"])
    return check_name("group_key", group_key, MAX_KEY_BYTES)


def _checked_seconds(name: str, seconds: object) -> float:
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 <= seconds <= threading.TIMEOUT_MAX:
        return seconds
    raise ConfigurationError(f"{name} is {seconds!r}: make it a number of seconds, 0 or more")
