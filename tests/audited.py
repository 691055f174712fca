"""A small deployment in memory for tests of the audit: the product's own lanes write its topics, and a test then spoils one of them.

So the healthy twin of every bad history is not made up: it is what workers and executors write.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from msgspec import Raw

from fakes import NOON_MS, TOPIC_ID, TOPICS, MemoryOutlet, Stored, new_lane
from wait_for_me.partitioner import partition_for
from wait_for_me_app.audit.findings import Report
from wait_for_me_app.audit.judge import TOPICS_IN_READING_ORDER, Case, Log, conclude, judge_partition
from wait_for_me_app.dead_letters import dead_letter
from wait_for_me_app.faust_lanes.intake import FetchedRecord
from wait_for_me_app.outcomes import Finished, Progress, encode_outcome, final_key, key_of, progress_key

PARTITIONS = 2
WAIT_MS = 60_000


class Read(NamedTuple):
    """A record as a reader of topics hands it to the audit."""

    offset: int
    timestamp_ms: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def group_on(partition: int, name: str = "g") -> str:
    """Return a group key that lives on a partition."""
    return next(
        key for key in (f"{name}{n}" for n in range(1000)) if partition_for(key.encode(), PARTITIONS) == partition
    )


class Deployment:
    """Topics, the lanes that write them, and a clock that a test sets."""

    def __init__(self) -> None:
        self.now_ms = NOON_MS
        self.outlet = MemoryOutlet(now_ms=lambda: self.now_ms)
        self.lanes = [new_lane(self.outlet, partition=number, partitions=PARTITIONS) for number in range(PARTITIONS)]
        self.first: dict[tuple[str, int], int] = {}
        self.timestamp_type = 1

    # -- what happens

    def send(self, value: Any, key: bytes | None, partition: int = 0, headers: Any = ()) -> int:
        """Append a command and return its offset."""
        body = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        return self.outlet.write(TOPICS.commands, partition, [[(key, body, list(headers))]]).first_offset

    def add(self, group: str, participant: str, *, of: int = 2, partition: int | None = None, **more: Any) -> int:
        """Append an add; to where its group lives unless told otherwise."""
        value = {"type": "add", "group_key": group, "participant_key": participant, "number_of_participants_in_group": of,
                 "execute_after_waiting": "c", "wait_time_in_seconds": WAIT_MS // 1000, **more}  # fmt: skip
        home = partition_for(group.encode(), PARTITIONS)
        return self.send(value, group.encode(), home if partition is None else partition)

    def remove(self, group: str) -> int:
        """Append a remove."""
        home = partition_for(group.encode(), PARTITIONS)
        return self.send({"type": "remove", "group_key": group}, group.encode(), home)

    def tick(self, partition: int = 0) -> int:
        """Append a tick."""
        return self.send(b'{"type":"tick"}', None, partition)

    def work(self, *partitions: int) -> None:
        """Let the lanes fold what is there, as often as something new comes of it."""
        for _ in range(3):
            for number in partitions or range(PARTITIONS):
                lane = self.lanes[number]
                unread = [one for one in self.outlet.read(TOPICS.commands, number) if one.offset > lane.watermark]
                if unread:
                    asyncio.run(_taken(lane, unread))

    def execute(self, partition: int = 0, *, state: str = "done") -> None:
        """Let every fire of a partition come to its end."""
        for fire in list(self.outlet.read(TOPICS.fires, partition)):
            assert fire.value is not None
            self.accept(fire, partition)
            if state == "dead":
                self.letter_of_fire(fire, partition)
            self.finish(fire, partition, state=state)

    def accept(self, fire: Stored, partition: int = 0, **fields: Any) -> None:
        """Write what an executor writes when it has read a fire."""
        progress = Progress(**{**_of(fire, partition), "state": "accepted", "accepted_at_ms": self.now_ms,
                               "fire": Raw(fire.value or b""), **fields})  # fmt: skip
        self.write("outcomes", key_of(progress), encode_outcome(progress), partition)

    def finish(self, fire: Stored, partition: int = 0, **fields: Any) -> None:
        """Write a final outcome."""
        final = Finished(
            **{**_of(fire, partition), "attempt": 1, "state": "done", "finished_at_ms": self.now_ms, **fields}
        )
        self.write("outcomes", final_key(final.fire_id), encode_outcome(final), partition)
        self.write("outcomes", progress_key(final.fire_id), None, partition)

    def letter_of_fire(self, fire: Stored, partition: int = 0, **fields: Any) -> None:
        """Set a fire aside."""
        about = {"topic": TOPICS.fires, "partition": partition, "offset": fire.offset, "key": fire.key, "value": fire.value,
                 "headers": (), "group": "x", "stage": "callback", "code": "callback_failed", "message": "503",
                 "delivery_count": 10, "fire_id": _fire_id(fire), **fields}  # fmt: skip
        key, value, headers = dead_letter(**about)
        self.write("fires_dead_letters", key, value, partition, headers)

    # -- what is there

    def write(self, topic: str, key: bytes | None, value: bytes | None, partition: int = 0, headers: Any = ()) -> None:
        """Append to a topic, named as the audit names it."""
        self.outlet.write(getattr(TOPICS, topic), partition, [[(key, value, list(headers))]])

    def log(self, topic: str, partition: int = 0) -> list[Stored]:
        """Return a partition of a topic, to be spoilt."""
        return self.outlet.logs[getattr(TOPICS, topic), partition]

    def change(self, topic: str, at: int, partition: int = 0, **fields: Any) -> None:
        """Change a record that is there."""
        log = self.log(topic, partition)
        log[at] = replace(log[at], **fields)

    def forget(self, topic: str, before: int, partition: int = 0) -> None:
        """Let retention delete what lies before an offset."""
        log = self.log(topic, partition)
        self.first[topic, partition] = before
        log[:] = [one for one in log if one.offset >= before]

    # -- what the audit says

    def audit(self, *without: str, **fields: Any) -> Report:
        """Judge everything as it is now."""
        names = {name: getattr(TOPICS, name) for name in TOPICS_IN_READING_ORDER}
        outcomes = any(self.log("outcomes", number) for number in range(PARTITIONS))
        case = Case(**{"topic_id": TOPIC_ID, "partitions": PARTITIONS, "names": names, "cut_ms": self.now_ms,
                       "expects_outcomes": outcomes, **fields})  # fmt: skip
        reports = [judge_partition(case, number, dict(self._logs(number, without))) for number in range(PARTITIONS)]
        return conclude(case, reports)

    def codes(self, *without: str, **fields: Any) -> dict[str, int]:
        """Return how often each code was found."""
        return dict(self.audit(*without, **fields).counts)

    def warned(self, *without: str, **fields: Any) -> set[str]:
        """Return the codes of the warnings."""
        return {one.code for one in self.audit(*without, **fields).warnings}

    def _logs(self, partition: int, without: Iterable[str]) -> Iterator[tuple[str, Log]]:
        for topic in TOPICS_IN_READING_ORDER:
            if topic not in without:
                log, first = self.log(topic, partition), self.first.get((topic, partition), 0)
                end = max(log[-1].offset + 1 if log else 0, first)
                records = [
                    Read(one.offset, one.timestamp_ms, self.timestamp_type, one.key, one.value, one.headers)
                    for one in log
                ]
                yield topic, Log(first=first, end=end, records=records)


async def _taken(lane: Any, records: Iterable[Stored]) -> None:
    await lane.take(
        [FetchedRecord(one.offset, one.timestamp_ms, 1, one.key, one.value, one.headers) for one in records]
    )


def _of(fire: Stored, partition: int) -> dict[str, Any]:
    named = {"fire_id": _fire_id(fire), "group_key": (fire.key or b"").decode(), "callback": "c"}
    return {**named, "partition": partition, "offset": fire.offset, "revision": 1, "attempt": 0}


def _fire_id(fire: Stored) -> str:
    found: str = json.loads(fire.value or b"{}")["fire_id"]
    return found
