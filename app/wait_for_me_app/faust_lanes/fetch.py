"""Reads the commands of this worker's lanes with librdkafka, in a thread of its own.

Group membership and assignment stay with Faust; only the fetching is done here, because librdkafka keeps asking for every
partition while others are being drained (aiokafka leaves a drained partition out of the fetch that is under way, which costs up to
the broker's long-poll time) and parses batches outside the interpreter.

While every lane has a run waiting, nothing is taken from librdkafka, which then stops prefetching by itself. A partition is paused only if
its lane is full while another is hungry, because a pause is dear: it throws away what has been prefetched.

All calls on the consumer are made by this thread, assignments included: so a record that was read under an old assignment can never
be taken for one of the new.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from wait_for_me_app.faust_lanes.messages import Fetched, sorted_by_partition
from wait_for_me_app.resuming import resume

log = logging.getLogger(__name__)

BATCH_RECORDS: Final = 4096
POLL_SECONDS: Final = 0.05

FETCH_PROPERTIES: Final[Mapping[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # a position that the log no longer has stops the worker; it is never moved in silence
    "isolation.level": "read_committed",
    "fetch.wait.max.ms": 100,  # a partition that is resumed waits for the request that is under way for the others
    "fetch.queue.backoff.ms": 5,
    "fetch.error.backoff.ms": 100,
    "queued.min.messages": 8_192,
    "queued.max.messages.kbytes": 16_384,
    "reconnect.backoff.max.ms": 1_000,
}


class PositionLost(Exception):
    """The log does not have the offset that a lane must read next."""


class FetchThread:
    """Delivers fetched records, and failures, to an event loop."""

    def __init__(
        self,
        properties: Mapping[str, Any],
        topic: str,
        *,
        loop: asyncio.AbstractEventLoop,
        on_fetched: Callable[[int, Fetched], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._topic = topic
        self._loop = loop
        self._on_fetched, self._on_failure = on_fetched, on_failure
        self._consumer = Consumer({**properties, **FETCH_PROPERTIES})
        self._wanted: tuple[int, Mapping[int, int]] = (0, {})
        self._epoch = 0
        self._full: frozenset[int] = frozenset()
        self._paused: frozenset[int] = frozenset()
        self._somebody_is_hungry = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fetch", daemon=True)

    def start(self) -> None:
        """Begin to fetch what is assigned."""
        self._thread.start()

    def assign(self, epoch: int, positions: Mapping[int, int]) -> None:
        """Fetch these partitions from these offsets on, and deliver under this epoch; all else stops."""
        self._wanted = (epoch, dict(positions))
        self._somebody_is_hungry.set()

    def order(self, full: frozenset[int], somebody_is_hungry: bool) -> None:
        """Leave out the partitions that are full, and all while nobody is hungry, until told otherwise."""
        self._full = full
        if somebody_is_hungry:
            self._somebody_is_hungry.set()
        else:
            self._somebody_is_hungry.clear()

    def stop(self) -> None:
        """End the thread and close the consumer."""
        self._stopped.set()
        self._somebody_is_hungry.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._follow_orders()
                if not self._somebody_is_hungry.wait(POLL_SECONDS):
                    continue
                first = self._consumer.poll(POLL_SECONDS)
                if first is not None:
                    self._deliver([first, *self._consumer.consume(BATCH_RECORDS, 0)])
        except BaseException as error:  # noqa: BLE001  # whatever it is, the worker must not live on without its fetch
            self._loop.call_soon_threadsafe(self._on_failure, error)
        finally:
            self._consumer.close()

    def _follow_orders(self) -> None:
        epoch, positions = self._wanted
        if epoch != self._epoch:
            # librdkafka keeps a pause over assignments: a lane that was full before a rebalance would never be fetched again.
            self._consumer.resume([TopicPartition(self._topic, partition) for partition in self._paused])
            self._consumer.assign(
                [TopicPartition(self._topic, partition, offset) for partition, offset in positions.items()]
            )
            self._epoch, self._paused = epoch, frozenset()
        if self._full != self._paused:
            full = self._full & positions.keys()
            self._consumer.pause([TopicPartition(self._topic, partition) for partition in full - self._paused])
            resume(self._consumer, [TopicPartition(self._topic, partition) for partition in self._paused - full])
            self._paused = full

    def _deliver(self, messages: Sequence[Any]) -> None:
        fetched, errors = sorted_by_partition(messages)
        for error, message in errors:
            self._meet(error, message)
        if fetched:
            self._loop.call_soon_threadsafe(self._on_fetched, self._epoch, fetched)

    def _meet(self, error: KafkaError, message: Any) -> None:
        """Most errors pass by themselves, since librdkafka goes on trying; a lost position does not."""
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise PositionLost(f"partition {message.partition()}: {error.str()}")
        if error.fatal() or error.code() in _HOPELESS:
            raise KafkaException(error)
        log.warning("fetch_error", extra={"partition": message.partition(), "error": error.str()})


_HOPELESS: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError._AUTHENTICATION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_PARTITION,
    }
)
