"""What a record does to a group: the whole of the product's judgement, as a fold over one partition's log.

Time lives in the log. Stream time T is the largest broker timestamp read so far; no clock is asked. For each record, in this order:

1. T advances; every open round with a deadline at or before T closes by timeout, in (deadline, key) order; a closed row whose linger
   has passed is as if absent.
2. The record's command is applied. What cannot be applied is set aside with a reason.

A round, and what happens to it (the same table is in `docs/state_machine.md`):

    (none) --add--> OPEN ----set has N------------> CLOSED complete --+
                    |  ^ |---deadline <= T-----------> CLOSED timeout --+--T >= closed + linger--> (none)
                    |  | |---remove------------------> CLOSED removed --+
                    +--+ add: joins, or refreshes the deadline         |  ^
                                                                       +--+ add: late, counted

Replays are harmless: every row says which record last changed its group, and a record at or below it is skipped for that group. A
timeout found while reading record `o` happens before `o` is applied, so it marks the row as changed at `o - 1`: a run may be cut
between the timeouts that a record causes and the record's own command.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

from wait_for_me.codec import decode_command
from wait_for_me.commands import Add, Remove, Tick
from wait_for_me.errors import InvalidCommand
from wait_for_me.milliseconds import to_ms
from wait_for_me.partitioner import partition_for
from wait_for_me_app.core.deadlines import Deadlines, entry
from wait_for_me_app.core.effects import Counts, Effects, FireTimes, Identity, Record, Rejected, Rerouted
from wait_for_me_app.core.fires import FireIds, encode_fire
from wait_for_me_app.core.rows import (
    ARRIVALS_NAMED_IN_A_FIRE,
    COMPLETE,
    INLINE_ARRIVALS,
    REMOVED,
    RULES_VERSION,
    TIMEOUT,
    Arrival,
    ClosedRound,
    OpenRound,
    Round,
    Rows,
)

LOG_APPEND_TIME: Final = 1
REROUTED_HEADER: Final = "wfm_rerouted"
EVENT_ID_HEADER: Final = "wfm_event_id"

LOOKS_AT_ONCE: Final = 200
LINGER_CHECK_MS: Final = 30_000


class Fold:
    """One partition's state machine: feed it records in order, then take the effects."""

    __slots__ = (
        "_fire_ids",
        "closed_until",
        "counts",
        "deadlines",
        "effects",
        "identity",
        "reading",
        "rerouted_from",
        "rows",
        "stream_time_ms",
    )

    def __init__(
        self,
        identity: Identity,
        rows: Rows,
        deadlines: Deadlines,
        *,
        stream_time_ms: int = 0,
        rerouted_from: dict[int, int] | None = None,
    ) -> None:
        self.identity = identity
        self.rows = rows
        self.deadlines = deadlines
        self.stream_time_ms = stream_time_ms
        self.reading: Record | None = None
        """The record that is being folded: when the fold raises, the one to blame."""
        self.closed_until = b""
        self.rerouted_from = dict(rerouted_from or {})
        self.effects = Effects([], [], [], [])
        self.counts = Counts()
        self._fire_ids = FireIds(identity.topic_id, identity.partition)

    def take_effects(self) -> Effects:
        """Return what the records since the last call want to be sent."""
        effects, self.effects = self.effects, Effects([], [], [], [])
        return effects

    def take(self, records: Iterator[Record], close_at_most: int) -> Record | None:
        """Fold records in order; return the first that has more to close than is allowed at once, or None when all are folded.

        A record that is returned has closed that many and is not applied: go on with `advance`, then `apply`.
        """
        for record in records:
            self.reading = record
            may_close = record.timestamp > self.stream_time_ms or self.deadlines.earliest_ms <= self.stream_time_ms
            if may_close and self.advance(record, close_at_most) >= close_at_most:
                return record
            self.apply(record)
        return None

    def advance(self, record: Record, close_at_most: int) -> int:
        """Advance stream time to the record and close what is due; return how many were closed, never more than `close_at_most`.

        When as many were closed as were allowed, more may be due: call again before `apply`.
        """
        if record.timestamp > self.stream_time_ms and (
            record.timestamp_type == LOG_APPEND_TIME or self.identity.trust_create_time
        ):
            self.stream_time_ms = record.timestamp
        if self.deadlines.earliest_ms > self.stream_time_ms:
            return 0
        return self._close_due(record.offset, close_at_most)

    def apply(self, record: Record) -> None:
        """Apply the record's command; `advance` has been called until nothing more was due."""
        try:
            command = decode_command(record.key, record.value, record.headers)
        except InvalidCommand as error:
            self.effects.rejected.append(Rejected(record, error))
            return
        if record.headers and type(command) is not Tick and self._is_known_copy(record):
            self.counts.duplicates += 1
        elif type(command) is Add:
            self._add(record, command)
        elif type(command) is Remove:
            self._remove(record, command)
        else:
            self.counts.ticks += 1

    def has_due(self, now_ms: int) -> bool:
        """Return whether an open round's deadline is at or before `now_ms`; decides nothing, and puts stale entries where they belong.

        A row that merely lingers is no reason for a tick: what frees it is the next record, whenever that comes.
        """
        for _ in range(LOOKS_AT_ONCE):
            due = self.deadlines.pop_due(now_ms)
            if due is None:
                return False
            group_key, noted_ms = due
            try:
                row = self.rows.get(group_key)
            except Exception:
                self.deadlines.watch_again(group_key, noted_ms)
                raise
            if row is None:
                self.deadlines.forget(group_key)
            elif type(row) is OpenRound:
                self.deadlines.watch_again(group_key, row.due_ms)
                if row.due_ms <= now_ms:
                    return True
            else:
                self.deadlines.watch_again(group_key, max(row.due_ms, now_ms + LINGER_CHECK_MS))
        return False

    # -- step 1: timeouts and freed rows

    def _close_due(self, offset: int, close_at_most: int) -> int:
        closed = 0
        while closed < close_at_most:
            due = self.deadlines.pop_due(self.stream_time_ms)
            if due is None:
                break
            group_key, noted_ms = due
            row = self.rows.get(group_key)
            if row is None:
                self.deadlines.forget(group_key)
            elif row.due_ms > noted_ms:  # it has slid: others may be due before it
                self.deadlines.watch_again(group_key, row.due_ms)
            elif isinstance(row, ClosedRound) and row.changed_offset >= offset:  # a replay: it knows what is read again
                self.deadlines.watch_again(group_key, self.stream_time_ms + 1)
            elif isinstance(row, ClosedRound):
                self.deadlines.forget(group_key)
                self.rows.discard(group_key, row)
                closed += 1
            else:
                self._close(group_key, row, TIMEOUT, offset, changed_offset=offset - 1, closed_at_ms=row.deadline_ms)
                self.deadlines.watch_again(group_key, row.deadline_ms + row.linger_ms)
                self.closed_until = entry(row.deadline_ms, group_key)
                closed += 1
        return closed

    def _close(
        self,
        group_key: bytes,
        row: OpenRound,
        reason: str,
        offset: int,
        *,
        changed_offset: int,
        closed_at_ms: int,
    ) -> None:
        """End a round: its fire first, unless it was removed, then its closed row.

        A round that has timed out lingers from its deadline, not from the record that showed it: when that came depends on
        whether a worker was there to send a tick.
        """
        if reason != REMOVED:
            self._fire(group_key, row, reason, offset)
        self.counts.closed[reason] += 1
        closed = ClosedRound(
            rules_version=row.rules_version,
            changed_offset=max(row.changed_offset, changed_offset),
            opened_offset=row.opened_offset,
            reason=reason,
            closed_at_ms=closed_at_ms,
            closed_offset=offset,
            linger_ms=row.linger_ms,
            number_of_participants=row.number_of_participants,
            arrived_count=row.arrived_count,
            late_count=0,
        )
        self.rows.put(group_key, closed)
        if closed.due_ms < row.deadline_ms:  # it lingers for less than was left of its wait
            self.deadlines.watch_earlier(group_key, closed.due_ms)

    def _fire(self, group_key: bytes, row: OpenRound, reason: str, offset: int) -> None:
        identity = self.identity
        value = encode_fire(
            fire_id=self._fire_ids(row.opened_offset),
            group_key=group_key,
            reason=reason,
            row=row,
            arrivals=self._arrivals(group_key, row),
            fired_at_ms=self.stream_time_ms,
            partition=identity.partition,
            closed_offset=offset,
        )
        self.effects.fires.append((group_key, value))
        self.effects.fire_times.append(FireTimes(reason, row.opened_at_ms, row.deadline_ms, self.stream_time_ms))

    def _arrivals(self, group_key: bytes, row: OpenRound) -> Iterable[Arrival]:
        if row.arrived_count <= INLINE_ARRIVALS:
            return row.first_arrivals
        later = self.rows.later_arrivals(group_key, row.opened_offset, ARRIVALS_NAMED_IN_A_FIRE)
        return chain(row.first_arrivals, later)

    # -- step 2: the commands

    def _add(self, record: Record, add: Add) -> None:
        group_key: bytes = record.key  # type: ignore[assignment]  # the codec refuses an add without a key
        offset = record.offset
        row = self.rows.get(group_key)
        if row is not None and row.changed_offset >= offset:
            self.counts.replayed += 1
        elif type(row) is OpenRound:
            self._join(group_key, row, add, offset)
        elif row is None or row.due_ms <= self.stream_time_ms:
            if self._is_home(record, group_key, needs_event_id=add.event_id is None):
                self._open(group_key, add, offset, previous=row)
        elif type(row) is ClosedRound:
            row.late_count += 1
            row.changed_offset = offset
            self.counts.late += 1
            self.rows.put(group_key, row)

    def _open(self, group_key: bytes, add: Add, offset: int, *, previous: Round | None) -> None:
        now_ms = self.stream_time_ms
        wait_ms, max_wait_ms, linger_ms = _times_of(add)
        row = OpenRound(
            rules_version=RULES_VERSION,
            changed_offset=offset,
            opened_offset=offset,
            opened_at_ms=now_ms,
            last_add_at_ms=now_ms,
            deadline_ms=now_ms + (wait_ms if max_wait_ms is None else min(wait_ms, max_wait_ms)),
            number_of_participants=add.number_of_participants_in_group,
            callback=add.execute_after_waiting,
            params=add.params_bytes,
            wait_ms=wait_ms,
            max_wait_ms=max_wait_ms,
            linger_ms=linger_ms,
            conflict_count=0,
            arrived_count=1,
            first_arrivals=[Arrival(add.participant_key, now_ms, add.event_id)],
        )
        self.counts.opened += 1
        if previous is None:
            self.deadlines.watch(group_key, row.deadline_ms)
        else:
            self.rows.discard(group_key, previous)  # type: ignore[arg-type]  # only a freed row is followed by a new round
            self.deadlines.watch_earlier(group_key, row.deadline_ms)
        self._settle(group_key, row, offset)

    def _join(self, group_key: bytes, row: OpenRound, add: Add, offset: int) -> None:
        if not self._arrive(group_key, row, add):
            self.counts.duplicates += 1
            return
        self._take_settings(row, add)
        now_ms = self.stream_time_ms
        deadline_ms = now_ms + row.wait_ms
        if row.max_wait_ms is not None:
            deadline_ms = min(deadline_ms, row.opened_at_ms + row.max_wait_ms)
        if deadline_ms < row.deadline_ms:
            self.deadlines.watch_earlier(group_key, deadline_ms)
        row.deadline_ms = deadline_ms
        row.last_add_at_ms = now_ms
        row.changed_offset = offset
        self._settle(group_key, row, offset)

    def _settle(self, group_key: bytes, row: OpenRound, offset: int) -> None:
        """Close the round if this add completed it or left it no time; else keep it open."""
        if row.arrived_count >= row.number_of_participants:
            self._close(group_key, row, COMPLETE, offset, changed_offset=offset, closed_at_ms=self.stream_time_ms)
        elif row.deadline_ms <= self.stream_time_ms:
            self._close(group_key, row, TIMEOUT, offset, changed_offset=offset, closed_at_ms=self.stream_time_ms)
        else:
            self.rows.put(group_key, row)

    def _arrive(self, group_key: bytes, row: OpenRound, add: Add) -> bool:
        """Put the participant into the set; return False for a copy of its latest add."""
        participant_key, event_id = add.participant_key, add.event_id
        known = self._find(group_key, row, participant_key)
        if known is None:
            arrival = Arrival(participant_key, self.stream_time_ms, event_id)
            if row.arrived_count < INLINE_ARRIVALS:
                row.first_arrivals.append(arrival)
            else:
                self.rows.put_participant(group_key, row.opened_offset, arrival, row.arrived_count)
            row.arrived_count += 1
            self.counts.joined += 1
            return True
        if event_id is not None and event_id == known.event_id:
            return False
        self.counts.refreshed += 1
        if event_id is not None:  # an add without one leaves the latest as it is
            known.event_id = event_id
            if not any(arrival is known for arrival in row.first_arrivals):
                self.rows.put_participant(group_key, row.opened_offset, known, None)
        return True

    def _find(self, group_key: bytes, row: OpenRound, participant_key: str) -> Arrival | None:
        for arrival in row.first_arrivals:
            if arrival.participant_key == participant_key:
                return arrival
        if row.arrived_count <= INLINE_ARRIVALS:
            return None
        return self.rows.participant(group_key, row.opened_offset, participant_key)

    def _take_settings(self, row: OpenRound, add: Add) -> None:
        """The newest add's settings win, as in the gem; a change is counted once per add."""
        params = bytes(add.raw_params)  # params_bytes without the call
        wait_ms, max_wait_ms, linger_ms = _times_of(add)
        if (
            row.number_of_participants == add.number_of_participants_in_group
            and row.params == params
            and row.callback == add.execute_after_waiting
            and row.wait_ms == wait_ms
            and row.linger_ms == linger_ms
            and row.max_wait_ms == max_wait_ms
        ):
            return
        row.conflict_count += 1
        self.counts.conflicts += 1
        row.number_of_participants = add.number_of_participants_in_group
        row.callback, row.params = add.execute_after_waiting, params
        row.wait_ms, row.linger_ms, row.max_wait_ms = wait_ms, linger_ms, max_wait_ms

    def _remove(self, record: Record, remove: Remove) -> None:
        group_key: bytes = record.key  # type: ignore[assignment]  # the codec refuses a remove without a key
        row = self.rows.get(group_key)
        if row is None:
            self._is_home(record, group_key, needs_event_id=remove.event_id is None)
        elif row.changed_offset >= record.offset:
            self.counts.replayed += 1
        elif isinstance(row, OpenRound):
            now_ms = self.stream_time_ms
            self._close(group_key, row, REMOVED, record.offset, changed_offset=record.offset, closed_at_ms=now_ms)

    # -- misplaced commands

    def _is_home(self, record: Record, group_key: bytes, *, needs_event_id: bool) -> bool:
        """Return whether the group lives here; if not, have the command re-sent once, and set it aside the second time."""
        home = partition_for(group_key, self.identity.partitions)
        if home == self.identity.partition:
            return True
        if dict(record.headers).get(REROUTED_HEADER) is not None:
            self.effects.rejected.append(Rejected(record, _misplaced_again(home, self.identity.partition)))
        else:
            self.effects.rerouted.append(Rerouted(record, group_key, home, needs_event_id))
        return False

    def _is_known_copy(self, record: Record) -> bool:
        """Return whether a re-sent command has been taken over before: sources send in order, so a lower offset is a copy."""
        source = rerouted_source(record.headers)
        if source is None:
            return False
        partition, offset = source
        if partition >= self.identity.partitions:
            return False
        if self.rerouted_from.get(partition, -1) >= offset:
            return True
        self.rerouted_from[partition] = offset
        return False


def _times_of(add: Add) -> tuple[int, int | None, int]:
    """Return wait, cap and linger in ms."""
    wait_ms, max_wait, linger = to_ms(add.wait_time_in_seconds), add.max_wait_in_seconds, add.linger_in_seconds
    return wait_ms, None if max_wait is None else to_ms(max_wait), wait_ms if linger is None else to_ms(linger)


def rerouted_source(headers: Sequence[tuple[str, bytes]]) -> tuple[int, int] | None:
    """Return the (partition, offset) that a re-sent command came from, or None; a header that does not parse is ignored."""
    value = dict(headers).get(REROUTED_HEADER) or b""
    partition, separator, offset = value.partition(b":")
    if not (separator and partition.isdigit() and offset.isdigit() and len(partition) <= 10 and len(offset) <= 19):
        return None
    return int(partition), int(offset)


def _misplaced_again(home: int, partition: int) -> InvalidCommand:
    return InvalidCommand(
        "misplaced",
        f"the command was re-sent to partition {partition}, but its group lives on partition {home}; "
        "send it with the murmur2 partitioner (librdkafka: partitioner=murmur2_random) and check the partition counts",
    )
