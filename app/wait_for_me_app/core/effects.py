"""What the fold reads, and what it leaves to be done: plain values, apart from the judgement itself."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Protocol

import msgspec

from wait_for_me.errors import InvalidCommand
from wait_for_me_app.core.rows import COMPLETE, REMOVED, TIMEOUT


class Record(Protocol):
    """What the fold reads of a Kafka record; aiokafka's ConsumerRecord is one."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def timestamp_type(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Which partition of which topic is folded."""

    topic_id: uuid.UUID
    partition: int
    partitions: int
    trust_create_time: bool = False
    """Let timestamps that producers wrote advance T; for the embedded demo broker only."""


class Rejected(msgspec.Struct, frozen=True):
    """A record that is set aside, and why."""

    record: Record
    error: InvalidCommand


class Rerouted(msgspec.Struct, frozen=True):
    """A command that lies on the wrong partition, and the one where its group lives."""

    record: Record
    group_key: bytes
    partition: int
    needs_event_id: bool


class Counts(msgspec.Struct):
    """How many records had which verdict; for metrics, never for decisions."""

    opened: int = 0
    joined: int = 0
    refreshed: int = 0
    duplicates: int = 0
    late: int = 0
    conflicts: int = 0
    ticks: int = 0
    replayed: int = 0
    closed: dict[str, int] = msgspec.field(default_factory=lambda: {COMPLETE: 0, TIMEOUT: 0, REMOVED: 0})


class FireTimes(msgspec.Struct, frozen=True, gc=False):
    """When a round that fires opened, was due and ended; for metrics, never for decisions."""

    reason: str
    opened_at_ms: int
    deadline_ms: int
    fired_at_ms: int


class Effects(msgspec.Struct):
    """What a run wants to be sent, in log order; the rows it changed are in its `Rows`."""

    fires: list[tuple[bytes, bytes]]
    fire_times: list[FireTimes]
    """Of each fire."""
    rejected: list[Rejected]
    rerouted: list[Rerouted]
