"""A lane: one partition on one worker. It folds a run of records and applies the effects, in the one order that loses nothing.

The fold decides (`core/fold.py`); this file acts. Order of effects for a run; each arrow is an awaited acknowledgement of Kafka:

    decide -> fires, dead letters and re-sent commands are in Kafka     no row may say "closed" before its fire is safe
           -> rows, participants before their group, then the watermark the watermark vouches for all that stands before it
           -> one write to the local store: rows and changelog offset   a cache, never ahead of Kafka
           -> the run is acknowledged                                   the group's offset, for lag tools only

Whatever a crash leaves out is decided again by the successor, to the same bytes. Any failure in here ends the process
(`LaneFailure`): a lane that has lost track of what Kafka has must not go on.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from wait_for_me.errors import InvalidCommand
from wait_for_me.topic_names import TopicNames
from wait_for_me_app.core.deadlines import Deadlines
from wait_for_me_app.core.effects import Effects, FireTimes, Identity, Record, Rejected, Rerouted
from wait_for_me_app.core.fold import EVENT_ID_HEADER, REROUTED_HEADER, Fold
from wait_for_me_app.core.rows import Strike, Watermark
from wait_for_me_app.crash_points import crash_point
from wait_for_me_app.dead_letters import dead_letter
from wait_for_me_app.storage import keys
from wait_for_me_app.storage.newest_rows import NewestRows
from wait_for_me_app.storage.row_codec import (
    DamagedRow,
    decode_strike,
    decode_watermark,
    due_bytes_of,
    encode_other,
    is_open_round,
)
from wait_for_me_app.storage.run_end import NO_RUN, RunEnd, run_end_of
from wait_for_me_app.storage.store import Change, Store
from wait_for_me_app.storage.working_set import WorkingSet

log = logging.getLogger(__name__)

Headers = list[tuple[str, bytes]]
Message = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers of a record to append."""

NO_HEADERS: Final[Headers] = []
CLOSINGS_A_SLICE: Final = 1500
"""How many timeouts are settled before the loop gets its turn: about 25 ms of work."""

COPY_MAX_BYTES: Final = 1_000_000
"""The largest command that is re-sent: its copy must pass the topic's max.message.bytes with two more headers."""

_NO_GAP: Final = 1 << 62


class Appended(Protocol):
    """Where a batch of records has been written, and when by the broker's clock."""

    @property
    def first_offset(self) -> int: ...
    @property
    def last_offset(self) -> int: ...
    @property
    def appended_at_ms(self) -> int: ...


class Outlet(Protocol):
    """The way into Kafka: appends records and returns only when they are safe."""

    async def append(self, topic: str, partition: int, units: Sequence[Sequence[Message]]) -> Appended:
        """Append the units in order, each within one record batch; raise if any of it is not acknowledged."""
        ...


class LoggedRow(NamedTuple):
    """A row as it stands in the changelog."""

    offset: int
    row_key: bytes
    value: bytes | None
    run_end: RunEnd


class Gap(NamedTuple):
    """What a foreign writer, and this lane since then, have put into a changelog partition up to its end."""

    rows: Sequence[LoggedRow]
    end: int


ReadChangelog = Callable[[int, int], Awaitable[Gap]]
"""Read a partition of the changelog from an offset to its end."""


class LaneFailure(Exception):
    """The lane cannot go on; the worker must end without acknowledging the run."""


@dataclass(kw_only=True)
class LaneCounts:
    """What a lane has done since it was taken over; for metrics and logs."""

    runs: int = 0
    records: int = 0
    fires: int = 0
    rejected: int = 0
    rerouted: int = 0
    healed: int = 0
    last_run_records: int = 0


@dataclass(kw_only=True)
class Lane:
    """One partition's fold, its rows and its way out."""

    identity: Identity
    topics: TopicNames
    store: Store
    outlet: Outlet
    changelog_end: int
    """The offset that the next append to the changelog must get; anything else is a foreign writer."""
    restored_until: int = 0
    """Up to where the store has been restored; a gap that begins before holds rows that have been judged."""
    newest: NewestRows | None = None
    """What judged them; without it, every row in the store is one that the watermark covers."""
    hot_rows: int = 8192
    on_fired: Callable[[Sequence[FireTimes], int], None] = lambda _times, _appended_at_ms: None
    """Told of fires that are safe, and when they were appended by the broker's clock."""
    counts: LaneCounts = field(default_factory=LaneCounts)

    def __post_init__(self) -> None:
        self._busy = asyncio.Lock()
        self._is_retired = False
        self.last_tick_offset = -1
        self._own_until = _NO_GAP  # changelog offset up to which nobody but this lane has written
        self._newest = self.newest or NewestRows(self.store)
        self._load()

    def _load(self) -> None:
        """Take rows, stream time and strike from the store, and build the deadline index from them."""
        watermark = self._stored_watermark()
        self._run_end = run_end_of(watermark) if watermark else NO_RUN
        self.folded_topic = (uuid.UUID(watermark.topic_id), watermark.partitions) if watermark else None
        self.strike = self._stored_strike()
        self.rows = WorkingSet(self.store, hot_rows=self.hot_rows)
        self._waiting_at_load = 0
        self.fold = Fold(
            self.identity,
            self.rows,
            Deadlines(self._due_entries()),
            stream_time_ms=watermark.stream_time_ms if watermark else 0,
            rerouted_from=watermark.rerouted if watermark else None,
        )
        for group_key, opened_offset in self._orphaned_rounds():
            self.rows.note_orphan(group_key, opened_offset)

    # -- what the worker calls

    @property
    def watermark(self) -> int:
        """The last offset whose effects are all safe; -1 for none."""
        return self._run_end.offset

    async def take(self, records: Sequence[Record]) -> bool:
        """Fold a run and apply its effects in order; when this returns True, all of it is safe. False: the lane has been given up.

        Raises LaneFailure: the process must end without acknowledging the run.
        """
        async with self._busy:
            if self._is_retired:
                return False
            records = self._unseen(records)
            try:
                for run in self._split_at_strike(records):
                    await self._take_run(run)
            except LaneFailure:
                raise
            except Exception as error:
                raise LaneFailure(f"partition {self.identity.partition}: {error!r}") from error
            self.counts.runs += 1
            self.counts.records += len(records)
            self.counts.last_run_records = len(records)
            return True

    def is_sole_writer_until(self, log_end: int) -> bool:
        """Return whether all of the changelog up to its end is this lane's, or behind it and written over."""
        return self._own_until == _NO_GAP and self.changelog_end == log_end

    async def settle(self) -> None:
        """Wait until no run and no healing is under way."""
        async with self._busy:
            pass

    async def retire(self) -> None:
        """Wait likewise, and do nothing from then on: the store goes to somebody else."""
        async with self._busy:
            self._is_retired = True

    async def heal(self, log_end: int, read: ReadChangelog) -> None:
        """Take over and write over what a foreign writer has put into the changelog, if its end shows that there is one.

        `log_end` is the changelog's end as asked for a moment ago. A worker that was paused past its session timeout may append
        rows older than ours, and compaction would keep the last: they are written again, then the watermark. Should it have been
        ahead of this lane, its rows are what this lane would come to, and are taken: older ones put behind them would stand,
        once compacted, under its newer watermark.
        """
        async with self._busy:
            if self._is_retired or log_end <= self.changelog_end:
                return
            self._own_until = min(self._own_until, self.changelog_end - 1)
            gap = await read(self.identity.partition, self.changelog_end)
            self.changelog_end = gap.end
            behind = self._take_what_counts(gap.rows)
            again = [(row_key, self.store.get(row_key)) for row_key in behind if row_key != keys.WATERMARK_KEY]
            rows = [*again, self._watermark_change()] if behind else []
            units = [[(key, value, [self._newest.end_of(key).header()])] for key, value in rows]
            if units:
                await self._append(units)
            if self.changelog_end == gap.end + len(units):  # nobody has come between: the store may pass the gap
                self._own_until = _NO_GAP
                self.store.write((), self._newest.reachable(self.changelog_end - 1))
            self.counts.healed += 1
            log.error("foreign_writer_healed", extra={"partition": self.identity.partition, "rows": len(again)})

    def _take_what_counts(self, rows: Sequence[LoggedRow]) -> Sequence[bytes]:
        """Apply the rows of a gap that count, as a restore would; return the keys that must be written again.

        A strike is no outcome of the commands: another's is always written over.
        """
        taken, behind = dict[bytes, bytes | None](), set[bytes]()
        for row in rows:
            if row.offset < self.restored_until or row.row_key == keys.STRIKE_KEY or not self._newest.counts(*row):
                behind.add(row.row_key)
            else:
                taken[row.row_key] = row.value
        news = [(row_key, value) for row_key, value in taken.items() if self.store.get(row_key) != value]
        if news:
            self.store.write(news, self.store.changelog_offset)
            self._load()
        return sorted(behind)

    def has_due(self, broker_now_ms: int) -> bool:
        """Return whether a round is overdue by the broker's clock; a row that cannot be read counts, so that the fold meets it."""
        try:
            return self.fold.has_due(broker_now_ms)
        except DamagedRow:
            return True

    @property
    def waiting(self) -> int:
        """How many rounds are open."""
        counts = self.fold.counts
        return self._waiting_at_load + counts.opened - sum(counts.closed.values())

    @property
    def earliest_due_ms(self) -> int:
        """When the next row is due, by the broker's clock."""
        return self.fold.deadlines.earliest_ms

    # -- a run

    async def _take_run(self, records: Sequence[Record]) -> None:
        struck = self.strike is not None and len(records) == 1 and records[0].offset == self.strike.offset
        self.rows.prefetch({record.key for record in records if record.key})
        unfolded = iter(records)
        try:
            while (record := self.fold.take(unfolded, CLOSINGS_A_SLICE)) is not None:
                await self._settle_the_rest(record)
                self.fold.apply(record)
        except LaneFailure:
            raise
        except Exception as error:  # noqa: BLE001  # judged here: struck once, set aside the second time
            record = self.fold.reading or records[0]
            if not struck:
                await self._strike(record, error)
            await self._set_aside(record, error)
        await self._commit(RunEnd(records[-1].offset))

    async def _settle_the_rest(self, record: Record) -> None:
        """Close what else the record's time makes due, in slices that are committed one by one."""
        folded, closed = record.offset - 1, CLOSINGS_A_SLICE
        while closed >= CLOSINGS_A_SLICE:
            try:
                await self._commit(RunEnd(folded, self.fold.closed_until))
            except Exception as error:  # not the record's fault: no strike
                raise LaneFailure(f"partition {self.identity.partition}: {error!r}") from error
            await asyncio.sleep(0)
            closed = self.fold.advance(record, CLOSINGS_A_SLICE)

    async def _commit(self, run_end: RunEnd) -> None:
        effects = _without_oversized_copies(self.fold.take_effects())
        crash_point("K1")
        await self._send(effects)
        crash_point("K4")
        units = self.rows.pack()
        moved = run_end > self._run_end
        self._run_end = max(self._run_end, run_end)
        if not (units or moved):
            return
        units.append([self._watermark_change()])
        self._newest.cover(self._run_end)
        last_offset = await self._append_rows(units)
        crash_point("K3")
        self.rows.settle(itertools.chain.from_iterable(units), last_offset)
        crash_point("K6")

    async def _send(self, effects: Effects) -> None:
        """Send fires, dead letters and re-sent commands; all are safe when this returns."""
        partition = self.identity.partition
        jobs: list[Awaitable[object]] = []
        if effects.fires:
            jobs.append(self._send_fires(effects))
        if effects.rejected:
            letters = [[self._dead_letter(rejected)] for rejected in effects.rejected]
            jobs.append(self.outlet.append(self.topics.commands_dead_letters, partition, letters))
            self.counts.rejected += len(letters)
        for home, moved in _by_home(effects.rerouted):
            copies = [[_copy_of(rerouted, partition)] for rerouted in moved]
            jobs.append(self.outlet.append(self.topics.commands, home, copies))
            self.counts.rerouted += len(copies)
        if len(jobs) == 1:
            await jobs[0]
        elif jobs:
            await asyncio.gather(*jobs)

    async def _send_fires(self, effects: Effects) -> None:
        fires = [((key, value, NO_HEADERS),) for key, value in effects.fires]
        appended = await self.outlet.append(self.topics.fires, self.identity.partition, fires)
        self.counts.fires += len(fires)
        self.on_fired(effects.fire_times, appended.appended_at_ms)

    async def _append_rows(self, units: Sequence[Sequence[Change]]) -> int:
        """Append rows to the changelog, a unit a batch at least; return how far the store may say that it has come."""
        run = [self._run_end.header()]
        return await self._append([[(key, value, run) for key, value in unit] for unit in units])

    async def _append(self, units: Sequence[Sequence[Message]]) -> int:
        appended = await self.outlet.append(self.topics.changelog, self.identity.partition, units)
        count = sum(map(len, units))
        if appended.last_offset - appended.first_offset + 1 == count and appended.first_offset == self.changelog_end:
            self.changelog_end = appended.last_offset + 1
        else:
            self._note_foreign_writer(appended, count)
        return self._newest.reachable(min(appended.last_offset, self._own_until))

    def _note_foreign_writer(self, appended: Appended, count: int) -> None:
        """Somebody else has appended to this lane's changelog: leave the gap for `heal`, which reads it and writes it over.

        `changelog_end` stays where the gap begins, so the next sweep finds the log longer than it should be. The
        store stays there too: if this lane is the zombie, a later take-over must read what the owner has put into the gap.
        """
        self._own_until = min(self._own_until, self.changelog_end - 1)
        log.error(
            "foreign_writer_found",
            extra={
                "partition": self.identity.partition,
                "expected": self.changelog_end,
                "got": appended.first_offset,
                "count": count,
            },
        )

    # -- what does not go well

    async def _strike(self, record: Record, error: Exception) -> None:
        """Remember in the changelog that the record made the fold raise, then fail."""
        strike = Strike(offset=record.offset, error=repr(error)[:500])
        await self._append_rows([[(keys.STRIKE_KEY, encode_other(strike))]])
        raise LaneFailure(f"partition {self.identity.partition}, offset {record.offset}: {error!r}") from error

    async def _set_aside(self, record: Record, error: Exception) -> None:
        """Dead-letter a record, or the damaged row it met, that made the fold raise for the second time."""
        self._load()  # forgets all since the last commit: a fold that raised may have changed rows halfway
        if isinstance(error, DamagedRow):
            await self._set_damaged_row_aside(record, error)
            await self._take_run([record])
            return
        refusal = InvalidCommand(
            stage="apply", code="apply_failed", message=f"the fold raised {error!r}; report it with this record"
        )
        await self._settle_despite(record)
        self.fold.effects.rejected.append(Rejected(record, refusal))
        log.error(
            "record_set_aside",
            extra={"partition": self.identity.partition, "offset": record.offset, "error": repr(error)},
        )

    async def _settle_despite(self, record: Record) -> None:
        """Let a record that is set aside pass time all the same, unless that is what raises."""
        try:
            if self.fold.advance(record, CLOSINGS_A_SLICE) >= CLOSINGS_A_SLICE:
                await self._settle_the_rest(record)
        except LaneFailure:
            raise
        except Exception:
            log.exception(
                "record_passes_no_time", extra={"partition": self.identity.partition, "offset": record.offset}
            )
            self._load()
            self.fold.advance(record, 0)

    async def _set_damaged_row_aside(self, record: Record, error: DamagedRow) -> None:
        letter = dead_letter(
            topic=self.topics.changelog,
            partition=self.identity.partition,
            offset=record.offset,
            key=error.row_key,
            value=error.value,
            headers=(),
            group=self.topics.worker_group,
            stage="apply",
            code="damaged_row",
            message=str(error),
            delivery_count=2,
        )
        await self.outlet.append(self.topics.commands_dead_letters, self.identity.partition, [[letter]])
        last_offset = await self._append_rows([[(error.row_key, None)]])
        self.store.write([(error.row_key, None)], last_offset)
        log.error("row_set_aside", extra={"partition": self.identity.partition, "row": repr(error.row_key)})

    def _due_entries(self) -> Iterator[bytes]:
        """Yield the heap entry of every stored row, and count the open rounds among them."""
        for key, value in self.store.items(keys.GROUP):
            self._waiting_at_load += is_open_round(value)
            yield due_bytes_of(value) + keys.group_key_of(key)

    def _dead_letter(self, rejected: Rejected) -> Message:
        record, error = rejected.record, rejected.error
        return dead_letter(
            topic=self.topics.commands,
            partition=self.identity.partition,
            offset=record.offset,
            key=record.key,
            value=record.value,
            headers=record.headers,
            group=self.topics.worker_group,
            stage=error.stage,
            code=error.code,
            message=error.message,
            delivery_count=1,
        )

    # -- reading what is stored

    def _unseen(self, records: Sequence[Record]) -> Sequence[Record]:
        """Drop records at or below the watermark; they have been folded."""
        if not records or records[0].offset > self.watermark:
            return records
        return [record for record in records if record.offset > self.watermark]

    def _split_at_strike(self, records: Sequence[Record]) -> list[Sequence[Record]]:
        """Put the record that raised before into a run of its own, so that it can be set aside alone."""
        if self.strike is None:
            return [records] if records else []
        at = next((index for index, record in enumerate(records) if record.offset == self.strike.offset), None)
        if at is None:
            return [records] if records else []
        return [run for run in (records[:at], records[at : at + 1], records[at + 1 :]) if run]

    def _watermark_change(self) -> Change:
        identity = self.identity
        watermark = Watermark(
            offset=self._run_end.offset,
            stream_time_ms=self.fold.stream_time_ms,
            topic_id=str(identity.topic_id),
            partitions=identity.partitions,
            rerouted=self.fold.rerouted_from,
            closed_until=self._run_end.closed_until,
        )
        return keys.WATERMARK_KEY, encode_other(watermark)

    def _stored_watermark(self) -> Watermark | None:
        value = self.store.get(keys.WATERMARK_KEY)
        return None if value is None else decode_watermark(keys.WATERMARK_KEY, value)

    def _stored_strike(self) -> Strike | None:
        value = self.store.get(keys.STRIKE_KEY)
        return None if value is None else decode_strike(keys.STRIKE_KEY, value)

    def _orphaned_rounds(self) -> list[tuple[bytes, int]]:
        """Find rounds whose participants are stored although their group's row is gone or belongs to a later round."""
        found: dict[tuple[bytes, int], None] = {}  # a crash amid deletions may leave one kind of row without the other
        for kind in (keys.PARTICIPANT, keys.ARRIVAL):
            for group_key, opened_offset in self._stored_rounds(kind):
                with suppress(DamagedRow):  # judged when a record meets it, not here: the lane must live
                    row = self.rows.get(group_key)
                    if row is None or row.opened_offset != opened_offset:
                        found[group_key, opened_offset] = None
        return list(found)

    def _stored_rounds(self, kind: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield every round that has rows of a kind, leaping from round to round."""
        start = kind
        while True:
            row_key = next(iter(self.store.keys_from(start, 1)), None)
            if row_key is None or not row_key.startswith(kind):
                return
            group_key, opened_offset = keys.group_key_of(row_key), keys.opened_offset_of(row_key)
            yield group_key, opened_offset
            start = keys.after(keys.round_prefix(kind, group_key, opened_offset))


def _by_home(rerouted: Sequence[Rerouted]) -> list[tuple[int, list[Rerouted]]]:
    homes: dict[int, list[Rerouted]] = {}
    for one in rerouted:
        homes.setdefault(one.partition, []).append(one)
    return list(homes.items())


def _without_oversized_copies(effects: Effects) -> Effects:
    """Set aside misplaced commands whose copy, with its origin in the headers, the topic would refuse."""
    too_large = [one for one in effects.rerouted if _size(one.record) > COPY_MAX_BYTES]
    if too_large:
        effects.rerouted = [one for one in effects.rerouted if _size(one.record) <= COPY_MAX_BYTES]
        effects.rejected.extend(Rejected(one.record, _TOO_LARGE_TO_RESEND) for one in too_large)
    return effects


_TOO_LARGE_TO_RESEND: Final = InvalidCommand(
    "misplaced",
    "the command lies on the wrong partition, and its headers leave no room to re-send it; "
    "send it with the murmur2 partitioner (librdkafka: partitioner=murmur2_random) or with smaller headers",
)


def _size(record: Record) -> int:
    headers = sum(len(name) + len(value or b"") + 8 for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def _copy_of(rerouted: Rerouted, partition: int) -> Message:
    """Return the misplaced command as it is re-sent: same bytes, its origin in a header, an event id if it had none."""
    record = rerouted.record
    origin = b"%d:%d" % (partition, record.offset)
    headers = [*record.headers, (REROUTED_HEADER, origin)]
    if rerouted.needs_event_id:
        headers.append((EVENT_ID_HEADER, b"rerouted-" + origin.replace(b":", b"-")))
    return rerouted.group_key, record.value, headers
