"""A run's view of the rows: those that are hot stay decoded in memory, those that changed wait here until the run is safe.

Memory is bounded by two generations: a row that is not touched while `hot_rows` others are, is forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from wait_for_me_app.core.rows import ARRIVALS_NAMED_IN_A_FIRE, INLINE_ARRIVALS, Arrival, ClosedRound, Round
from wait_for_me_app.storage import keys
from wait_for_me_app.storage.row_codec import DamagedRow, decode_arrival, decode_round, encode_other, encode_round
from wait_for_me_app.storage.store import Change, Store

Unit = list[Change]
"""Rows that must reach the changelog together or not at all: those of one group."""

DELETIONS_A_RUN: Final = 2000


class WorkingSet:
    """The rows of one partition as the fold sees them; implements `core.rows.Rows`."""

    def __init__(self, store: Store, *, hot_rows: int = 8192) -> None:
        self._store = store
        self._hot_rows = hot_rows
        self._young: dict[bytes, Round] = {}
        self._old: dict[bytes, Round] = {}
        self._absent: set[bytes] = set()
        self._changed: dict[bytes, Round] = {}
        self._changed_others: dict[bytes, dict[bytes, bytes]] = {}
        self._discarded: deque[tuple[bytes, int, int]] = deque()
        self._discarded_now: list[tuple[bytes, int, int]] = []

    # -- what the fold uses

    def get(self, group_key: bytes) -> Round | None:
        row = self._young.get(group_key)
        if row is not None:
            return row
        row = self._old.get(group_key) or self._changed.get(group_key)
        if row is None:
            if group_key in self._absent:
                return None
            row_key = keys.group_row_key(group_key)
            value = self._store.get(row_key)
            if value is None:
                return None
            row = decode_round(row_key, value)
        self._keep(group_key, row)
        return row

    def put(self, group_key: bytes, row: Round) -> None:
        self._changed[group_key] = row
        if self._young.get(group_key) is not row:
            self._keep(group_key, row)

    def participant(self, group_key: bytes, opened_offset: int, participant_key: str) -> Arrival | None:
        row_key = keys.participant_row_key(group_key, opened_offset, participant_key)
        value = self._other(group_key, row_key)
        if value is None:
            return None
        arrival = decode_arrival(row_key, value)
        arrival.participant_key = participant_key  # the key says it already: it is not stored twice
        return arrival

    def put_participant(self, group_key: bytes, opened_offset: int, arrival: Arrival, index: int | None) -> None:
        others = self._changed_others.setdefault(group_key, {})
        row_key = keys.participant_row_key(group_key, opened_offset, arrival.participant_key)
        others[row_key] = encode_other(Arrival("", arrival.at_ms, arrival.event_id))
        if index is not None and index < ARRIVALS_NAMED_IN_A_FIRE:
            arrival_key = keys.arrival_row_key(group_key, opened_offset, index)
            others[arrival_key] = encode_other(Arrival(arrival.participant_key, arrival.at_ms, None))

    def later_arrivals(self, group_key: bytes, opened_offset: int, stop_index: int) -> Iterator[Arrival]:
        for index in range(INLINE_ARRIVALS, min(stop_index, ARRIVALS_NAMED_IN_A_FIRE)):
            row_key = keys.arrival_row_key(group_key, opened_offset, index)
            value = self._other(group_key, row_key)
            if value is None:
                return
            yield decode_arrival(row_key, value)

    def discard(self, group_key: bytes, row: ClosedRound) -> None:
        self._discarded_now.append((group_key, row.opened_offset, row.arrived_count))

    # -- what the lane uses

    def prefetch(self, group_keys: Iterable[bytes]) -> None:
        """Read the rows of a run's groups at once; those that do not exist are remembered until the run is settled."""
        missing = [
            key for key in group_keys if key not in self._young and key not in self._old and key not in self._changed
        ]
        if not missing:
            return
        row_keys = [keys.group_row_key(key) for key in missing]
        for group_key, row_key, value in zip(missing, row_keys, self._store.get_many(row_keys), strict=True):
            if value is None:
                self._absent.add(group_key)
                continue
            with suppress(DamagedRow):  # met again, and answered for, when the fold asks for this very row
                self._keep(group_key, decode_round(row_key, value))

    def pack(self) -> list[Unit]:
        """Return the changed rows, a unit a group, participants before their group; then deletions that are due."""
        units: list[Unit] = []
        for group_key, row in self._changed.items():
            others = self._changed_others.get(group_key)
            unit: Unit = list(others.items()) if others else []
            unit.append((keys.group_row_key(group_key), encode_round(row)))
            units.append(unit)
        units.extend(self._deletions())
        return units

    def settle(self, changes: Iterable[Change], changelog_offset: int) -> None:
        """Write what the changelog now holds to the store, and start the next run."""
        self._store.write(changes, changelog_offset)
        self._changed.clear()
        self._changed_others.clear()
        self._absent.clear()
        self._discarded.extend(self._discarded_now)
        self._discarded_now.clear()

    def note_orphan(self, group_key: bytes, opened_offset: int) -> None:
        """Have the rows of a round deleted that no group row names any more."""
        self._discarded.append((group_key, opened_offset, INLINE_ARRIVALS + 1))

    # -- inside

    def _other(self, group_key: bytes, row_key: bytes) -> bytes | None:
        others = self._changed_others.get(group_key)
        if others is not None and (value := others.get(row_key)) is not None:
            return value
        return self._store.get(row_key)

    def _keep(self, group_key: bytes, row: Round) -> None:
        if len(self._young) >= self._hot_rows:
            self._old, self._young = self._young, {}
        self._young[group_key] = row

    def _deletions(self) -> Iterator[Unit]:
        """Yield deletions of rows that were freed in an earlier run, which a durable watermark therefore covers."""
        budget = DELETIONS_A_RUN
        while self._discarded and budget > 0:
            group_key, opened_offset, arrived_count = self._discarded[0]
            unit: Unit = []
            if arrived_count > INLINE_ARRIVALS:
                unit = [(key, None) for key in self._round_keys(group_key, opened_offset, budget)]
                budget -= len(unit)
                if budget <= 0:
                    yield unit
                    return
            self._discarded.popleft()
            row = self.get(group_key)
            if row is not None and row.opened_offset == opened_offset and group_key not in self._changed:
                unit.append((keys.group_row_key(group_key), None))
                self._forget(group_key)
            budget -= 1
            if unit:
                yield unit

    def _round_keys(self, group_key: bytes, opened_offset: int, at_most: int) -> Iterator[bytes]:
        for kind in (keys.PARTICIPANT, keys.ARRIVAL):
            prefix = keys.round_prefix(kind, group_key, opened_offset)
            for row_key in self._store.keys_from(prefix, at_most):
                if not row_key.startswith(prefix):
                    break
                yield row_key
                at_most -= 1

    def _forget(self, group_key: bytes) -> None:
        self._young.pop(group_key, None)
        self._old.pop(group_key, None)
        self._absent.add(group_key)
