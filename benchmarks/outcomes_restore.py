"""How long an executor takes to know what has become of a million fires, and what memory that costs.

    python -m benchmarks.outcomes_restore [--outcomes 1000000] [--pending 20000]

It writes final outcomes as an executor leaves them, each with the deletion of its progress, and fires that still wait; then
it reads them back with the executor's own reader, on a broker of its own. Promised: 15 s for a million.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
import uuid
from collections.abc import Iterator
from typing import Final

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from msgspec import Raw

from benchmarks.broker import running_broker
from benchmarks.place import say
from wait_for_me.topic_names import TopicNames
from wait_for_me_app.executor.clients import make_reader
from wait_for_me_app.executor.reader import OutcomesReader, Restored
from wait_for_me_app.executor.tenure import Tenure
from wait_for_me_app.outcomes import ACCEPTED, DONE, Finished, Progress, encode_outcome, final_key, progress_key
from wait_for_me_app.settings import Settings

PROMISED_SECONDS: Final = 15.0
_FIRE: Final = Raw(b'{"type":"fire","padding":"' + b"x" * 600 + b'"}')
_PATIENCE_SECONDS: Final = 600.0

Record = tuple[bytes, bytes | None]


def main() -> int:
    """Measure once; exit code 1 when it took longer than promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outcomes", type=int, default=1_000_000)
    parser.add_argument("--pending", type=int, default=20_000)
    given = parser.parse_args()
    with running_broker({}) as broker:
        settings = Settings(
            bootstrap_servers=broker.bootstrap_servers, prefix="restore", replication_factor=1, unsafe=True
        )
        _fill(settings, given.outcomes, given.pending)
        before_mib, load = _rss_mib(), os.getloadavg()[0]
        seconds, restored = _restore(settings)
    ledger = restored.ledger
    assert (len(ledger.final), len(ledger.pending)) == (given.outcomes, given.pending), "not all of it has been read"
    say(
        f"{given.outcomes:,} final and {given.pending:,} pending fires restored in {seconds:.1f} s, load average {load:.1f}"
    )
    say(f"memory {before_mib:.0f} MiB before, at most {_peak_mib():.0f} MiB")
    return 0 if seconds <= PROMISED_SECONDS * given.outcomes / 1_000_000 else 1


def _records(outcomes: int, pending: int) -> Iterator[Record]:
    for number in range(outcomes):
        fire_id = f"fire_{uuid.uuid5(uuid.NAMESPACE_OID, str(number))}"
        yield final_key(fire_id), encode_outcome(_finished(fire_id, number))
        yield progress_key(fire_id), None
    for number in range(outcomes, outcomes + pending):
        fire_id = f"fire_{uuid.uuid5(uuid.NAMESPACE_OID, str(number))}"
        yield progress_key(fire_id), encode_outcome(_accepted(fire_id, number))


def _finished(fire_id: str, number: int) -> Finished:
    return Finished(
        fire_id=fire_id, group_key=f"g-{number}", callback="bench", partition=0, offset=number, revision=3, attempt=1,
        state=DONE, finished_at_ms=1_800_000_000_000 + number, took_ms=3, executor="bench:1",
    )  # fmt: skip


def _accepted(fire_id: str, number: int) -> Progress:
    return Progress(
        fire_id=fire_id, group_key=f"g-{number}", callback="bench", partition=0, offset=number, revision=1, attempt=0,
        state=ACCEPTED, accepted_at_ms=1_800_000_000_000 + number, fire=_FIRE,
    )  # fmt: skip


def _fill(settings: Settings, outcomes: int, pending: int) -> None:
    topics, servers = settings.topics, settings.bootstrap_servers
    admin = AdminClient({"bootstrap.servers": servers})
    made = admin.create_topics([NewTopic(topic, 1, 1) for topic in (topics.fires, topics.outcomes)])
    for future in made.values():
        future.result(30)
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20, "queue.buffering.max.messages": 200_000})
    for key, value in _records(outcomes, pending):
        _produce(producer, topics, key, value)
    assert producer.flush(120) == 0, "not all of it could be written"


def _produce(producer: Producer, topics: TopicNames, key: bytes, value: bytes | None) -> None:
    while True:
        try:
            producer.produce(topics.outcomes, partition=0, key=key, value=value)
            return
        except BufferError:
            producer.poll(0.1)


def _restore(settings: Settings) -> tuple[float, Restored]:
    reader = OutcomesReader(make_reader(settings), settings.topics, None)
    reader.start()
    try:
        started = time.monotonic()
        reader.restore(Tenure(partition=0))
        while time.monotonic() - started < _PATIENCE_SECONDS:
            for news in reader.take_news():
                assert isinstance(news, Restored), f"the outcomes cannot be read: {news}"
                return time.monotonic() - started, news
            time.sleep(0.01)
        raise TimeoutError("the outcomes are not restored: see the broker")
    finally:
        reader.close()


def _rss_mib() -> float:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 2**20


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(main())
