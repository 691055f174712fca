"""Owns one librdkafka producer and the thread that collects its acknowledgements; both clients stand on it.

The rules: every record gets exactly one outcome, a Receipt or an error that says what to do; outcomes are told on
the collecting thread, so whoever hears one only passes it on; and a forked child makes a fresh producer at its
first send.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from . import forks
from .errors import ClientClosed, ConfigurationError, DeliveryFailed, NotReady
from .records import Record

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

_log = logging.getLogger("wait_for_me.kafka")
_POLL_SECONDS: Final = 0.1
_LAST_WORDS_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Kafka has the record, on all replicas that its topic demands."""

    topic: str
    partition: int
    offset: int
    event_id: str


Failure = DeliveryFailed | NotReady
Outcome = Receipt | Failure


class Sending:
    """Sends records, from any thread; `on_outcome` hears what became of each."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._properties = dict(properties)
        self._lock = threading.Lock()
        self._closed = False
        self._link: _Link | None = None
        self._current()  # a bad property is told here, and the connection is under way before the first send
        forks.watch(self)

    def send(self, topic: str, record: Record, on_outcome: Callable[[Outcome], None]) -> None:
        """Hand the record to librdkafka. Raises BufferError while its queue is full."""
        self._current().send(topic, record, on_outcome)

    def flush(self, timeout: float) -> int:
        """Wait until every record has its outcome; return how many have none yet."""
        link = self._link
        return link.producer.flush(timeout) if link else 0

    def close(self, timeout: float) -> int:
        """Send what is waiting, then let go; return how many records had no outcome by then."""
        with self._lock:
            link, self._link, self._closed = self._link, None, True
        return link.close(timeout) if link else 0

    def overdue(self, record: Record, seconds: float) -> Failure:
        """Return the error for a record whose outcome did not come in time."""
        link = self._link
        if link and link.way.blocked:
            return link.way.not_ready(record)
        return _unacknowledged(f"no acknowledgement within {seconds:g} s", record)

    def abandon_after_fork(self) -> None:
        """Forget the parent's producer and its lock; the next send makes a producer of the child's own."""
        if self._link:
            forks.never_free(self._link.producer)
        self._link = None
        self._lock = threading.Lock()

    def _current(self) -> _Link:
        with self._lock:
            if self._closed:
                raise ClientClosed("the client is closed: make a new one, or close it after the last call")
            if self._link and self._link.way.fatal:  # an idempotent producer that has lost count never sends again
                self._link.retire()
                self._link = None
            if self._link is None:
                self._link = _Link(self._properties)
            return self._link


class _Link:
    """One producer, its collecting thread, and what is known of the way to Kafka."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self.way = _Way()
        self.producer = _make_producer({**properties, "error_cb": self.way.hear, "logger": _log})
        self._stop = threading.Event()
        self._collector = threading.Thread(
            target=_collect, args=(self.producer, self._stop), name="wait-for-me-receipts", daemon=True
        )
        self._collector.start()

    def send(self, topic: str, record: Record, on_outcome: Callable[[Outcome], None]) -> None:
        from confluent_kafka import KafkaException

        def report(error: KafkaError | None, message: Message) -> None:
            on_outcome(self.way.failure(error, record) if error else self._receipt(message, record))

        try:
            self.producer.produce(topic, record.value, record.key, headers=list(record.headers), on_delivery=report)
        except KafkaException as refusal:
            raise self.way.failure(refusal.args[0], record) from refusal

    def close(self, timeout: float) -> int:
        waiting = self.producer.flush(timeout)
        self.retire()
        if threading.current_thread() is not self._collector:  # the garbage collector may run anywhere
            self._collector.join()
        return waiting

    def retire(self) -> None:
        self._stop.set()

    def _receipt(self, message: Message, record: Record) -> Receipt:
        self.way.clear()
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        return Receipt(topic=str(topic), partition=_known(partition), offset=_known(offset), event_id=record.event_id)


class _Way:
    """What librdkafka has said of the way to Kafka, so that an outage can be told from a refusal."""

    def __init__(self) -> None:
        self.blocked = False
        self.fatal = False
        self._trouble: str | None = None

    def clear(self) -> None:
        self.blocked, self._trouble = False, None

    def hear(self, error: KafkaError) -> None:
        if error.code() == error._ALL_BROKERS_DOWN:
            self.blocked = True
        else:
            self._trouble = error.str()
        self.fatal = self.fatal or error.fatal() or error.code() == error._FATAL

    def failure(self, error: KafkaError, record: Record) -> Failure:
        """Return the error for a record that librdkafka or the broker refused."""
        code = error.code()
        if error.fatal() or code == error._FATAL:
            self.fatal = True
        if code in (error._MSG_TIMED_OUT, error._TRANSPORT) and self.blocked:
            return self.not_ready(record)
        if code in (error.UNKNOWN_TOPIC_OR_PART, error._UNKNOWN_TOPIC, error._UNKNOWN_PARTITION):
            return DeliveryFailed(f"{error.str()}: create the topics with `wait-for-me topics create`", record.event_id)
        if code in (error.TOPIC_AUTHORIZATION_FAILED, error.CLUSTER_AUTHORIZATION_FAILED):
            return DeliveryFailed(f"{error.str()}: allow this user to WRITE to the commands topic", record.event_id)
        return _unacknowledged(error.str(), record)

    def not_ready(self, record: Record) -> NotReady:
        reason = self._trouble or "no broker answers"
        remedy = "check its address, the network and the credentials, then send it again with the same event_id"
        return NotReady(f"Kafka cannot be reached ({reason}): {remedy}", record.event_id)


def _collect(producer: Producer, stop: threading.Event) -> None:
    """Serve acknowledgements until told to stop. Holds only the producer, so that a forgotten client is collected."""
    while not stop.is_set():
        producer.poll(_POLL_SECONDS)
    producer.flush(_LAST_WORDS_SECONDS)


def _make_producer(properties: dict[str, Any]) -> Producer:
    from confluent_kafka import KafkaException, Producer

    try:
        return Producer(properties)
    except (KafkaException, TypeError, ValueError) as error:
        raise ConfigurationError(f"librdkafka refuses a property ({explain(error)}): correct or remove it") from error


def explain(error: Exception) -> str:
    """Return what librdkafka says in an exception, without its wrapping."""
    inner = error.args[0] if error.args else error
    return str(inner.str() if hasattr(inner, "str") else inner)


def _unacknowledged(problem: str, record: Record) -> DeliveryFailed:
    remedy = "it may be in Kafka or not, so send it again with the same event_id, which makes a copy harmless"
    return DeliveryFailed(f"{problem}: {remedy}", record.event_id)


def _known(number: int | None) -> int:
    return -1 if number is None else number
