"""Reads outcomes to their end, in a thread of its own: the whole partition at a takeover, the rest when an attempt
elsewhere is waited for.

It joins no group and commits nothing. The thread that talks to the group goes on meanwhile, however long a restore
takes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from wait_for_me.topic_names import TopicNames
from wait_for_me_app.broker_failover import PASSING, is_passing
from wait_for_me_app.executor.effects import ReadAgain
from wait_for_me_app.executor.ledger import Ledger
from wait_for_me_app.executor.takeover import OutcomeRecord
from wait_for_me_app.executor.tenure import Tenure

log = logging.getLogger(__name__)

_RECORDS_AT_ONCE: Final = 2_000
_POLL_SECONDS: Final = 0.02
"""How long a call may wait for that many; the last of a partition waits for it too."""
_REQUEST_SECONDS: Final = 15.0
_PAUSE_SECONDS: Final = 0.5
# This reader also asks for what the group has committed, so it meets coordinators that move.
_PASSING: Final = PASSING | {
    KafkaError._RESOLVE,
    KafkaError._WAIT_COORD,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
}

_T = TypeVar("_T")


@dataclass(kw_only=True, eq=False)
class Restored:
    """All outcomes of a partition, folded, and where its fires go on."""

    tenure: Tenure
    ledger: Ledger
    next_offset: int = 0


@dataclass(kw_only=True, eq=False)
class ReadOn:
    """The outcomes that have come since."""

    asked: ReadAgain
    end: int
    records: list[OutcomeRecord] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ReaderFailed:
    """The outcomes cannot be read; the executor must not go on."""

    error: BaseException


News = Restored | ReadOn | ReaderFailed


class OutcomesReader:
    """Answers requests in the order in which they came, several partitions at once."""

    def __init__(self, consumer: Consumer, topics: TopicNames, outcomes_kept_ms: int | None) -> None:
        self._topics = topics
        self._kept_ms = outcomes_kept_ms
        self._consumer = consumer
        self._requests: SimpleQueue[Restored | ReadOn | None] = SimpleQueue()
        self._news: SimpleQueue[News] = SimpleQueue()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="outcomes-reader", daemon=True)
        self._under_way = 0

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._is_closed.set()
        self._requests.put(None)
        self._thread.join(_REQUEST_SECONDS)

    def restore(self, tenure: Tenure) -> None:
        """Ask for all outcomes of a partition."""
        self._ask(Restored(tenure=tenure, ledger=Ledger(self._kept_ms)))

    def read_on(self, asked: ReadAgain) -> None:
        """Ask for the outcomes of a partition from an offset on."""
        self._ask(ReadOn(asked=asked, end=asked.from_offset))

    def take_news(self) -> list[News]:
        """Return what has been read since the last call."""
        news = _drain(self._news)
        self._under_way -= len(news)
        return news

    @property
    def is_busy(self) -> bool:
        """Whether an answer is still to come."""
        return self._under_way > 0

    def _ask(self, request: Restored | ReadOn) -> None:
        self._under_way += 1
        self._requests.put(request)

    # -- in the thread

    def _serve(self) -> None:
        waiting: list[Restored | ReadOn] = []
        try:
            while not self._is_closed.is_set():
                waiting += self._wait_for_requests() if not waiting else _drain_requests(self._requests)
                batch = {_partition(request): request for request in reversed(waiting)}  # the first of each partition
                waiting = [request for request in waiting if batch[_partition(request)] is not request]
                self._answer(batch)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the executor must hear of it
            self._news.put(ReaderFailed(error=error))
        finally:
            self._consumer.close()

    def _wait_for_requests(self) -> list[Restored | ReadOn]:
        first = self._requests.get()
        return [*([first] if first else []), *_drain_requests(self._requests)]

    def _answer(self, batch: dict[int, Restored | ReadOn]) -> None:
        for partition, request in batch.items():
            if isinstance(request, Restored):
                request.next_offset = self._next_offset(partition)
        unread = dict(batch)
        self._consumer.assign([self._start_of(request) for request in batch.values()])
        while unread and not self._is_closed.is_set():
            self._take_all(self._read(), unread)
        if batch:
            self._consumer.unassign()

    def _start_of(self, request: Restored | ReadOn) -> TopicPartition:
        offset = OFFSET_BEGINNING if isinstance(request, Restored) else request.asked.from_offset
        return TopicPartition(self._topics.outcomes, _partition(request), offset)

    def _read(self) -> list[Message]:
        return self._consumer.consume(_RECORDS_AT_ONCE, _POLL_SECONDS)

    def _take_all(self, messages: list[Message], unread: dict[int, Restored | ReadOn]) -> None:
        for message in messages:
            request = unread.get(message.partition())  # type: ignore[arg-type]  # None is no partition, and finds nothing
            if message.error() is None and request is not None:
                _fold(request, message)
            else:
                self._take_event(message, unread)

    def _take_event(self, message: Message, unread: dict[int, Restored | ReadOn]) -> None:
        partition, error = message.partition(), message.error()
        request = unread.get(partition) if partition is not None else None
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            _raise_unless_passing(error)
        elif request is not None and error is not None:
            self._news.put(request)
            del unread[_partition(request)]

    def _next_offset(self, partition: int) -> int:
        """Return where the group goes on with the fires of a partition, and say so if some are gone that nobody has read."""
        there = TopicPartition(self._topics.fires, partition)
        committed = self._insist(lambda: self._consumer.committed([there], _REQUEST_SECONDS))[0].offset
        first, end = self._insist(lambda: self._consumer.get_watermark_offsets(there, _REQUEST_SECONDS))
        if committed >= 0 and not first <= committed <= end:
            extra = {"partition": partition, "committed": committed, "first": first, "end": end}
            log.error("fires_gone", extra=extra)
        return committed if first <= committed <= end else first

    def _insist(self, ask: Callable[[], _T]) -> _T:
        """Ask Kafka until it answers; only an answer that will not change is an error."""
        while True:
            try:
                return ask()
            except KafkaException as exception:
                if self._is_closed.is_set():
                    raise
                _raise_unless_passing(exception.args[0])
                time.sleep(_PAUSE_SECONDS)


def _partition(request: Restored | ReadOn) -> int:
    return (request.tenure if isinstance(request, Restored) else request.asked.tenure).partition


def _fold(request: Restored | ReadOn, message: Message) -> None:
    offset, appended_at_ms = message.offset() or 0, message.timestamp()[1]
    if isinstance(request, Restored):
        request.ledger.fold(offset, message.key(), message.value(), appended_at_ms)
    else:
        request.records.append((message.key(), message.value(), appended_at_ms))
        request.end = offset + 1


def _raise_unless_passing(error: KafkaError) -> None:
    if not is_passing(error, _PASSING):
        raise KafkaException(error)
    log.warning("outcomes_out_of_reach", extra={"code": error.name(), "why": error.str()})


def _drain(queue: SimpleQueue[_T]) -> list[_T]:
    taken: list[_T] = []
    with contextlib.suppress(Empty):
        while True:
            taken.append(queue.get_nowait())
    return taken


def _drain_requests(queue: SimpleQueue[Restored | ReadOn | None]) -> list[Restored | ReadOn]:
    return [request for request in _drain(queue) if request is not None]
