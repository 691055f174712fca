"""What is waiting on this worker's lanes, read from the rows as they are committed.

A list walks the deadline index from its earliest entry and reads the rows in another thread, so its cost depends on what is asked
for and not on how many groups there are. An entry of the index may be earlier than its row's deadline, so rows are sorted again;
where more was there than is looked at in one go, the answer says so instead of looking complete.
"""

from __future__ import annotations

import asyncio
import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from wait_for_me_app.core.effects import Identity
from wait_for_me_app.core.fires import FireIds, rfc3339
from wait_for_me_app.core.rows import ARRIVALS_NAMED_IN_A_FIRE, INLINE_ARRIVALS, Arrival, ClosedRound, OpenRound, Round
from wait_for_me_app.lane import Lane
from wait_for_me_app.storage import keys
from wait_for_me_app.storage.row_codec import DamagedRow, decode_arrival, decode_round
from wait_for_me_app.web.documents import Arrived, Group
from wait_for_me_app.web.problems import Refusal

ENTRIES_OF_A_LANE: Final = 4096
LONGEST_PAGE: Final = 500
LANE_HAS_GONE: Final = "the lane is moving to another worker"


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """Which groups are asked for; `text` is a part of the group's, a participant's or the callback's name."""

    text: str = ""
    state: str = "waiting"
    limit: int = 100
    after: tuple[int, str] | None = None

    def wants(self, row: Round, group_key: str) -> bool:
        """Return whether a row is asked for."""
        state = "waiting" if isinstance(row, OpenRound) else row.reason
        if self.state not in ("any", state):
            return False
        if self.after is not None and (row.due_ms, group_key) <= self.after:
            return False
        text = self.text.casefold()
        return not text or any(text in name.casefold() for name in _names(row, group_key))


def _names(row: Round, group_key: str) -> Iterable[str]:
    yield group_key
    if isinstance(row, OpenRound):
        yield row.callback
        yield from (arrival.participant_key for arrival in row.first_arrivals)


def cursor_of(due_ms: int, group_key: str) -> str:
    """Write the place behind a group in a list as an opaque word."""
    return urlsafe_b64encode(f"{due_ms}:{group_key}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> tuple[int, str]:
    """Read what `cursor_of` has written."""
    try:
        due, colon, group_key = urlsafe_b64decode(f"{text}{'=' * (-len(text) % 4)}").decode().partition(":")
        if colon and due.isascii() and due.isdigit() and len(due) < 19:
            return int(due), group_key
    except (ValueError, binascii.Error):
        pass
    raise Refusal(400, "bad_cursor", "The cursor is none that this API has given. Begin again without it.")


Ranked = tuple[int, str, Group]
"""Due time, group key, document: the order of a list."""


async def find(lanes: Mapping[int, Lane], query: Query, *, hide: bool) -> tuple[list[Ranked], bool]:
    """Return this worker's groups, nearest first and at most a page, and whether all that there are were looked at."""
    found: list[Ranked] = []
    complete = True
    for partition in sorted(lanes):
        if (lane := lanes.get(partition)) is None:
            continue
        entries = lane.fold.deadlines.first_entries(ENTRIES_OF_A_LANE)
        complete = complete and len(entries) < ENTRIES_OF_A_LANE
        found += await asyncio.to_thread(_matching, lane, entries, query, hide)
    found.sort(key=lambda one: one[:2])
    return found[: query.limit + 1], complete


def _matching(lane: Lane, entries: Sequence[bytes], query: Query, hide: bool) -> list[Ranked]:
    group_keys = list(dict.fromkeys(entry[8:] for entry in entries))
    found: list[Ranked] = []
    for group_key, row in _rows(lane, group_keys):
        name = group_key.decode(errors="replace")
        if query.wants(row, name):
            found.append((row.due_ms, name, group_document(lane.identity, name, row, hide=hide)))
    found.sort(key=lambda one: one[:2])
    return found[: query.limit + 1]


def _rows(lane: Lane, group_keys: Sequence[bytes]) -> Iterable[tuple[bytes, Round]]:
    row_keys = [keys.group_row_key(key) for key in group_keys]
    for group_key, row_key, value in zip(group_keys, row_keys, _values(lane, row_keys), strict=True):
        if value is not None:
            with suppress(DamagedRow):  # the fold answers for it when it meets it
                yield group_key, decode_round(row_key, value)


def _values(lane: Lane, row_keys: Sequence[bytes]) -> Sequence[bytes | None]:
    """Read the store; it may be closed at any moment, because a rebalance does not wait for viewers."""
    try:
        return lane.store.get_many(row_keys)
    except Exception:  # noqa: BLE001  # rocksdict raises a bare Exception for a closed store
        return [None] * len(row_keys)


async def describe(lane: Lane, group_key: str, *, hide: bool) -> Group | None:
    """Return one group with everybody who has arrived, or None if nothing is known of it."""
    return await asyncio.to_thread(_describe, lane, group_key, hide)


def _describe(lane: Lane, group_key: str, hide: bool) -> Group | None:
    for _key, row in _rows(lane, [group_key.encode()]):
        if isinstance(row, ClosedRound) and row.due_ms <= lane.fold.stream_time_ms:
            return None  # freed: as if it had never been there
        arrivals = _arrivals(lane, group_key.encode(), row) if isinstance(row, OpenRound) else []
        return group_document(lane.identity, group_key, row, hide=hide, arrivals=arrivals)
    return None


def _arrivals(lane: Lane, group_key: bytes, row: OpenRound) -> list[Arrival]:
    last = min(row.arrived_count, ARRIVALS_NAMED_IN_A_FIRE)
    row_keys = [keys.arrival_row_key(group_key, row.opened_offset, index) for index in range(INLINE_ARRIVALS, last)]
    later = zip(row_keys, _values(lane, row_keys), strict=True)
    return [*row.first_arrivals, *(decode_arrival(row_key, value) for row_key, value in later if value is not None)]


def group_document(
    identity: Identity, group_key: str, row: Round, *, hide: bool, arrivals: Sequence[Arrival] | None = None
) -> Group:
    """Return a row as the API shows it."""
    common: dict[str, Any] = {
        "group_key": group_key,
        "number_of_participants_in_group": row.number_of_participants,
        "arrived_count": row.arrived_count,
        "missing_count": max(0, row.number_of_participants - row.arrived_count),
        "linger_in_seconds": seconds(row.linger_ms),
        "fire_id": FireIds(identity.topic_id, identity.partition)(row.opened_offset),
        "partition": identity.partition,
        "opened_offset": row.opened_offset,
    }
    if isinstance(row, ClosedRound):
        return Group(
            **common,
            state=row.reason,  # type: ignore[arg-type]  # one of the three
            closed_at=rfc3339(row.closed_at_ms),
            frees_at=rfc3339(row.due_ms),
            late_count=row.late_count,
            closed_offset=row.closed_offset,
            payloads_hidden=hide,
        )
    named = row.first_arrivals if arrivals is None else arrivals
    return Group(
        **common,
        state="waiting",
        opened_at=rfc3339(row.opened_at_ms),
        last_add_at=rfc3339(row.last_add_at_ms),
        deadline_at=rfc3339(row.deadline_ms),
        deadline_ms=row.deadline_ms,
        arrived=tuple(Arrived(participant_key=one.participant_key, at=rfc3339(one.at_ms)) for one in named),
        arrived_truncated=len(named) < row.arrived_count,
        conflict_count=row.conflict_count,
        execute_after_waiting=row.callback,
        execute_after_waiting_params=None if hide else msgspec.Raw(row.params),
        payloads_hidden=hide,
        wait_time_in_seconds=seconds(row.wait_ms),
        max_wait_in_seconds=None if row.max_wait_ms is None else seconds(row.max_wait_ms),
    )


def seconds(milliseconds: int) -> int | float:
    """Write milliseconds as seconds, whole ones without a fraction."""
    return milliseconds // 1000 if milliseconds % 1000 == 0 else milliseconds / 1000


def next_deadlines(lanes: Mapping[int, Lane]) -> Callable[[], dict[int, int]]:
    """Return what reads the nearest deadline of each lane's open rounds; call it in a thread."""
    entries = {partition: (lane, lane.fold.deadlines.first_entries(64)) for partition, lane in lanes.items()}

    def read() -> dict[int, int]:
        found = {}
        for partition, (lane, first) in entries.items():
            rows = _rows(lane, list(dict.fromkeys(entry[8:] for entry in first)))
            deadlines = [row.deadline_ms for _key, row in rows if isinstance(row, OpenRound)]
            if deadlines:
                found[partition] = min(deadlines)
        return found

    return read
