"""Who is due next: a heap of (due time, group key) with lazy entries.

An entry is eight big-endian bytes of milliseconds and the key, so the order of bytes is the order of (time, key) and an entry costs
one small object. A deadline that slides later is not moved: its entry comes up early, is compared with the row, and is pushed
again. So the heap holds, for every row, an entry at or before the moment the row is due; that is the one invariant.

The index is derived from the rows and never stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Final

NEVER_MS: Final = 1 << 62


def entry(due_ms: int, group_key: bytes) -> bytes:
    """Return the heap entry of a row: due time, then key."""
    return due_ms.to_bytes(8, "big") + group_key


class Deadlines:
    """The due times of one partition's rows, earliest first."""

    __slots__ = ("_extra", "_heap", "earliest_ms")

    def __init__(self, entries: Iterable[bytes] = ()) -> None:
        self._heap = list(entries)
        heapify(self._heap)
        # Times of the further entries of keys that have had more than one: sliding back and forth must not pile up equal ones.
        self._extra: dict[bytes, set[int]] = {}
        self.earliest_ms = NEVER_MS
        self._note_earliest()

    def __len__(self) -> int:
        return len(self._heap)

    def watch(self, group_key: bytes, due_ms: int) -> None:
        """Add the only entry of a key that has none."""
        heappush(self._heap, entry(due_ms, group_key))
        self.earliest_ms = min(self.earliest_ms, due_ms)

    def watch_earlier(self, group_key: bytes, due_ms: int) -> None:
        """Add an entry for a key that already has one, perhaps too late a one."""
        extra = self._extra.setdefault(group_key, set())
        if due_ms not in extra:
            extra.add(due_ms)
            self.watch(group_key, due_ms)

    def watch_again(self, group_key: bytes, due_ms: int) -> None:
        """Put back a key whose entry has just come up before its row was due."""
        if group_key in self._extra:
            self.watch_earlier(group_key, due_ms)
        else:
            self.watch(group_key, due_ms)

    def pop_due(self, stream_time_ms: int) -> tuple[bytes, int] | None:
        """Return the key and the time of the earliest entry at or before `stream_time_ms`, or None."""
        due_ms = self.earliest_ms
        if due_ms > stream_time_ms:
            return None
        group_key = heappop(self._heap)[8:]
        self._note_earliest()
        extra = self._extra.get(group_key)
        if extra is not None:
            extra.discard(due_ms)
        return group_key, due_ms

    def forget(self, group_key: bytes) -> None:
        """Drop what is kept beside the heap for a key whose row is gone; entries that are left come up and find no row."""
        self._extra.pop(group_key, None)

    def first_entries(self, at_most: int) -> list[bytes]:
        """Return the earliest entries in order, without changing anything; the cost depends on `at_most`, not on the size."""
        heap, found = self._heap, list[bytes]()
        frontier = [(heap[0], 0)] if heap else []
        while frontier and len(found) < at_most:
            first, index = heappop(frontier)
            found.append(first)
            for child in range(2 * index + 1, min(2 * index + 3, len(heap))):
                heappush(frontier, (heap[child], child))
        return found

    def _note_earliest(self) -> None:
        self.earliest_ms = int.from_bytes(self._heap[0][:8], "big") if self._heap else NEVER_MS
