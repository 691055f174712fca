"""What the changelog of one partition says: its rows as a restore would take them, read by this file's own means.

The rules are those of docs/decisions/0007: every record says where the run ended that wrote it (`wfm_run`): behind an offset and, in
a run amid the timeouts that the next record causes, a deadline and a key. A record whose run ended before the furthest watermark read
so far is ignored; of rows that no watermark covers yet the further run's counts. The bytes are those of `docs/delivery.md`'s
changelog: a format byte, for a group its due time, then msgpack, of which only what is written is read here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .wire import Record

FORMAT = 1
OPEN, CLOSED = 1, 2
INLINE_ARRIVALS, NAMED_ARRIVALS = 8, 1000
_NUMBERS = {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q", 0xCB: ">d"}
_SIZES = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I", 0xDC: ">H", 0xDD: ">I", 0xDE: ">H",
          0xDF: ">I"}  # fmt: skip


End = tuple[int, bytes]
"""Where a run ended: a command's offset, and the deadline and key up to which rounds have timed out behind it."""
NOWHERE: End = (-1, b"")


class Damaged(Exception):
    """Bytes that are not what a worker writes."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """The watermark row: up to where the commands are folded, and what goes with it."""

    offset: int
    now: int
    topic_id: str
    partitions: int
    resent: dict[int, int]
    timed_out: bytes


@dataclass(kw_only=True)
class Changelog:
    """A partition's rows: by row key the end of the run that wrote them and their bytes."""

    rows: dict[bytes, tuple[End, bytes | None]] = field(default_factory=dict)
    mark: Mark | None = None
    unreadable: list[tuple[int, str]] = field(default_factory=list)  # offset, why

    @property
    def watermark(self) -> int:
        """The last offset that is folded; -1 if none is."""
        return self.mark.offset if self.mark else -1

    @property
    def settled_until(self) -> End:
        """Where the run ended whose rows are all here."""
        return (self.mark.offset, self.mark.timed_out) if self.mark else NOWHERE

    def take(self, record: Record) -> None:
        """Take the next record of the changelog."""
        if record.key is None:
            return
        run_end = _end_of_the_run(record)
        known, _ = self.rows.get(record.key, (NOWHERE, None))
        if run_end < max(self.settled_until, known):
            return
        if record.key == b"W":
            self._move(record)
        elif record.value is None and run_end <= self.settled_until:
            self.rows.pop(record.key, None)
        else:
            self.rows[record.key] = run_end, record.value

    def _move(self, record: Record) -> None:
        try:
            offset, now, topic_id, partitions, resent, *more = unpacked(record.value, 1)
            mark = Mark(
                offset=offset,
                now=now,
                topic_id=topic_id,
                partitions=partitions,
                resent=resent,
                timed_out=more[0] if more else b"",
            )
        except (Damaged, ValueError, TypeError) as error:
            self.unreadable.append((record.offset, f"a watermark that cannot be read ({error})"))
            return
        if (mark.offset, mark.timed_out) >= self.settled_until:
            self.mark = mark

    def settled(self, key: bytes) -> bytes | None:
        """Return a row's value, if there is one."""
        return self.rows.get(key, (NOWHERE, None))[1]


def _end_of_the_run(record: Record) -> End:
    offset, _, timed_out = (dict(record.headers).get("wfm_run") or b"-1").partition(b":")
    return int(offset), timed_out


def read_changelog(records: Iterable[Record]) -> Changelog:
    """Read the changelog of one partition from its first record on."""
    changelog = Changelog()
    for record in records:
        changelog.take(record)
    return changelog


def group_row_key(group: bytes) -> bytes:
    """Return the key of a group's row."""
    return b"G" + struct.pack(">H", len(group)) + group


def participant_row_key(group: bytes, opened_offset: int, participant: str) -> bytes:
    """Return the key of the row of a participant that is not named in its group's row."""
    return b"P" + struct.pack(">H", len(group)) + group + struct.pack(">Q", opened_offset) + participant.encode()


def arrival_row_key(group: bytes, opened_offset: int, index: int) -> bytes:
    """Return the key of the row that says who came as the `index`-th, from 0."""
    return b"A" + struct.pack(">H", len(group)) + group + struct.pack(">QI", opened_offset, index)


def deadline_entry(due_ms: int, group: bytes) -> bytes:
    """Return what says where a round stands among those that time out."""
    return struct.pack(">Q", due_ms) + group


def round_of(value: bytes) -> list[Any]:
    """Return the fields of a group's row, its kind first; raise Damaged."""
    fields = unpacked(value, 9)
    if not isinstance(fields, list) or len(fields) != {OPEN: 16, CLOSED: 11}.get(fields[0] if fields else 0):
        raise Damaged("it is neither an open nor a closed round")
    if struct.unpack(">Q", value[1:9])[0] != (fields[6] if fields[0] == OPEN else fields[5] + fields[7]):
        raise Damaged("its due time is not the one that its fields make")
    return fields


def unpacked(value: bytes | None, start: int) -> Any:
    """Return what msgpack says from `start` on; raise Damaged if the format is another, or anything is left over."""
    if not value or value[0] != FORMAT:
        raise Damaged(f"its format is {value[0] if value else 'missing'}, not {FORMAT}")
    try:
        found, end = _unpack(value, start)
    except (IndexError, struct.error, UnicodeDecodeError, RecursionError, KeyError) as error:
        raise Damaged(f"it is not msgpack: {error!r}") from None
    if end != len(value):
        raise Damaged("bytes are left over")
    return found


def _unpack(data: bytes, at: int) -> tuple[Any, int]:
    first, at = data[at], at + 1
    if first < 0x80:
        return first, at
    if first >= 0xE0:
        return first - 0x100, at
    if first in _NUMBERS:
        size = struct.calcsize(_NUMBERS[first])
        return struct.unpack(_NUMBERS[first], data[at : at + size])[0], at + size
    if first in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[first], at
    if first >= 0xC0:
        width = struct.calcsize(_SIZES[first])
        return _sized(data, at + width, first, struct.unpack(_SIZES[first], data[at : at + width])[0])
    if first >= 0xA0:
        return _sized(data, at, 0xD9, first & 0x1F)
    return _sized(data, at, 0xDC if first >= 0x90 else 0xDE, first & 0x0F)


def _sized(data: bytes, at: int, kind: int, size: int) -> tuple[Any, int]:
    """Read what has a length: bytes (C4..), text (D9..), a list (DC..), a map (DE..)."""
    if kind in (0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB):
        part = data[at : at + size]
        if len(part) < size:
            raise IndexError("it ends too early")
        return (part if kind < 0xD0 else part.decode()), at + size
    items = []
    for _ in range(size if kind in (0xDC, 0xDD) else 2 * size):
        item, at = _unpack(data, at)
        items.append(item)
    return (items if kind in (0xDC, 0xDD) else dict(zip(items[::2], items[1::2], strict=True))), at
