"""The JSON documents of the API. Field order is the order on the wire; the OpenAPI description is made from these classes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from wait_for_me.commands import MAX_KEY_BYTES, MAX_PARTICIPANTS, MAX_REASON_BYTES, MAX_SECONDS

State = Literal["waiting", "complete", "timeout", "removed"]
Time = Annotated[str, Meta(description="RFC 3339, UTC, milliseconds.")]
Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY_BYTES)]
PositiveSeconds = Annotated[int, Meta(gt=0, le=MAX_SECONDS)] | Annotated[float, Meta(gt=0, le=MAX_SECONDS)]
Seconds = Annotated[int, Meta(ge=0, le=MAX_SECONDS)] | Annotated[float, Meta(ge=0, le=MAX_SECONDS)]


class Document(Struct, frozen=True, kw_only=True):
    """Anything that the API answers with."""


class Arrived(Document, frozen=True, kw_only=True):
    """A participant and when it came first."""

    participant_key: str
    at: Time


class Group(Document, frozen=True, kw_only=True):
    """One round of a group: the one that waits, or the one that has ended and lingers."""

    group_key: str
    state: State
    number_of_participants_in_group: int
    arrived_count: int
    missing_count: int
    opened_at: Time | None = None
    last_add_at: Time | None = None
    deadline_at: Time | None = None
    """When it fires unless somebody comes; only while it waits."""
    deadline_ms: int | None = None
    closed_at: Time | None = None
    frees_at: Time | None = None
    """Until then adds are late; afterwards they open a new round."""
    arrived: tuple[Arrived, ...] = ()
    """The first to come; all of them, up to 1000, where one group is asked for. Empty once the round has ended."""
    arrived_truncated: bool = False
    late_count: int = 0
    conflict_count: int = 0
    execute_after_waiting: str | None = None
    execute_after_waiting_params: Any = None
    payloads_hidden: bool = False
    wait_time_in_seconds: int | float | None = None
    max_wait_in_seconds: int | float | None = None
    linger_in_seconds: int | float | None = None
    fire_id: str
    partition: int
    opened_offset: int
    closed_offset: int | None = None


class Silent(Document, frozen=True, kw_only=True):
    """A worker that did not answer."""

    url: str
    partitions: tuple[int, ...]
    why: str


class Coverage(Document, frozen=True, kw_only=True):
    """How much of the truth a list holds."""

    workers_known: int
    workers_answered: int
    missing_partitions: tuple[int, ...]
    """Partitions whose groups are not in here, because their worker did not answer or nobody has them right now."""
    silent: tuple[Silent, ...] = ()
    is_complete: bool = True
    """False where there was more than is looked at in one go."""
    now: Time
    now_ms: int


class GroupList(Document, frozen=True, kw_only=True):
    """Groups by nearest deadline."""

    groups: tuple[Group, ...]
    next_cursor: str | None = None
    meta: Coverage


class Stats(Document, frozen=True, kw_only=True):
    """Counters over all workers that answered, since each of them started."""

    waiting: int = 0
    opened: int = 0
    complete: int = 0
    timeout: int = 0
    removed: int = 0
    late: int = 0
    duplicates: int = 0
    conflicts: int = 0
    misplaced: int = 0
    dead_letters: int = 0
    commands: int = 0


class Partition(Document, frozen=True, kw_only=True):
    """One partition and the worker that folds it."""

    partition: int
    worker: str | None
    url: str | None
    standbys: tuple[str, ...] = ()
    watermark: int | None = None
    end_offset: int | None = None
    lag: int | None = None
    waiting: int | None = None
    next_deadline_at: Time | None = None
    stream_time_at: Time | None = None


class Local(Document, frozen=True, kw_only=True):
    """What one worker knows by itself: what workers tell one another."""

    worker: str
    is_ready: bool
    groups: tuple[Group, ...] = ()
    is_complete: bool = True
    partitions: tuple[Partition, ...] = ()
    stats: Stats = Stats()


class StatsAnswer(Document, frozen=True, kw_only=True):
    stats: Stats
    meta: Coverage


class PartitionList(Document, frozen=True, kw_only=True):
    partitions: tuple[Partition, ...]
    meta: Coverage


class Worker(Document, frozen=True, kw_only=True):
    url: str
    worker: str | None
    answered: bool
    partitions: tuple[int, ...]
    is_this_one: bool


class WorkerList(Document, frozen=True, kw_only=True):
    workers: tuple[Worker, ...]
    meta: Coverage


class Outcome(Document, frozen=True, kw_only=True):
    """How far the executor is with a fire."""

    state: str
    attempt: int
    at: Time
    error: str | None = None
    reason: str | None = None
    took_ms: int | None = None
    next_attempt_at: Time | None = None
    executor: str | None = None


class FireView(Document, frozen=True, kw_only=True):
    """A fire, how long it waited, how late it was, and what has become of it."""

    fire_id: str
    group_key: str
    reason: str
    number_of_participants_in_group: int
    arrived_count: int
    missing_count: int
    arrived: tuple[Arrived, ...]
    arrived_truncated: bool
    conflict_count: int
    execute_after_waiting: str
    execute_after_waiting_params: Any = None
    payloads_hidden: bool = False
    wait_time_in_seconds: int | float
    opened_at: Time
    last_add_at: Time
    deadline_at: Time
    fired_at: Time
    appended_at: Time
    waited_seconds: float
    lateness_seconds: float | None = None
    """From the deadline to the fire's append; null unless it timed out."""
    partition: int
    offset: int
    opened_offset: int
    closed_offset: int
    outcome: Outcome | None = None


class Window(Document, frozen=True, kw_only=True):
    """How far back the recent lists reach: they are read from the ends of the topics, not from an archive."""

    since: Time | None
    is_caught_up: bool
    failure: str | None = None


class FireList(Document, frozen=True, kw_only=True):
    fires: tuple[FireView, ...]
    window: Window


class DeadLetter(Document, frozen=True, kw_only=True):
    """A record that was set aside, where it came from, and why."""

    id: str
    kind: Literal["command", "fire"]
    at: Time
    group_key: str
    stage: str
    error: str
    message: str
    origin: str
    delivery_count: int
    fire_id: str | None = None
    value: str | None = None
    value_bytes: int
    payloads_hidden: bool = False
    can_retry: bool
    handled: Literal["retried", "discarded"] | None = None
    """What somebody has done with it, here or with `wait-for-me dlq`."""


class DeadLetterList(Document, frozen=True, kw_only=True):
    dead_letters: tuple[DeadLetter, ...]
    window: Window


class Event(Document, frozen=True, kw_only=True):
    """Something in the life of a group, as its partition's log tells it."""

    kind: Literal["add", "remove", "close", "invalid"]
    effect: str
    """What the fold made of it: opened, joined, refreshed, duplicate, late, complete, timeout, removed, nothing."""
    at: Time
    at_ms: int
    partition: int
    offset: int
    participant_key: str | None = None
    event_id: str | None = None
    number_of_participants_in_group: int | None = None
    wait_time_in_seconds: int | float | None = None
    execute_after_waiting: str | None = None
    deadline_at: Time | None = None
    changed_settings: bool = False
    reason: str | None = None
    traceparent: str | None = None


class History(Document, frozen=True, kw_only=True):
    """A group's log, judged again by the worker's own rules."""

    group_key: str
    partition: int
    events: tuple[Event, ...]
    fires: tuple[FireView, ...]
    first_offset: int
    last_offset: int
    records_read: int
    is_complete: bool
    """False where reading stopped before the log's end, or began after the group's round did."""


class AddBody(Document, frozen=True, kw_only=True):
    """A participant has arrived; the fields of an add, without the group's name."""

    participant_key: Key
    number_of_participants_in_group: Annotated[int, Meta(ge=1, le=MAX_PARTICIPANTS)]
    execute_after_waiting: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
    execute_after_waiting_params: Any = ()
    wait_time_in_seconds: PositiveSeconds
    max_wait_in_seconds: PositiveSeconds | None = None
    linger_in_seconds: Seconds | None = None
    event_id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


class RemoveBody(Document, frozen=True, kw_only=True):
    reason: Annotated[str, Meta(max_length=MAX_REASON_BYTES)] | None = None
    event_id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


class Accepted(Document, frozen=True, kw_only=True):
    """Kafka has the command."""

    topic: str
    partition: int
    offset: int
    event_id: str


class Problem(Document, frozen=True, kw_only=True):
    """RFC 9457. `code` is stable and for machines; `detail` ends with what to do."""

    type: str
    title: str
    status: int
    detail: str
    code: str


class Health(Document, frozen=True, kw_only=True):
    status: Literal["ok", "unavailable"]
    worker: str
    why: str | None = None
    lanes: int = 0


class About(Document, frozen=True, kw_only=True):
    """What the page must know before it draws anything."""

    version: str
    worker: str
    prefix: str
    partitions: int
    read_only: bool
    payloads_hidden: bool
    demo: bool


encode = msgspec.json.Encoder().encode
