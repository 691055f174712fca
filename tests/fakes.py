"""Stand-ins for Kafka and the disk, each with a name and the faults that the real one has.

    MemoryOutlet     partitions in memory; an append can be held, refused, or cut short by the death of the process
    RecordedStore    a MemoryStore that remembers every state it has had, and can refuse a write
    Messages         changelog records in the shape in which confluent-kafka hands them out
    MemoryChangelog  what `restore.Changelog` does, over a MemoryOutlet
    StillCommandsLog a commands topic that is described once and for all, or as a test changes it

The danger: a fake that is kinder than Kafka proves nothing. So an append that dies leaves any prefix of its units behind, and an
append that was under way beside it may still have been written.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wait_for_me.topic_names import TopicNames
from wait_for_me_app.commands_log import CommandsLogCheck
from wait_for_me_app.core.effects import Identity
from wait_for_me_app.core.fold import LOG_APPEND_TIME
from wait_for_me_app.faust_lanes.intake import FetchedRecord
from wait_for_me_app.lane import Gap, Lane, LoggedRow, Message
from wait_for_me_app.restore import Applier, LogBounds, Restored, RestoreGivenUp
from wait_for_me_app.storage.run_end import RunEnd, run_end_in
from wait_for_me_app.storage.store import Change, MemoryStore, Store

TOPICS = TopicNames("t")
TOPIC_ID = uuid.UUID("7d3c1f9e-0b5a-4a77-9d2e-3f6a1c8b5e40")
NOON_MS = 1_795_521_600_000
"""The stream time at which tests begin: 2026-11-24T12:00:00Z."""


class Killed(BaseException):
    """The process is gone. Not an Exception, because nothing in a dead process catches anything."""


class Refused(Exception):
    """What a broker answers to what it does not take."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A record in a partition."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def content(self) -> tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]:
        """What was sent, without where it was put."""
        return self.key, self.value, self.headers


@dataclass(frozen=True, kw_only=True)
class Appended:
    """Where an append went."""

    first_offset: int
    last_offset: int
    appended_at_ms: int


@dataclass
class MemoryOutlet:
    """Implements `lane.Outlet` over lists."""

    now_ms: Callable[[], int] = lambda: NOON_MS
    logs: dict[tuple[str, int], list[Stored]] = field(default_factory=lambda: defaultdict(list))
    journal: list[str] = field(default_factory=list)
    """What was begun and what was acknowledged, in order; a RecordedStore may write into the same one."""
    calls: int = 0
    dies_at: int | None = None
    """The number of the append, counted from 0, in which the process dies."""
    portions: Sequence[float] = (0.0,)
    """How much of the append that dies, and of those under way beside it, is written all the same."""
    dead: bool = False
    largest: dict[str, int] = field(default_factory=dict)
    """The topics' `max.message.bytes`, where a test wants one."""
    while_appending: Callable[[], object] = lambda: None
    """What else the process does while it waits for an acknowledgement."""
    _refusals: dict[str, tuple[Exception, float]] = field(default_factory=dict)
    _held: dict[str, asyncio.Event] = field(default_factory=dict)
    _begun: dict[str, asyncio.Event] = field(default_factory=dict)

    # -- what the product calls

    async def append(self, topic: str, partition: int, units: Sequence[Sequence[Message]]) -> Appended:
        """Append the units in order; what a test has ordered for this append happens to it."""
        number, self.calls = self.calls, self.calls + 1
        self.journal.append(f"begin {topic}")
        self.while_appending()
        await self._wait_while_held(topic)
        self._maybe_die(number, topic, partition, units)
        if any(_weight(unit) > self.largest[topic] for unit in units if topic in self.largest):
            raise Refused(f"{topic}: MESSAGE_TOO_LARGE")
        if topic in self._refusals:
            error, portion = self._refusals[topic]
            self.write(topic, partition, units[: int(portion * len(units))])
            raise error
        written = self.write(topic, partition, units)
        self.journal.append(f"ack {topic}")
        return written

    # -- what tests order

    def hold(self, topic: str) -> None:
        """Keep appends to a topic waiting until it is released."""
        self._held[topic] = asyncio.Event()
        self._begun[topic] = asyncio.Event()

    async def begun(self, topic: str) -> None:
        """Wait until an append to a held topic has begun."""
        await self._begun[topic].wait()

    def release(self, topic: str) -> None:
        """Let the waiting appends to a topic go on."""
        self._held.pop(topic).set()

    def refuse(self, topic: str, error: Exception | None = None, *, portion: float = 0.0) -> None:
        """Refuse every append to a topic from now on, after writing a portion of its units."""
        self._refusals[topic] = (error or Refused(f"{topic} takes nothing"), portion)

    def accept(self, topic: str) -> None:
        """Stop refusing."""
        self._refusals.pop(topic, None)

    def die_at(self, number: int, *portions: float) -> None:
        """Have the process die in the append with this number from now on."""
        self.dies_at, self.portions, self.calls, self.dead = number, portions or (0.0,), 0, False

    def live_again(self) -> None:
        """Begin a new process: what is written stays, nothing is ordered."""
        self.dies_at, self.calls, self.dead = None, 0, False

    # -- what tests read and write

    def write(self, topic: str, partition: int, units: Iterable[Iterable[Message]]) -> Appended:
        """Append without faults; also what a writer that is not this process does."""
        log = self.logs[topic, partition]
        first, now_ms = self.end(topic, partition), self.now_ms()
        for unit in units:
            for key, value, headers in unit:
                offset = self.end(topic, partition)
                log.append(Stored(offset=offset, timestamp_ms=now_ms, key=key, value=value, headers=tuple(headers)))
        return Appended(first_offset=first, last_offset=self.end(topic, partition) - 1, appended_at_ms=now_ms)

    def end(self, topic: str, partition: int = 0) -> int:
        """Return the offset that the next record will get."""
        log = self.logs[topic, partition]
        return log[-1].offset + 1 if log else 0

    def read(self, topic: str, partition: int = 0) -> list[Stored]:
        """Return a partition's records."""
        return self.logs[topic, partition]

    def compact(self, topic: str, partition: int = 0) -> None:
        """Keep the last record of each key, as Kafka's cleaner does in the end."""
        last = {record.key: record.offset for record in self.read(topic, partition)}
        self.logs[topic, partition] = [one for one in self.read(topic, partition) if last[one.key] == one.offset]

    async def _wait_while_held(self, topic: str) -> None:
        if topic in self._held:
            held = self._held[topic]
            self._begun[topic].set()
            await held.wait()

    def _maybe_die(self, number: int, topic: str, partition: int, units: Sequence[Sequence[Message]]) -> None:
        if self.dead or number == self.dies_at:
            beside = number - (self.dies_at or 0)
            portion = self.portions[beside] if 0 <= beside < len(self.portions) else 0.0
            self.write(topic, partition, units[: round(portion * len(units))])
            self.dead = True
            raise Killed


def _weight(unit: Sequence[Message]) -> int:
    """What a batch with these records weighs at least."""
    return 61 + sum(
        len(key or b"") + len(value or b"") + sum(len(name) + len(content or b"") + 2 for name, content in headers) + 7
        for key, value, headers in unit
    )


class RecordedStore(MemoryStore):
    """A store whose past states can be had again: after a loss of power a disk is older, never wrong."""

    def __init__(self, journal: list[str] | None = None) -> None:
        super().__init__()
        self.past: list[tuple[dict[bytes, bytes], int]] = [({}, -1)]
        self.refuses: Exception | None = None
        self._journal = journal

    def write(self, changes: Iterable[Change], changelog_offset: int) -> None:
        """Write, unless a test has ordered otherwise."""
        if self.refuses is not None:
            raise self.refuses
        super().write(changes, changelog_offset)
        self.past.append((dict(self.rows), changelog_offset))
        if self._journal is not None:
            self._journal.append("store written")

    def as_it_was(self, steps_back: int) -> RecordedStore:
        """Return the store as it was some writes ago."""
        older = RecordedStore(self._journal)
        rows, older.changelog_offset = self.past[max(0, len(self.past) - 1 - steps_back)]
        older.rows = dict(rows)
        return older


class Messages:
    """A changelog record as confluent-kafka's Message shows it."""

    def __init__(self, record: Stored) -> None:
        self._record = record

    def key(self) -> bytes | None:
        """Return the row key."""
        return self._record.key

    def value(self) -> bytes | None:
        """Return the row, or None for a tombstone."""
        return self._record.value

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the headers."""
        return list(self._record.headers)

    def offset(self) -> int:
        """Return where it stands."""
        return self._record.offset


def restore(outlet: MemoryOutlet, store: Store, partition: int = 0) -> Store:
    """Bring a store up to the end of a changelog partition."""
    restored_until(outlet, store, partition)
    return store


def restored_until(outlet: MemoryOutlet, store: Store, partition: int) -> Restored:
    """Do it with the product's own applier; return how far the store has come."""
    applier = Applier(store)
    for record in outlet.read(TOPICS.changelog, partition):
        if record.offset > store.changelog_offset:
            applier.take(Messages(record))
    applier.flush()
    end = outlet.end(TOPICS.changelog, partition)
    applier.reach(end - 1)
    return applier.restored(end)


async def gap_of(outlet: MemoryOutlet, partition: int, start: int) -> Gap:
    """Read the changelog from an offset to its end, as `restore.Changelog.read_gap` does."""
    found = [one for one in outlet.read(TOPICS.changelog, partition) if one.offset >= start and one.key is not None]
    rows = [LoggedRow(one.offset, one.key, one.value, run_end_in(one.headers)) for one in found]
    return Gap(rows, outlet.end(TOPICS.changelog, partition))


class MemoryChangelog:
    """Reads a MemoryOutlet's changelog for `lanes.Lanes`."""

    def __init__(self, outlet: MemoryOutlet) -> None:
        self._outlet = outlet
        self.while_restoring: Callable[[], None] = lambda: None

    def bounds(self, partitions: Iterable[int]) -> dict[int, LogBounds]:
        """Return where each partition begins and ends."""
        return {one: LogBounds(first=0, end=self._outlet.end(TOPICS.changelog, one)) for one in partitions}

    def close(self) -> None:
        """Keep everything: there is no connection to close."""

    def restore(self, stores: Mapping[int, Store], goes_on: Callable[[], bool] = lambda: True) -> dict[int, Restored]:
        """Bring the stores up to the end."""
        self.while_restoring()
        if not goes_on():
            raise RestoreGivenUp
        return {partition: restored_until(self._outlet, store, partition) for partition, store in stores.items()}

    def read_gap(self, partition: int, start: int) -> Gap:
        """Return what stands from an offset on."""
        return asyncio.run(gap_of(self._outlet, partition, start))

    def tail(self, stores: Mapping[int, Store]) -> Any:
        """Return what follows for a standby: here, what catches up once and can be stopped."""
        self.restore(stores)
        return StoppedTail()


class StoppedTail:
    """A standby's follower with nothing left to do."""

    def stop(self) -> None:
        """Stop."""


@dataclass
class StillCommandsLog:
    """A commands topic as it is described; `while_looking` is what happens between the brokers' answer and its arrival."""

    check: CommandsLogCheck
    while_looking: Callable[[], None] = lambda: None

    def look(self) -> CommandsLogCheck:
        """Describe the topic as it was when the question arrived."""
        check = self.check
        self.while_looking()
        return check

    def changelog_id(self) -> uuid.UUID:
        """Return the changelog's id."""
        return TOPIC_ID


# -- commands


def record(offset: int, at_ms: int, value: bytes | None, key: bytes | None = b"g", **more: Any) -> FetchedRecord:
    """Return a record of the commands topic, stamped by the broker unless `timestamp_type` says otherwise."""
    return FetchedRecord(
        offset, at_ms, more.get("timestamp_type", LOG_APPEND_TIME), key, value, tuple(more.get("headers", ()))
    )


def add(
    offset: int, at_ms: int, group: str = "g", participant: str = "p", *, of: int = 2, **more: Any
) -> FetchedRecord:
    """Return an add with a wait of 60 s."""
    headers = more.pop("headers", ())
    value = {
        "type": "add",
        "group_key": group,
        "participant_key": participant,
        "number_of_participants_in_group": of,
        "execute_after_waiting": "c",
        "wait_time_in_seconds": 60,
        **more,
    }
    return record(offset, at_ms, json.dumps(value).encode(), group.encode(), headers=headers)


def remove(offset: int, at_ms: int, group: str = "g", **more: Any) -> FetchedRecord:
    """Return a remove."""
    headers = more.pop("headers", ())
    value = json.dumps({"type": "remove", "group_key": group, **more}).encode()
    return record(offset, at_ms, value, group.encode(), headers=headers)


def tick(offset: int, at_ms: int) -> FetchedRecord:
    """Return a tick."""
    return record(offset, at_ms, b'{"type":"tick"}', None)


# -- lanes


def new_lane(
    outlet: MemoryOutlet, store: Store | None = None, *, partition: int = 0, partitions: int = 1, **more: Any
) -> Lane:
    """Return a lane that goes on where its changelog ends."""
    return Lane(
        identity=Identity(topic_id=TOPIC_ID, partition=partition, partitions=partitions, **more.pop("identity", {})),
        topics=TOPICS,
        store=MemoryStore() if store is None else store,
        outlet=outlet,
        changelog_end=outlet.end(TOPICS.changelog, partition),
        **more,
    )


def take_over(outlet: MemoryOutlet, store: Store | None = None, **more: Any) -> Lane:
    """Return the lane of a successor: its store is restored from the changelog first."""
    return new_lane(
        outlet, restore(outlet, MemoryStore() if store is None else store, more.get("partition", 0)), **more
    )


def run_header(watermark: int) -> tuple[str, bytes]:
    """Return the header that says which run wrote a changelog record."""
    return RunEnd(watermark).header()
