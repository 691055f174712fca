"""The stages between a fetched record and the local store, each by itself, with the real functions of the worker.

`fold_pieces` folds a load once and keeps what passes from stage to stage; a stage then does its part again on those pieces.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
import rocksdict
from aiokafka.producer.message_accumulator import BatchBuilder  # type: ignore[import-untyped]

from benchmarks.load import Load
from benchmarks.stopwatch import Spent
from wait_for_me.codec import decode_command, decode_fire
from wait_for_me.milliseconds import to_ms
from wait_for_me.topic_names import TopicNames
from wait_for_me_app.core.deadlines import Deadlines
from wait_for_me_app.core.effects import Identity
from wait_for_me_app.core.fires import encode_fire
from wait_for_me_app.core.fold import LOG_APPEND_TIME, Fold
from wait_for_me_app.core.rows import RULES_VERSION, Arrival, OpenRound
from wait_for_me_app.faust_lanes.intake import FetchedRecord
from wait_for_me_app.faust_lanes.outlet import BATCH_MAX_BYTES, KafkaOutlet, _batches
from wait_for_me_app.lane import NO_HEADERS, Lane, Message
from wait_for_me_app.storage.rocks_store import _options, open_store
from wait_for_me_app.storage.run_end import RunEnd
from wait_for_me_app.storage.store import Change, MemoryStore
from wait_for_me_app.storage.working_set import WorkingSet

RUN_RECORDS: Final = 2048
_IDENTITY: Final = Identity(topic_id=uuid.UUID(int=1), partition=0, partitions=1)
_STARTED_MS: Final = 1_800_000_000_000
_CLOSE_AT_MOST: Final = 1500

Unit = Sequence[Change]


@dataclass(kw_only=True)
class Run:
    """What one run is at each stage."""

    records: list[FetchedRecord]
    fires: list[tuple[bytes, bytes]] = field(default_factory=list)
    fire_arguments: list[dict[str, Any]] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)

    def row_messages(self) -> list[list[Message]]:
        """Return the rows as a lane appends them."""
        header = [RunEnd(self.records[-1].offset).header()]
        return [[(key, value, header) for key, value in unit] for unit in self.units]

    def fire_messages(self) -> list[tuple[Message]]:
        """Return the fires as a lane appends them."""
        return [((key, value, NO_HEADERS),) for key, value in self.fires]

    def changes(self) -> list[Change]:
        """Return the rows as they are stored."""
        return list(chain.from_iterable(self.units))


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """A load, cut into runs, with everything in between."""

    runs: list[Run]


def fold_pieces(load: Load) -> Pieces:
    """Fold a load as one lane would, and keep the pieces."""
    records = [
        FetchedRecord(offset, _STARTED_MS + offset // 100, LOG_APPEND_TIME, key, value, ())
        for offset, (key, value) in enumerate(load.backlog())
    ]
    runs = [Run(records=records[first : first + RUN_RECORDS]) for first in range(0, len(records), RUN_RECORDS)]
    rows, fold = _fresh_fold()
    for run in runs:
        fold.take(iter(run.records), _CLOSE_AT_MOST)
        run.fires = fold.take_effects().fires
        run.fire_arguments = [_arguments_of(value) for _key, value in run.fires]
        run.units = [*rows.pack()]
        rows.settle(run.changes(), run.records[-1].offset)
    return Pieces(runs=runs)


def _arguments_of(value: bytes) -> dict[str, Any]:
    """Return what this fire was encoded from."""
    fire = decode_fire(value)
    opened_ms, last_ms, due_ms, fired_ms = map(_ms, (fire.opened_at, fire.last_add_at, fire.deadline_at, fire.fired_at))
    row = OpenRound(
        rules_version=RULES_VERSION,
        changed_offset=fire.closed_offset,
        opened_offset=fire.opened_offset,
        opened_at_ms=opened_ms,
        last_add_at_ms=last_ms,
        deadline_ms=due_ms,
        number_of_participants=fire.number_of_participants_in_group,
        callback=fire.execute_after_waiting,
        params=bytes(fire.raw_params),
        wait_ms=to_ms(fire.wait_time_in_seconds),
        max_wait_ms=None,
        linger_ms=0,
        conflict_count=0,
        arrived_count=fire.arrived_count,
        first_arrivals=[Arrival(one.participant_key, _ms(one.at), None) for one in fire.arrived],
    )
    return {
        "fire_id": fire.fire_id,
        "group_key": fire.group_key.encode(),
        "reason": fire.reason,
        "row": row,
        "arrivals": row.first_arrivals,
        "fired_at_ms": fired_ms,
        "partition": fire.partition,
        "closed_offset": fire.closed_offset,
    }


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _fresh_fold() -> tuple[WorkingSet, Fold]:
    rows = WorkingSet(MemoryStore(), hot_rows=32_768)
    return rows, Fold(_IDENTITY, rows, Deadlines())


# -- stages in memory


def timed_decode(pieces: Pieces) -> Spent:
    """Decode and check every command."""
    spent = Spent()
    with spent.section():
        for run in pieces.runs:
            for record in run.records:
                decode_command(record.key, record.value, ())
    return spent


class _PlainAdd(msgspec.Struct, gc=False):
    group_key: str
    participant_key: str
    number_of_participants_in_group: int
    wait_time_in_seconds: float
    execute_after_waiting: str
    execute_after_waiting_params: msgspec.Raw


def timed_plain_decode(pieces: Pieces) -> Spent:
    """Decode every command into fields, believing all of it."""
    decode, spent = msgspec.json.Decoder(_PlainAdd).decode, Spent()
    with spent.section():
        for run in pieces.runs:
            for record in run.records:
                decode(record.value or b"")
    return spent


def timed_fold(pieces: Pieces) -> Spent:
    """Fold, from undecoded records to encoded fires; rows are kept and not packed."""
    rows, fold = _fresh_fold()
    spent = Spent()
    for run in pieces.runs:
        with spent.section():
            fold.take(iter(run.records), _CLOSE_AT_MOST)
        fold.take_effects()
        rows.settle(run.changes(), run.records[-1].offset)
    return spent


def timed_fires(pieces: Pieces) -> Spent:
    """Encode the fires."""
    spent = Spent()
    with spent.section():
        for run in pieces.runs:
            for arguments in run.fire_arguments:
                encode_fire(**arguments)
    return spent


def timed_pack(pieces: Pieces) -> Spent:
    """Encode the changed rows of each run."""
    rows, fold = _fresh_fold()
    spent = Spent()
    for run in pieces.runs:
        fold.take(iter(run.records), _CLOSE_AT_MOST)
        fold.take_effects()
        with spent.section():
            units = rows.pack()
        rows.settle(chain.from_iterable(units), run.records[-1].offset)
    return spent


def timed_batches(pieces: Pieces) -> Spent:
    """Build the record batches of rows and fires."""
    spent = Spent()
    for run in pieces.runs:
        with spent.section():
            for units in (run.fire_messages(), run.row_messages()):
                for batch in _batches(_builder, units):
                    batch.close()
    return spent


def _builder() -> BatchBuilder:
    return BatchBuilder(BATCH_MAX_BYTES, 0, is_transactional=False, key_serializer=None, value_serializer=None)


# -- stages with the local store


def timed_prefetch(pieces: Pieces, directory: Path) -> Spent:
    """Look up the rows of every run's groups in a store that fills up as the runs go."""
    store = open_store(directory, topic_id=None, oldest_ms=0)
    rows = WorkingSet(store, hot_rows=8192)
    spent = Spent()
    for run in pieces.runs:
        with spent.section():
            rows.prefetch({record.key for record in run.records if record.key})
        rows.settle(run.changes(), run.records[-1].offset)
    store.close()
    return spent


def timed_store(pieces: Pieces, directory: Path) -> Spent:
    """Write every run's rows as a lane does."""
    store, spent = open_store(directory, topic_id=None, oldest_ms=0), Spent()
    for run in pieces.runs:
        with spent.section():
            store.write(chain.from_iterable(run.units), run.records[-1].offset)
    store.close()
    return spent


def timed_raw_store(pieces: Pieces, directory: Path) -> Spent:
    """Write the same batches with nothing around them."""
    store: Any = rocksdict.Rdict(str(directory), _options())
    spent = Spent()
    for run in pieces.runs:
        with spent.section():
            batch = rocksdict.WriteBatch(raw_mode=True)
            put = batch.put
            for key, value in chain.from_iterable(run.units):
                put(key, value)
            store.write(batch)
    store.close()
    return spent


# -- stages with Kafka


async def timed_outlet(pieces: Pieces, bootstrap_servers: str, rows_topic: str, fires_topic: str) -> Spent:
    """Append fires, then rows, run by run, each awaited; batches are built within."""
    outlet, spent = KafkaOutlet({"bootstrap_servers": bootstrap_servers}), Spent()
    await outlet.start()
    for run in pieces.runs:
        with spent.section():
            if run.fires:
                await outlet.append(fires_topic, 0, run.fire_messages())
            await outlet.append(rows_topic, 0, run.row_messages())
    await outlet.stop()
    return spent


async def timed_lane(pieces: Pieces, bootstrap_servers: str, prefix: str, directory: Path) -> Spent:
    """Let one real lane take all runs, with a real store and a real Kafka."""
    outlet, spent = KafkaOutlet({"bootstrap_servers": bootstrap_servers}), Spent()
    await outlet.start()
    store = open_store(directory, topic_id=None, oldest_ms=0)
    lane = Lane(identity=_IDENTITY, topics=TopicNames(prefix), store=store, outlet=outlet, changelog_end=0)
    for run in pieces.runs:
        with spent.section():
            await lane.take(run.records)
    await outlet.stop()
    store.close()
    return spent
