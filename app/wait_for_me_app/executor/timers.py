"""Things that are due at a time. Pure.

An entry is not taken out when it no longer matters; it is skipped when its time comes, or swept out when such entries
are more than half. So memory follows what is live, even when times lie a day ahead.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")
_SMALL: Final = 1024


class Timers(Generic[_T]):
    """A heap of items by time; `is_live(at_ms, item)` says whether an item set for that time still matters."""

    def __init__(self, is_live: Callable[[int, _T], bool]) -> None:
        self._is_live = is_live
        self._heap: list[tuple[int, int, _T]] = []
        self._order = count()  # so that items are never compared, and equal times keep their order
        self._sweep_at = _SMALL

    def set(self, at_ms: int, item: _T) -> None:
        """Let an item be due at a time."""
        heapq.heappush(self._heap, (at_ms, next(self._order), item))
        if len(self._heap) >= self._sweep_at:
            self._heap = [entry for entry in self._heap if self._is_live(entry[0], entry[2])]
            heapq.heapify(self._heap)
            self._sweep_at = max(_SMALL, 2 * len(self._heap))

    def pop_due(self, now_ms: int) -> _T | None:
        """Return the item that has been due for longest, once, or None."""
        while self._heap and self._heap[0][0] <= now_ms:
            at_ms, _, item = heapq.heappop(self._heap)
            if self._is_live(at_ms, item):
                return item
        return None

    @property
    def earliest_ms(self) -> int | None:
        """A time at or before that of the first live item, or None when there is none at all."""
        return self._heap[0][0] if self._heap else None

    def __len__(self) -> int:
        return len(self._heap)
