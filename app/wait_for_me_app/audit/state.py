"""The rows of one partition against the fold of its commands up to the watermark.

Rows of a run that has not got its watermark yet are left out: what they say is of later commands. A run that closes very many rounds writes
its rows in slices, whose watermark carries the next record's time already; then rows that are due and still open are right, too, if they
come behind the last deadline that the watermark says is settled.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from .reference import LOG_APPEND_TIME, Lane, Round
from .rows import (
    INLINE_ARRIVALS,
    NAMED_ARRIVALS,
    NOWHERE,
    OPEN,
    Changelog,
    Damaged,
    arrival_row_key,
    deadline_entry,
    group_row_key,
    participant_row_key,
    round_of,
    unpacked,
)
from .wire import Record

Difference = tuple[bytes | None, str]


def differences(lane: Lane, changelog: Changelog, behind: Record | None) -> Iterator[Difference]:
    """Yield group and difference; the lane has read the record of the watermark, and not the one `behind` it."""
    mark = changelog.mark
    assert mark is not None
    if (mark.topic_id, mark.partitions) != (str(lane.topic_id), lane.partitions):
        yield None, f"the watermark is of topic {mark.topic_id} with {mark.partitions} partitions, and this is another"
        return
    in_slices = mark.now != lane.now and _is_of_the_next(lane, mark.now, behind)
    if in_slices and behind is not None:
        lane.now = mark.now
        lane.time_out(behind.offset)
    if mark.now != lane.now:
        yield None, f"at offset {mark.offset} the stream time is {lane.now}, and the watermark says {mark.now}"
        return
    if mark.resent != lane.resent:
        yield None, f"re-sent commands were taken up to {lane.resent}, and the watermark says {mark.resent}"
    for group, round_ in lane.rounds.items():
        if difference := _difference(lane, changelog, group, round_, in_slices):
            yield group, difference
    yield from _rows_of_nobody(lane, changelog)


def _is_of_the_next(lane: Lane, now: int, behind: Record | None) -> bool:
    if behind is None or not (lane.trust_create_time or behind.timestamp_type == LOG_APPEND_TIME):
        return False
    return now == max(lane.now, behind.timestamp_ms)


def _difference(lane: Lane, changelog: Changelog, group: bytes, round_: Round, in_slices: bool) -> str | None:
    run_end, value = changelog.rows.get(group_row_key(group), (NOWHERE, None))
    if run_end > changelog.settled_until:
        return None
    try:
        row = round_of(value) if value is not None else None
    except Damaged as error:
        return f"its row cannot be read: {error}"
    is_freed = lane.find(group) is None
    if row is None:
        return None if is_freed else f"it has no row, and a round that was opened at {round_.opened_offset}"
    if in_slices and row[0] == OPEN and row[3] == round_.opened_offset and row[6] <= lane.now:
        is_settled = deadline_entry(row[6], group) <= changelog.settled_until[1]
        return "it is due, and its slice is settled" if is_settled else None
    if round_.closed_at is None:
        return _open_difference(changelog, group, round_, row)
    if is_freed and (row[0] == OPEN or row[5] + row[7] <= lane.now):
        return "its row is open, and its round has closed" if row[0] == OPEN else None
    wanted = round_.opened_offset, round_.closed_at, round_.settings[-1], round_.late
    if row[0] == OPEN:
        return f"its row is open, and its round of {round_.opened_offset} has closed"
    has = row[3], row[5], row[7], row[10]
    return None if has == wanted else f"opened, closed, linger, late adds are {wanted}, and its row says {has}"


def _open_difference(changelog: Changelog, group: bytes, round_: Round, row: list[Any]) -> str | None:
    if row[0] != OPEN:
        return f"its row is closed, and its round of {round_.opened_offset} is open"
    names = ("opened offset", "opened at", "last add at", "deadline", "N", "callback", "params", "wait", "max wait",
             "linger", "conflicts", "arrived")  # fmt: skip
    wanted = (round_.opened_offset, round_.opened_at, round_.last_add_at, round_.deadline, *round_.settings,
              round_.conflicts, len(round_.arrived))  # fmt: skip
    for name, want, has in zip(names, wanted, row[3:15], strict=True):
        if want != has:
            return f"its {name} is {want!r}, and its row says {has!r}"
    first = [[name, at, event_id] for name, (at, event_id) in islice(round_.arrived.items(), INLINE_ARRIVALS)]
    if first != row[15]:
        return f"its first participants are {first}, and its row says {row[15]}"
    return _later_difference(changelog, group, round_) if len(round_.arrived) > INLINE_ARRIVALS else None


def _later_difference(changelog: Changelog, group: bytes, round_: Round) -> str | None:
    for index, (name, (at, event_id)) in enumerate(round_.arrived.items()):
        if index < INLINE_ARRIVALS:
            continue
        rows = {participant_row_key(group, round_.opened_offset, name): ["", at, event_id]}
        if index < NAMED_ARRIVALS:
            rows[arrival_row_key(group, round_.opened_offset, index)] = [name, at, None]
        for key, wanted in rows.items():
            value = changelog.settled(key)
            try:
                has = None if value is None else unpacked(value, 1)
            except Damaged as error:
                return f"the row of participant {name!r} cannot be read: {error}"
            if has != wanted:
                return f"the row of participant {name!r} is {has}, and must be {wanted}"
    return None


def _rows_of_nobody(lane: Lane, changelog: Changelog) -> Iterator[Difference]:
    for key, (run_end, value) in changelog.rows.items():
        if key[:1] == b"G" and value is not None and run_end <= changelog.settled_until:
            group = key[3 : 3 + int.from_bytes(key[1:3], "big")]
            if group not in lane.rounds:
                yield group, "it has a row, and the commands never opened a round of it here"
