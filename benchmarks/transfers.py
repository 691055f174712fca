"""Bytes in and out of Kafka: as the worker fetches them, and by librdkafka alone."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, Final

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.lane_stages import Pieces
from benchmarks.stopwatch import Spent
from wait_for_me_app.faust_lanes.fetch import FETCH_PROPERTIES, FetchThread
from wait_for_me_app.faust_lanes.messages import Fetched

_TIMEOUT_SECONDS: Final = 120


def _properties(bootstrap_servers: str) -> dict[str, Any]:
    return {"bootstrap.servers": bootstrap_servers, "group.id": f"stages-{uuid.uuid4()}"}


def timed_raw_consume(bootstrap_servers: str, topic: str, partitions: int, adds: int) -> Spent:
    """Consume the commands and do nothing with them."""
    consumer, left, spent = Consumer({**_properties(bootstrap_servers), **FETCH_PROPERTIES}), adds, Spent()
    with spent.section():
        consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
        while left > 0:
            left -= len(consumer.consume(min(left, 10_000), 1.0))
    consumer.close()
    return spent


def timed_fetch(bootstrap_servers: str, topic: str, partitions: int, adds: int) -> Spent:
    """Run the worker's fetch thread until an event loop has been handed all commands as records."""
    return asyncio.run(_fetch(bootstrap_servers, topic, partitions, adds))


async def _fetch(bootstrap_servers: str, topic: str, partitions: int, adds: int) -> Spent:
    left, done, spent = adds, asyncio.Event(), Spent()
    failures: list[BaseException] = []

    def on_fetched(_epoch: int, fetched: Fetched) -> None:
        nonlocal left
        left -= sum(len(records) for records, _ in fetched.values())
        if left <= 0:
            done.set()

    def on_failure(error: BaseException) -> None:
        failures.append(error)
        done.set()

    thread = FetchThread(
        _properties(bootstrap_servers),
        topic,
        loop=asyncio.get_running_loop(),
        on_fetched=on_fetched,
        on_failure=on_failure,
    )
    thread.start()
    with spent.section():
        thread.assign(1, dict.fromkeys(range(partitions), 0))
        await asyncio.wait_for(done.wait(), _TIMEOUT_SECONDS)
    await asyncio.to_thread(thread.stop)
    if failures:
        raise failures[0]
    return spent


def timed_raw_produce(pieces: Pieces, bootstrap_servers: str, rows_topic: str, fires_topic: str) -> Spent:
    """Produce the same rows and fires with librdkafka, in batches of its own, awaited once at the end."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "enable.idempotence": True,
            "linger.ms": 5,
            "batch.size": 1 << 20,
            "queue.buffering.max.messages": 1_000_000,
            "delivery.report.only.error": True,
        }
    )
    records = [(rows_topic, *message) for run in pieces.runs for unit in run.row_messages() for message in unit]
    records += [(fires_topic, *message) for run in pieces.runs for unit in run.fire_messages() for message in unit]
    spent = Spent()
    with spent.section():
        for topic, key, value, headers in records:
            _produce(producer, topic, key, value, headers)
        if producer.flush(_TIMEOUT_SECONDS):
            raise TimeoutError("librdkafka did not produce everything in time")
    return spent


def _produce(
    producer: Producer, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    while True:
        try:
            producer.produce(topic, key=key, value=value, headers=[*headers] or None, partition=0)
            return
        except BufferError:
            producer.poll(0.05)
