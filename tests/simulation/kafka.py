"""A Kafka of plain lists: partitions, append times of one broker clock, requests that are lost on the way, and compaction.

wire     batches that a process has sent: applied first, acknowledged later, in order for each partition. A process may die
         between the two, or before both; then its first batch may still arrive (a request that was under way).
compact  keeps the last record of each key among records older than the lag, and drops tombstones that have been kept long enough
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, TopicPartition

from simulation.tasks import Pending
from wait_for_me_app.storage.keys import WATERMARK_KEY
from wait_for_me_app.storage.run_end import NO_RUN, RunEnd, run_end_in

COMPACTION_LAG_MS: Final = 3_600_000
DELETE_RETENTION_MS: Final = 24 * 3_600_000
LOG_APPEND_TIME: Final = 1

Headers = Sequence[tuple[str, bytes]]


class Record:
    """A record of any topic, as the fold, the reference and a consumer read it."""

    __slots__ = ("headers", "key", "offset", "timestamp", "timestamp_ms", "timestamp_type", "value")

    def __init__(self, offset: int, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        self.offset = offset
        self.timestamp = self.timestamp_ms = timestamp
        self.timestamp_type = LOG_APPEND_TIME
        self.key, self.value, self.headers = key, value, headers


class Message:
    """A record as confluent-kafka hands it out."""

    __slots__ = ("_partition", "_record")

    def __init__(self, partition: int, record: Record) -> None:
        self._partition, self._record = partition, record

    def error(self) -> None:
        return None

    def key(self) -> bytes | None:
        return self._record.key

    def value(self) -> bytes | None:
        return self._record.value

    def headers(self) -> Headers:
        return self._record.headers

    def offset(self) -> int:
        return self._record.offset

    def partition(self) -> int:
        return self._partition


class EndOfPartition:
    """What confluent-kafka hands out where a partition ends for now."""

    __slots__ = ("_partition",)
    _error = KafkaError(KafkaError._PARTITION_EOF)

    def __init__(self, partition: int) -> None:
        self._partition = partition

    def error(self) -> KafkaError:
        return self._error

    def partition(self) -> int:
        return self._partition


class Partition:
    """One partition's log."""

    __slots__ = ("cleaned_at", "end", "records")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.end = 0
        self.cleaned_at: dict[int, int] = {}

    def append(self, messages: Sequence[tuple[bytes | None, bytes | None, Headers]], at_ms: int) -> int:
        """Append a batch, all of it at one time; return its first offset."""
        first = self.end
        self.records += [Record(first + index, at_ms, *message) for index, message in enumerate(messages)]
        self.end += len(messages)
        return first

    def read_from(self, offset: int, at_most: int) -> list[Record]:
        """Return records at and after an offset; compaction and markers leave holes."""
        records = self.records
        low, high = 0, len(records)
        while low < high:
            middle = (low + high) // 2
            if records[middle].offset < offset:
                low = middle + 1
            else:
                high = middle
        return records[low : low + at_most]

    def compact(self, now_ms: int, boundary: int) -> None:
        """Clean the records before `boundary` that are older than the lag."""
        youngest_ms = now_ms - COMPACTION_LAG_MS
        count = 0
        for record in self.records:
            if record.offset >= boundary or record.timestamp > youngest_ms:
                break
            count += 1
        last = {record.key: record.offset for record in self.records[:count]}
        self.records[:count] = [
            one for one in self.records[:count] if last[one.key] == one.offset and self._stays(one, now_ms)
        ]

    def is_in_order(self) -> bool:
        """Return whether each key's last record counts, so that compaction keeps the right one."""
        furthest: dict[bytes | None, RunEnd] = {}
        counts: dict[bytes | None, bool] = {}
        watermark = NO_RUN
        for record in self.records:
            run_end = run_end_in(record.headers)
            counts[record.key] = run_end >= max(watermark, furthest.get(record.key, NO_RUN))
            if counts[record.key]:
                furthest[record.key] = run_end
                watermark = run_end if record.key == WATERMARK_KEY else watermark
        return all(counts.values())

    def _stays(self, record: Record, now_ms: int) -> bool:
        if record.value is not None:
            return True
        return now_ms < self.cleaned_at.setdefault(record.offset, now_ms) + DELETE_RETENTION_MS


class Batch:
    """What `create_batch` returns: messages that reach the log together."""

    __slots__ = ("bytes", "messages")

    def __init__(self) -> None:
        self.messages: list[tuple[bytes | None, bytes | None, Headers]] = []
        self.bytes = 0

    def append(self, *, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers) -> bool:
        self.messages.append((key, value, headers))
        self.bytes += len(key or b"") + len(value or b"") + 64
        return True

    def record_count(self) -> int:
        return len(self.messages)

    def size(self) -> int:
        return self.bytes


class Written:
    """What the broker confirms."""

    __slots__ = ("offset", "timestamp")

    def __init__(self, offset: int, timestamp: int) -> None:
        self.offset, self.timestamp = offset, timestamp


class Wire:
    """One process's way to one partition: one batch is under way, the others wait behind it."""

    __slots__ = ("name", "partition", "process", "requests", "under_way")

    def __init__(self, process: Any, partition: Partition, name: tuple[str, int]) -> None:
        self.process, self.partition, self.name = process, partition, name
        self.requests: deque[tuple[Batch, Pending]] = deque()
        self.under_way: Written | None = None


class Producer:
    """Stands for aiokafka's producer; a failure ends its process."""

    def __init__(self, process: Any) -> None:
        self._process = process

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Pending:
        return self._process.send(batch, topic, partition)


class Consumer:
    """Stands for confluent-kafka's consumer of a changelog."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self._process = properties["sim.process"]
        self._positions: dict[int, int] = {}
        self._at_end: set[int] = set()

    def get_watermark_offsets(self, where: TopicPartition, timeout: float) -> tuple[int, int]:
        self._process.asks_kafka()
        return 0, self._process.world.changelogs[where.partition].end

    def assign(self, places: Sequence[TopicPartition]) -> None:
        self._positions = {one.partition: max(one.offset, 0) for one in places}

    def poll(self, timeout: float) -> Any:
        self._process.asks_kafka()
        return next(iter(self.consume(1, timeout)), None)

    def consume(self, count: int, timeout: float) -> list[Any]:
        found: list[Any] = []
        for partition, position in self._positions.items():
            log = self._process.world.changelogs[partition]
            records = log.read_from(position, count - len(found))
            found += [Message(partition, record) for record in records]
            if len(found) >= count:
                self._positions[partition] = records[-1].offset + 1 if records else position
                return found
            self._positions[partition] = max(log.end, position)
            if partition not in self._at_end or records:
                self._at_end.add(partition)
                found.append(EndOfPartition(partition))
        return found

    def close(self) -> None:
        """Nothing is held."""


class NoKafka(Exception):
    """A request that was not confirmed in time; what the client raises."""
