"""Markers: which dead letters of a partition were handled. Pure.

    wfm_handled: retried                    wfm_handled_offsets: 12-40,55
    wfm_handled_at: 2026-11-24T02:10:00Z    wfm_handled_by: ann

A marker has neither key nor value and lies in the partition of the letters, behind them. So it is kept at least as long
as they are.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final, Literal

Deed = Literal["retried", "discarded"]
Headers = tuple[tuple[str, bytes | None], ...]

OFFSETS: Final = "wfm_handled_offsets"
_DEED: Final = "wfm_handled"
_RANGES_AT_ONCE: Final = 4_000
_RANGE = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")


def is_marker(headers: Headers) -> bool:
    """Return whether a record says what was handled, instead of being a letter."""
    return any(name == OFFSETS for name, _ in headers)


def markers(offsets: Iterable[int], deed: Deed, by: str, at: str) -> Iterator[Headers]:
    """Return the headers of the markers for letters of one partition: nearly always one, however many letters."""
    ranges = list(_ranges(offsets))
    for start in range(0, len(ranges), _RANGES_AT_ONCE):
        text = ",".join(
            str(first) if first == last else f"{first}-{last}"
            for first, last in ranges[start : start + _RANGES_AT_ONCE]
        )
        fields = {_DEED: deed, OFFSETS: text, "wfm_handled_by": by, "wfm_handled_at": at}
        yield tuple((name, value.encode()) for name, value in fields.items())


class Handled:
    """What the markers of one partition say."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []
        self._ends: list[int] | None = None
        """The largest end among the ranges up to each one, once they are in order."""

    def take(self, headers: Headers) -> None:
        """Take a marker in; what cannot be read of it counts as not said."""
        text = next((value or b"" for name, value in headers if name == OFFSETS), b"").decode(errors="replace")
        matches = [match for part in text.split(",") if (match := _RANGE.fullmatch(part)) is not None]
        self._ranges += [(int(match[1]), int(match[2] or match[1])) for match in matches]
        self._ends = None

    def __contains__(self, offset: int) -> bool:
        if self._ends is None:
            self._ranges.sort()
            self._ends = list(accumulate((last for _, last in self._ranges), max))
        before = bisect_right(self._ranges, offset, key=lambda one: one[0])
        return before > 0 and self._ends[before - 1] >= offset


def _ranges(offsets: Iterable[int]) -> Iterator[tuple[int, int]]:
    first = last = None
    for offset in sorted(set(offsets)):
        if first is not None and last is not None and offset != last + 1:
            yield first, last
            first = None
        first, last = (offset if first is None else first), offset
    if first is not None and last is not None:
        yield first, last
