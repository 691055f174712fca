"""What an executor talks to: its three Kafka clients, the thread that reads outcomes, and the threads that run callbacks.

Nothing here waits. A poll with a timeout lets virtual time pass instead, so an executor that waits for something comes to its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, TopicPartition

from simulation.kafka import Message, Record
from wait_for_me_app.executor.effects import ReadAgain, Start
from wait_for_me_app.executor.ledger import Ledger
from wait_for_me_app.executor.reader import News, ReadOn, Restored
from wait_for_me_app.executor.tenure import Tenure


class FiresMessage(Message):
    """A message of the fires topic."""

    __slots__ = ()

    def timestamp(self) -> tuple[int, int]:
        return TIMESTAMP_LOG_APPEND_TIME, self._record.timestamp


class GroupConsumer:
    """The consumer of fires, a member of the executors' group."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self._on_assign: Callable[..., None] = lambda *_: None
        self._on_revoke: Callable[..., None] = lambda *_: None
        self._on_lost: Callable[..., None] = lambda *_: None
        self.positions: dict[int, int] = {}
        self._leases: dict[int, int] = {}
        self._paused: set[int] = set()
        self.orders: deque[tuple[str, int, int]] = deque()

    def subscribe(self, _topics: list[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self._on_assign, self._on_revoke, self._on_lost = on_assign, on_revoke, on_lost

    def poll(self, timeout: float) -> Message | None:
        self._process.world.pass_time(self._process, timeout)
        while self.orders:
            self._obey(*self.orders.popleft())
        return next(iter(self.consume(1, 0)), None)

    def _obey(self, order: str, partition: int, lease: int) -> None:
        places = [TopicPartition("fires", partition)]
        if order == "assign":
            self._leases[partition] = lease
            self._on_assign(self, places)
        elif self._leases.get(partition) == lease:
            (self._on_revoke if order == "revoke" else self._on_lost)(self, places)
            self.positions.pop(partition, None)
            del self._leases[partition]
            self._process.world.released(partition, lease)

    def consume(self, count: int, _timeout: float) -> list[Message]:
        found: list[Message] = []
        for partition in [one for one in self.positions if one not in self._paused]:
            at_most = min(count - len(found), 1 + self._process.world.roll(4))
            records = self._process.world.fires[partition].read_from(self.positions[partition], at_most)
            if records:
                self.positions[partition] = records[-1].offset + 1
                found += [FiresMessage(partition, record) for record in records]
        return found

    def incremental_assign(self, places: Sequence[TopicPartition]) -> None:
        for place in places:
            self.positions[place.partition] = self._process.world.committed[place.partition]

    def pause(self, places: Sequence[TopicPartition]) -> None:
        self._paused |= {place.partition for place in places}

    def resume(self, places: Sequence[TopicPartition]) -> None:
        self._paused -= {place.partition for place in places}

    def get_watermark_offsets(self, _place: TopicPartition, timeout: float) -> tuple[int, int]:
        return 0, 0

    def commit(self, offsets: Sequence[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        world = self._process.world
        if not all(world.owner.get(place.partition) is self._process for place in offsets):
            if asynchronous:
                return []
            raise KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION))
        for place in offsets:
            world.committed[place.partition] = place.offset
        return list(offsets)

    def close(self) -> None:
        """Nothing is held."""


class OutcomesProducer:
    """The producer of outcomes and dead letters: in order, and acknowledged some time later."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self.waiting: deque[tuple[str, int, Any, Any]] = deque()
        self._acks: deque[tuple[Any, KafkaError | None]] = deque()
        self.failure: KafkaError | None = None

    def produce(self, topic: str, *, partition: int, key: Any, value: Any, headers: Any, on_delivery: Any) -> None:
        self.waiting.append((topic, partition, (key, value, headers), on_delivery))

    def arrive(self) -> None:
        """Let the first record arrive, or be refused."""
        topic, partition, message, on_delivery = self.waiting.popleft()
        if self.failure is None:
            self._process.world.append(topic, partition, message)
        self._acks.append((on_delivery, self.failure))

    def poll(self, timeout: float) -> None:
        if timeout > 0 and self.waiting:
            self._process.world.pass_time(self._process, timeout)
            self.arrive()
        while self._acks:
            on_delivery, error = self._acks.popleft()
            on_delivery(error, None)

    def flush(self, timeout: float) -> None:
        arriving = (
            len(self.waiting) if self._process.world.chance(2) else self._process.world.roll(1 + len(self.waiting))
        )
        for _ in range(arriving):
            self.arrive()
        self.poll(0)

    def __len__(self) -> int:
        return len(self.waiting) + len(self._acks)


class Reader:
    """Stands for `OutcomesReader`: answers when the schedule says so."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self._requests: deque[Restored | ReadOn] = deque()
        self._news: list[News] = []

    def start(self) -> None:
        """There is no thread."""

    def close(self) -> None:
        """There is no thread."""

    def restore(self, tenure: Tenure) -> None:
        self._requests.append(Restored(tenure=tenure, ledger=Ledger(None)))

    def read_on(self, asked: ReadAgain) -> None:
        self._requests.append(ReadOn(asked=asked, end=asked.from_offset))

    def take_news(self) -> list[News]:
        news, self._news = self._news, []
        return news

    @property
    def is_busy(self) -> bool:
        return bool(self._requests or self._news)

    def answer(self) -> None:
        """Answer the first request with what there is now."""
        if not self._requests:
            return
        request, world = self._requests.popleft(), self._process.world
        tenure = request.tenure if isinstance(request, Restored) else request.asked.tenure
        log = world.outcomes[tenure.partition]
        if isinstance(request, Restored):
            request.next_offset = world.committed[tenure.partition]
            for record in log.records:
                request.ledger.fold(record.offset, record.key, record.value, record.timestamp)
        else:
            found: list[Record] = log.read_from(request.asked.from_offset, len(log.records))
            request.records = [(record.key, record.value, record.timestamp) for record in found]
            request.end = found[-1].offset + 1 if found else request.end
        self._news.append(request)


@dataclass(slots=True, kw_only=True)
class RunningCall:
    """One callback that runs."""

    start: Start
    ends_at_ms: float
    lasts_ms: int
    error: BaseException | None
    is_cancelled: bool = False


class Runner:
    """Stands for threads and tasks: a callback ends when its time has come, in the way that luck has chosen."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self.running: dict[int, RunningCall] = {}

    def start(self, start: Start) -> None:
        self.running[start.token] = self._process.world.begin_call(self._process, start)

    def cancel(self, token: int) -> None:
        call = self.running.get(token)
        if call is not None and call.start.is_async:
            call.is_cancelled, call.ends_at_ms = True, 0

    def take_ended(self) -> list[tuple[int, BaseException | None]]:
        ended: list[tuple[int, BaseException | None]] = []
        for token, call in list(self.running.items()):
            if call.ends_at_ms <= self._process.world.now:
                del self.running[token]
                ended.append((token, self._process.world.end_call(self._process, call)))
        return ended

    def close(self) -> None:
        """What runs is left to itself."""
