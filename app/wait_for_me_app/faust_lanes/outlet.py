"""The lanes' way into Kafka: whole record batches through aiokafka's producer, every one awaited.

Faust's producer path is not used:

    ProducerBuffer.put           faust/transport/producer.py:43  overtakes itself
    ProducerBuffer.flush_atmost  faust/transport/producer.py:78  gives up after 0.1 s
    Topic._on_published          faust/topics.py:463             only logs a send that failed

Batches are built here, so that records which belong together are in one of them. Any failure is raised to the lane. Several
producers are used because aiokafka has one request under way per broker and producer; a lane always uses the same one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import aiokafka  # type: ignore[import-untyped]
import msgspec

from wait_for_me_app.lane import NO_HEADERS, Headers, Message

BATCH_MAX_BYTES: Final = 3 << 20
BATCH_TARGET_BYTES: Final = 1 << 20
PRODUCERS: Final = 4


class Appended(msgspec.Struct, frozen=True):
    """Where records have been written."""

    first_offset: int
    last_offset: int
    appended_at_ms: int


class NotAppended(Exception):
    """Kafka did not confirm where a batch was written."""


class KafkaOutlet:
    """Implements `lane.Outlet` with a few idempotent aiokafka producers."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        broker_stamps: bool = True,
        before_send: Callable[[], None] = lambda: None,
        on_appended: Callable[[int, float], None] = lambda _at, _mono: None,
    ) -> None:
        self._settings = settings
        self._broker_stamps = (
            broker_stamps  # the embedded broker keeps the time that was sent, and answers with another
        )
        self._before_send = before_send
        self._on_appended = on_appended
        self._producers: list[aiokafka.AIOKafkaProducer] = []

    async def start(self) -> None:
        """Connect; raises aiokafka's KafkaConnectionError if no broker can be reached."""
        for _ in range(PRODUCERS):
            producer = aiokafka.AIOKafkaProducer(
                acks="all",
                enable_idempotence=True,
                linger_ms=0,
                max_batch_size=BATCH_MAX_BYTES,
                max_request_size=2 * BATCH_MAX_BYTES,
                request_timeout_ms=30_000,
                retry_backoff_ms=50,
                **self._settings,
            )
            await producer.start()
            self._producers.append(producer)

    async def stop(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(producer.stop() for producer in self._producers))

    async def append(self, topic: str, partition: int, units: Sequence[Sequence[Message]]) -> Appended:
        """Append the units in order, each within one batch; return when all of them are safe."""
        self._before_send()
        producer = self._producers[partition % len(self._producers)]
        sent_at_ms = time.time_ns() // 1_000_000
        batches = _batches(producer.create_batch, units)
        pending = [await producer.send_batch(batch, topic, partition=partition) for batch in batches]
        written = [await future for future in pending]  # raises what the broker, or the client, refused
        if any(metadata.offset < 0 for metadata in written):
            raise NotAppended(f"{topic} {partition}: the broker confirmed a batch without saying where it is")
        appended_at_ms = written[-1].timestamp if self._broker_stamps else sent_at_ms
        self._on_appended(appended_at_ms, time.monotonic() * 1000)
        return Appended(written[0].offset, written[-1].offset + batches[-1].record_count() - 1, appended_at_ms)


def _batches(create: Callable[[], Any], units: Sequence[Sequence[Message]]) -> list[Any]:
    """Pack whole units into batches of about `BATCH_TARGET_BYTES`; one unit is never divided."""
    now_ms = time.time_ns() // 1_000_000
    batches = [create()]
    append, filled = batches[-1].append, 0
    weighed, weight = NO_HEADERS, 0  # the rows of a run have one list of headers, which is weighed once
    for unit in units:
        size = 0
        for key, value, headers in unit:
            if headers is not weighed:
                weighed, weight = headers, _weight(headers)
            size += len(key or b"") + len(value or b"") + 64 + weight
        if filled and filled + size > BATCH_TARGET_BYTES:
            batches.append(create())
            append, filled = batches[-1].append, 0
        filled += size
        for key, value, headers in unit:
            if append(timestamp=now_ms, key=key, value=value, headers=headers) is None:
                raise NotAppended(f"the rows of one group need more than a batch of {BATCH_MAX_BYTES} bytes")
    return batches


def _weight(headers: Headers) -> int:
    """Return at least the bytes that headers take in a batch, which may be more than all the rest of their record."""
    return sum(
        len(name) * 4 + len(content or b"") + 10 for name, content in headers
    )  # a character has at most four bytes
