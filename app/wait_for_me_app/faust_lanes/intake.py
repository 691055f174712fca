"""What has been fetched for a lane and not yet been folded. Pure: it holds records and says when to stop fetching.

A lane takes everything that waits as one run, so load makes runs longer, not queues.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import msgspec

RUN_MAX_RECORDS: Final = 4096
RUN_MAX_BYTES: Final = 1 << 20
FULL_RUNS: Final = 4
"""How many runs may wait before fetching for the lane pauses."""
ENOUGH_RUNS: Final = 2
"""How many may still wait when it goes on: a pause throws away what librdkafka has prefetched, so there must be few."""


class FetchedRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of a commands partition as the fold reads it."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def sizes_of(records: Sequence[FetchedRecord]) -> list[int]:
    """Return the bytes by which each record weighs against the limits of a run: those of its key and its value."""
    return [len(one.value or b"") + len(one.key or b"") for one in records]


class OutOfOrder(Exception):
    """The log went backwards under a lane."""


class Intake:
    """The waiting records of one lane; one run at a time is out."""

    __slots__ = ("_next_offset", "_sizes", "_waiting", "is_full", "run_is_out", "waiting_bytes")

    def __init__(self, next_offset: int) -> None:
        self._next_offset = next_offset
        self._waiting: list[FetchedRecord] = []
        self._sizes: list[int] = []
        self.waiting_bytes = 0
        self.run_is_out = False
        self.is_full = False
        """Whether fetching for this lane should pause: from the moment it is full until it has had enough of what waits."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_hungry(self) -> bool:
        """Whether less than a run waits."""
        return not self._holds(1)

    def offer(self, records: Sequence[FetchedRecord], sizes: Sequence[int]) -> None:
        """Add fetched records, with the bytes of each; raises OutOfOrder if they begin before what was offered last."""
        if records[0].offset < self._next_offset:
            raise OutOfOrder(f"offset {records[0].offset} came after {self._next_offset - 1}")
        self._next_offset = records[-1].offset + 1
        self._waiting.extend(records)
        self._sizes.extend(sizes)
        self.waiting_bytes += sum(sizes)
        self.is_full = self.is_full or self._holds(FULL_RUNS)

    def take_run(self) -> list[FetchedRecord]:
        """Return what waits, as far as it fits into a run; nothing while another run is out."""
        if self.run_is_out or not self._waiting:
            return []
        if self.waiting_bytes <= RUN_MAX_BYTES and len(self._waiting) <= RUN_MAX_RECORDS:
            run, self._waiting, self._sizes, self.waiting_bytes = self._waiting, [], [], 0
        else:
            run = self._cut_run()
        self.is_full = self.is_full and self._holds(ENOUGH_RUNS)
        self.run_is_out = True
        return run

    def _holds(self, runs: int) -> bool:
        return self.waiting_bytes >= runs * RUN_MAX_BYTES or len(self._waiting) >= runs * RUN_MAX_RECORDS

    def _cut_run(self) -> list[FetchedRecord]:
        ends = list(accumulate(self._sizes[:RUN_MAX_RECORDS]))
        count = max(1, bisect_right(ends, RUN_MAX_BYTES))
        run, self._waiting, self._sizes = self._waiting[:count], self._waiting[count:], self._sizes[count:]
        self.waiting_bytes -= ends[count - 1]
        return run

    def run_is_done(self) -> None:
        """Note that the run has been folded and is safe."""
        self.run_is_out = False
