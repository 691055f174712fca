"""Brings a local store up to its changelog, and keeps a standby's there.

Later records do not always win; which ones do is judged in `storage/newest_rows.py`.

Blocking: everything here runs in a thread, beside the event loop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from wait_for_me.errors import NotReady
from wait_for_me_app.broker_failover import PASSING, is_passing
from wait_for_me_app.crash_points import crash_point
from wait_for_me_app.lane import Gap, LoggedRow
from wait_for_me_app.storage import keys
from wait_for_me_app.storage.newest_rows import NewestRows
from wait_for_me_app.storage.run_end import run_end_in
from wait_for_me_app.storage.store import Store

log = logging.getLogger(__name__)

BATCH_RECORDS: Final = 10_000
READ_RECORDS: Final = 2_000
READ_SECONDS: Final = 0.02
"""How long a call waits for so many; more of either lets librdkafka's queue run full, and the reader wait for it."""
TIMEOUT_SECONDS: Final = 20.0
ATTEMPT_SECONDS: Final = 5.0

_PROPERTIES: Final[Mapping[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_uncommitted",
    "enable.partition.eof": True,
    "fetch.queue.backoff.ms": 5,
    "queued.max.messages.kbytes": 16_384,
}


# A leader is being elected, and the client has just learned that there is none; bounded by TIMEOUT_SECONDS.
_PASSING: Final = PASSING | {KafkaError._UNKNOWN_PARTITION}


class RestoreGivenUp(Exception):
    """Nobody waits for the restore any more."""


@dataclass(frozen=True, kw_only=True)
class LogBounds:
    """The first offset that a partition has, and the one that its next record will get."""

    first: int
    end: int


class Restored(NamedTuple):
    """How far a partition's store has been restored."""

    own_until: int
    """The end, or where a zombie's records begin: the new owner has to write those over before compaction keeps them."""
    end: int
    newest: NewestRows


class Changelog:
    """Reads the partitions of one changelog topic."""

    def __init__(self, properties: Mapping[str, Any], topic: str) -> None:
        self._properties = {**properties, **_PROPERTIES}
        self._topic = topic
        self._probe: Consumer | None = None

    def bounds(self, partitions: Iterable[int]) -> dict[int, LogBounds]:
        """Return where each partition begins and ends now; asked every second, so it keeps its connection.

        Raises NotReady if the brokers have not answered for all of them within TIMEOUT_SECONDS.
        """
        if self._probe is None:
            self._probe = Consumer(self._properties)
        probe, give_up_at = self._probe, time.monotonic() + TIMEOUT_SECONDS
        return {partition: self._bounds(probe, partition, give_up_at) for partition in partitions}

    def close(self) -> None:
        """Close the connection that `bounds` keeps."""
        if self._probe is not None:
            self._probe.close()
            self._probe = None

    def restore(self, stores: Mapping[int, Store], goes_on: Callable[[], bool] = lambda: True) -> dict[int, Restored]:
        """Read each partition from its store's offset to its end.

        Raises RestoreGivenUp soon after `goes_on` says no, and NotReady if the brokers do not answer.
        """
        if not stores:
            return {}
        bounds = self.bounds(stores)
        behind = {p: store for p, store in stores.items() if store.changelog_offset + 1 < bounds[p].end}
        appliers = self._read_to_the_end(behind, bounds, goes_on) if behind else {}
        return {
            number: (appliers.get(number) or Applier(store)).restored(bounds[number].end)
            for number, store in stores.items()
        }

    def read_gap(self, partition: int, start: int) -> Gap:
        """Return what stands between `start` and the end of a partition."""
        consumer = Consumer(self._properties)
        try:
            end = self._bounds(consumer, partition, time.monotonic() + TIMEOUT_SECONDS).end
            consumer.assign([TopicPartition(self._topic, partition, start)])
            messages = [message for message in _messages_until_eof(consumer, 1) if message.offset() < end]
            keyed = [message for message in messages if message.key() is not None]
            return Gap(
                [LoggedRow(one.offset(), one.key(), one.value(), run_end_in(one.headers())) for one in keyed], end
            )
        finally:
            consumer.close()

    def _read_to_the_end(
        self, stores: Mapping[int, Store], bounds: Mapping[int, LogBounds], goes_on: Callable[[], bool]
    ) -> Mapping[int, Applier]:
        appliers = {partition: Applier(store) for partition, store in stores.items()}
        consumer = Consumer(self._properties)
        try:
            consumer.assign([self._position(partition, store, bounds) for partition, store in stores.items()])
            for message in _messages_until_eof(consumer, len(stores), goes_on):
                appliers[message.partition()].take(message)
        finally:
            consumer.close()
        for partition, applier in appliers.items():
            applier.flush()
            applier.reach(bounds[partition].end - 1)
        return appliers

    def _position(self, partition: int, store: Store, bounds: Mapping[int, LogBounds]) -> TopicPartition:
        start = max(store.changelog_offset + 1, bounds[partition].first)
        return TopicPartition(self._topic, partition, start or OFFSET_BEGINNING)

    def _bounds(self, consumer: Consumer, partition: int, give_up_at: float) -> LogBounds:
        wanted = TopicPartition(self._topic, partition)
        while True:
            try:
                first, end = consumer.get_watermark_offsets(wanted, timeout=ATTEMPT_SECONDS)
                return LogBounds(first=first, end=end)
            except KafkaException as failure:
                error = failure.args[0]
                if not passes(error):
                    raise
                if time.monotonic() >= give_up_at:
                    raise NotReady(
                        f"The brokers do not say where {self._topic} {partition} ends ({error}); check that its leader is up."
                    ) from failure
                time.sleep(0.1)

    def tail(self, stores: Mapping[int, Store]) -> StandbyTail:
        """Return a thread that keeps these stores at the end of the changelog."""
        return StandbyTail(self._properties, self._topic, stores)


class Applier:
    """Writes the records that count to a store, in batches."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._newest = NewestRows(store)
        self._changes: dict[bytes, bytes | None] = {}
        self._offset = store.changelog_offset
        self.first_ignored: int | None = None
        """Where the first record lies that did not count; the store's offset stays before it until it has been written over."""

    def take(self, message: Any) -> None:
        """Add one changelog record."""
        key, value = message.key(), message.value()
        if key is None or self._newest.counts(message.offset(), key, value, run_end_in(message.headers())):
            if key is not None:
                self._changes[key] = value
            if self.first_ignored is None and key == keys.WATERMARK_KEY:
                # Not past what is uncovered: that is judged again after a crash.
                self._offset = self._newest.reachable(message.offset())
        elif self.first_ignored is None:
            self.first_ignored = message.offset()
        if len(self._changes) >= BATCH_RECORDS:
            self.flush()

    def flush(self) -> None:
        """Write what has been added."""
        crash_point("K7")
        self._store.write(self._changes.items(), self._offset)
        self._changes = {}

    def reach(self, offset: int) -> None:
        """Note that there is nothing up to this offset that is not in the store (compaction leaves holes)."""
        offset = self._newest.reachable(offset)
        if offset > self._store.changelog_offset and self.first_ignored is None:
            self._store.write((), offset)

    def restored(self, end: int) -> Restored:
        """Return how far the store has come, when everything before the end has been taken."""
        return Restored(end if self.first_ignored is None else self.first_ignored, end, self._newest)


class StandbyTail:
    """Follows a changelog for the partitions of which this worker holds a copy."""

    def __init__(self, properties: Mapping[str, Any], topic: str, stores: Mapping[int, Store]) -> None:
        self._consumer = Consumer(dict(properties))
        self._topic = topic
        self._stores = dict(stores)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="standby", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the stores are whole."""
        self._stopped.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        appliers = {partition: Applier(store) for partition, store in self._stores.items()}
        positions = [
            TopicPartition(self._topic, partition, store.changelog_offset + 1 or OFFSET_BEGINNING)
            for partition, store in self._stores.items()
        ]
        try:
            self._consumer.assign(positions)
            while not self._stopped.is_set():
                self._follow(appliers)
        except Exception:
            log.exception("standby_stopped")  # the store is only behind: a take-over restores the rest
        finally:
            self._consumer.close()

    def _follow(self, appliers: Mapping[int, Applier]) -> None:
        touched: set[int] = set()
        fetched: list[Any] = self._consumer.consume(BATCH_RECORDS, 0.1)
        for message in fetched:
            if message.error() is None:
                appliers[message.partition()].take(message)
                touched.add(message.partition())
        for partition in touched:
            appliers[partition].flush()


def passes(error: KafkaError) -> bool:
    """Return whether an error is one that a broker's death brings, and its successor ends."""
    return is_passing(error, _PASSING)


def _messages_until_eof(
    consumer: Consumer, partitions: int, goes_on: Callable[[], bool] = lambda: True
) -> Iterable[Any]:
    """Yield messages until each partition has come to its end once."""
    ended: set[int] = set()
    give_up_at = time.monotonic() + TIMEOUT_SECONDS
    while len(ended) < partitions:
        if not goes_on():
            raise RestoreGivenUp("a later assignment has begun")
        messages: list[Any] = consumer.consume(READ_RECORDS, READ_SECONDS)
        for message in messages:
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            elif not passes(error):
                raise KafkaException(error)
        if any(message.error() is None or message.error().code() == KafkaError._PARTITION_EOF for message in messages):
            give_up_at = time.monotonic() + TIMEOUT_SECONDS
        elif time.monotonic() >= give_up_at:
            raise NotReady(
                f"no answer from Kafka for {TIMEOUT_SECONDS:.0f} s while reading a changelog; check the brokers"
            )
