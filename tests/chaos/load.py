"""The load: what is sent, and when, is a function of the seed; who sends it also notes what Kafka has acknowledged."""

from __future__ import annotations

import heapq
import json
import random
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from wait_for_me.partitioner import partition_for

_KINDS: Final = ("complete", "timeout", "removed", "duplicate", "late", "conflict", "misplaced", "again")
_WEIGHTS: Final = (44, 34, 7, 5, 4, 3, 1, 2)
_CALLBACKS: Final = ("chaos.note", "chaos.async", "chaos.flaky", "chaos.hopeless")
_CALLBACK_WEIGHTS: Final = (70, 22, 7, 1)
HUGE: Final = 2_000
_HOT_EVERY_S: Final = 0.1
_HOT_SIZE: Final = 25
_POISON: Final = (
    b"",
    b"\xff\xfe garbage",
    b"[]",
    b'{"type":"add"}',
    b'{"type":"explode","group_key":"p"}',
    (
        b'{"type":"add","group_key":"poison","participant_key":"p","number_of_participants_in_group":"6","execute_after_waiting":'
        b'"chaos.note","wait_time_in_seconds":1}'
    ),
    (
        b'{"type":"add","group_key":"poison","participant_key":"p","number_of_participants_in_group":2,"execute_after_waiting":'
        b'"os.system(1)","wait_time_in_seconds":1}'
    ),
    (
        b'{"type":"add","group_key":"poison","participant_key":"p","number_of_participants_in_group":2,"execute_after_waiting":'
        b'"chaos.note","wait_time_in_seconds":NaN}'
    ),
    b'{"type":"remove","group_key":"not the key"}',
    b"[" * 5_000,
)


@dataclass(frozen=True, order=True)
class Sent:
    """A record for the commands topic, so many seconds after the begin."""

    at_s: float
    order: int
    key: bytes | None = field(compare=False)
    value: bytes | None = field(compare=False)
    partition: int | None = field(compare=False, default=None)


def stream(seed: int, *, groups: int, seconds: float, partitions: int) -> Iterator[Sent]:
    """Yield everything in the order of its time; `groups` groups begin evenly over `seconds`."""
    heap: list[Sent] = []
    for number in range(groups):
        begins = number * seconds / groups
        while heap and heap[0].at_s <= begins:
            yield heapq.heappop(heap)
        for sent in _group(seed, number, begins, partitions):
            heapq.heappush(heap, sent)
    while heap:
        yield heapq.heappop(heap)


def merged(seed: int, *, groups: int, seconds: float, partitions: int) -> Iterator[Sent]:
    """Yield the stream of ordinary groups, with the hot group and a few huge ones in between."""
    huge = max(1, round(seconds / 130))
    rows = [stream(seed, groups=groups, seconds=seconds, partitions=partitions), _hot(seconds)]
    rows += [_huge(number, (number + 0.3) * seconds / huge) for number in range(huge)]
    return heapq.merge(*rows)


def _add(group: str, participant: str, of: int, wait: float, callback: str, **more: Any) -> bytes:
    members = {
        "type": "add",
        "group_key": group,
        "participant_key": participant,
        "number_of_participants_in_group": of,
        "execute_after_waiting": callback,
        "wait_time_in_seconds": wait,
        **more,
    }
    return json.dumps(members, separators=(",", ":")).encode()


def _group(seed: int, number: int, begins: float, partitions: int) -> Iterator[Sent]:
    rng = random.Random(f"{seed} {number}")
    kind = rng.choices(_KINDS, _WEIGHTS)[0]
    callback = rng.choices(_CALLBACKS, _CALLBACK_WEIGHTS)[0]
    group = f"{kind}-{number}"
    key, size = group.encode(), rng.randint(2, 5)
    wait = round(rng.uniform(0.5, 6.0), 3) if kind in ("timeout", "late") else float(rng.randint(10, 15))
    here = partition_for(key, partitions)
    place = (here + 1) % partitions if kind == "misplaced" else None
    at, order = begins, number * 64
    present = size if kind not in ("timeout", "removed", "late") else rng.randint(1, size - 1)
    for participant in range(present):
        event = f"e-{number}-{participant}"
        value = _add(group, f"p-{participant}", size, wait, callback, event_id=event)
        yield Sent(at, order, key, value, place)
        if kind == "duplicate":
            yield Sent(at + rng.uniform(0, 1.0), order + 32, key, value, place)
        at, order = at + rng.uniform(0.0, 1.2), order + 1
    yield from _afterwards(rng, kind, group, size, wait, callback, at, order, begins)
    if rng.random() < 0.02:
        poison = rng.choice(_POISON)
        yield Sent(at, order + 20, rng.choice((b"poison", b"", None, key)), poison or rng.choice((b"", None)), here)


def _afterwards(
    rng: random.Random,
    kind: str,
    group: str,
    size: int,
    wait: float,
    callback: str,
    at: float,
    order: int,
    begins: float,
) -> Iterator[Sent]:
    key = group.encode()
    if kind == "removed":
        yield Sent(at, order + 1, key, json.dumps({"type": "remove", "group_key": group}).encode())
    elif kind == "late":  # a round of its own when it comes after the linger, too
        yield Sent(at + wait * rng.choice((1.3, 2.5)), order + 1, key, _add(group, "late", size, wait, callback))
    elif kind == "conflict":
        yield Sent(
            max(begins, at - 0.5), order + 1, key, _add(group, "p-0", size + 1, wait, callback, event_id="other")
        )
    elif kind == "again":
        yield Sent(at + 2.0, order + 1, key, _add(group, "p-0", 1, 1, callback, linger_in_seconds=0))


def _hot(seconds: float) -> Iterator[Sent]:
    """One group that fills again and again, and is free again at once."""
    for number in range(int(seconds / _HOT_EVERY_S)):
        value = _add("hot", f"p-{number % _HOT_SIZE}", _HOT_SIZE, 8, "chaos.note", linger_in_seconds=0)
        yield Sent(number * _HOT_EVERY_S, -1, b"hot", value)


def _huge(number: int, begins: float) -> Iterator[Sent]:
    """Two thousand participants in ten seconds; every other group lacks some of them."""
    group = f"huge-{number}"
    for participant in range(HUGE - 10 * (number % 2)):
        value = _add(group, f"participant-{participant:05d}", HUGE, 9, "chaos.note")
        yield Sent(begins + participant * 10 / HUGE, -2, group.encode(), value)


class Loader:
    """Sends a stream in its time, in a thread, and notes every acknowledgement."""

    def __init__(self, bootstrap_servers: str, topic: str, make: Callable[[], Iterator[Sent]]) -> None:
        from confluent_kafka import Producer

        self.acknowledged: dict[tuple[int, int], int] = {}
        """By partition and offset the checksum of the value; what is in here must be in the log."""
        self.sent = 0
        self.refused: list[str] = []
        self.groups: set[bytes] = set()
        self._topic, self._make = topic, make
        self._stopped = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.max.bytes": 4_000_000,
                "log_level": 0,
            }
        )
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def finish(self, *, at_once: bool = False) -> None:
        """Wait until everything is sent and acknowledged; `at_once` leaves out what is still to come."""
        if at_once:
            self._stopped.set()
        self._thread.join()
        self._producer.flush(120)

    def _run(self) -> None:
        began = time.monotonic()
        for one in self._make():
            while (early := began + one.at_s - time.monotonic()) > 0:
                self._producer.poll(min(early, 0.05))
                if self._stopped.is_set():
                    return
            self._send(one)

    def _send(self, one: Sent) -> None:
        options: dict[str, Any] = {} if one.partition is None else {"partition": one.partition}
        self.sent += 1
        while True:
            try:
                self._producer.produce(self._topic, value=one.value, key=one.key, on_delivery=self._note, **options)
                break
            except BufferError:
                self._producer.poll(0.05)
        self._producer.poll(0)

    def _note(self, error: Any, message: Any) -> None:
        if error is not None:
            self.refused.append(str(error))
            return
        self.acknowledged[message.partition(), message.offset()] = zlib.crc32(message.value() or b"")
        if message.key() and b"poison" not in message.key():
            self.groups.add(message.key())
