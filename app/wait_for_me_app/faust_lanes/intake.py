"""What has been fetched for a lane and not yet been folded. Pure: it holds records and says when to stop fetching.

A lane takes everything that waits as one run, so load makes runs longer, not queues.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

RUN_MAX_RECORDS: Final = 4096
RUN_MAX_BYTES: Final = 1 << 20
FULL_BYTES: Final = 4 << 20
FULL_RECORDS: Final = 4 * RUN_MAX_RECORDS


class FetchedRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of a commands partition as the fold reads it."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]

    @property
    def size_bytes(self) -> int:
        """What the record weighs against the limits of a run."""
        return len(self.value or b"") + len(self.key or b"")


class OutOfOrder(Exception):
    """The log went backwards under a lane."""


class Intake:
    """The waiting records of one lane; one run at a time is out."""

    __slots__ = ("_next_offset", "_waiting", "run_is_out", "waiting_bytes")

    def __init__(self, next_offset: int) -> None:
        self._next_offset = next_offset
        self._waiting: list[FetchedRecord] = []
        self.waiting_bytes = 0
        self.run_is_out = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether fetching for this lane should pause."""
        return self.waiting_bytes >= FULL_BYTES or len(self._waiting) >= FULL_RECORDS

    def offer(self, records: Sequence[FetchedRecord], size_bytes: int) -> None:
        """Add fetched records; raises OutOfOrder if they begin before what was offered last."""
        if records[0].offset < self._next_offset:
            raise OutOfOrder(f"offset {records[0].offset} came after {self._next_offset - 1}")
        self._next_offset = records[-1].offset + 1
        self._waiting.extend(records)
        self.waiting_bytes += size_bytes

    def take_run(self) -> list[FetchedRecord]:
        """Return what waits, as far as it fits into a run; nothing while another run is out."""
        if self.run_is_out or not self._waiting:
            return []
        if self.waiting_bytes <= RUN_MAX_BYTES and len(self._waiting) <= RUN_MAX_RECORDS:
            run, self._waiting, self.waiting_bytes = self._waiting, [], 0
        else:
            run = self._cut_run()
        self.run_is_out = True
        return run

    def _cut_run(self) -> list[FetchedRecord]:
        size, count = 0, 0
        for record in self._waiting[:RUN_MAX_RECORDS]:
            size += record.size_bytes
            if size > RUN_MAX_BYTES and count:
                size -= record.size_bytes
                break
            count += 1
        run, self._waiting = self._waiting[:count], self._waiting[count:]
        self.waiting_bytes -= size
        return run

    def run_is_done(self) -> None:
        """Note that the run has been folded and is safe."""
        self.run_is_out = False
