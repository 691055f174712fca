"""Runs the real fold over a list of records, for tests that compare it with the reference."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from wait_for_me_app.core.deadlines import Deadlines
from wait_for_me_app.core.effects import Identity
from wait_for_me_app.core.fold import Fold
from wait_for_me_app.core.rows import Round
from wait_for_me_app.storage import keys
from wait_for_me_app.storage.row_codec import decode_round
from wait_for_me_app.storage.store import MemoryStore
from wait_for_me_app.storage.working_set import WorkingSet

ALL_AT_ONCE = 1 << 30


@dataclass(frozen=True)
class CoreRecord:
    """A record in the shape that the fold reads."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass
class CoreOutcome:
    """What the fold made of the records."""

    fires: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    rejected: list[tuple[int, str, str]] = field(default_factory=list)
    rerouted: list[tuple[int, int]] = field(default_factory=list)
    rows: dict[bytes, Round] = field(default_factory=dict)
    stream_time_ms: int = 0
    counts: Any = None


def fold_with_core(
    records: Iterable[Any],
    *,
    topic_id: uuid.UUID,
    partition: int,
    partitions: int,
    trust_create_time: bool = False,
    commit_every: int = 1,
) -> CoreOutcome:
    """Fold the records as a lane would, with a run of `commit_every` records and rows in memory."""
    store = MemoryStore()
    rows = WorkingSet(store, hot_rows=4)
    identity = Identity(
        topic_id=topic_id, partition=partition, partitions=partitions, trust_create_time=trust_create_time
    )
    fold = Fold(identity, rows, Deadlines())
    outcome = CoreOutcome()
    waiting = 0
    for record in records:
        one = CoreRecord(
            record.offset, record.timestamp_ms, record.timestamp_type, record.key, record.value, tuple(record.headers)
        )
        fold.advance(one, ALL_AT_ONCE)
        fold.apply(one)
        _take(fold, outcome, record.offset)
        waiting += 1
        if waiting == commit_every:
            _settle(rows)
            waiting = 0
    _settle(rows)
    outcome.rows = {keys.group_key_of(key): decode_round(key, value) for key, value in store.items(keys.GROUP)}
    outcome.stream_time_ms, outcome.counts = fold.stream_time_ms, fold.counts
    return outcome


def _take(fold: Fold, outcome: CoreOutcome, offset: int) -> None:
    effects = fold.take_effects()
    outcome.fires += [(offset, key, value) for key, value in effects.fires]
    outcome.rejected += [(one.record.offset, one.error.code, one.error.stage) for one in effects.rejected]
    outcome.rerouted += [(one.record.offset, one.partition) for one in effects.rerouted]


def _settle(rows: WorkingSet) -> None:
    rows.settle([change for unit in rows.pack() for change in unit], 0)
