"""Which of a changelog's records count. Pure.

Later records do not always win. A worker that was paused past its session timeout may append rows older than its successor's, so
every record says where the run ended that wrote it, and one whose run ended before the furthest watermark read so far is ignored. A
watermark stands behind the rows that it vouches for, so what it covers has been read.
"""

from __future__ import annotations

from typing import Final

from wait_for_me_app.storage import keys
from wait_for_me_app.storage.row_codec import decode_watermark
from wait_for_me_app.storage.run_end import NO_RUN, RunEnd, run_end_of
from wait_for_me_app.storage.store import Store

UNCOVERED_ROWS_MAX: Final = 100_000


class NewestRows:
    """Which records of one changelog partition count, as they are read in order. Pure.

    It is kept as long as the rows that it has judged: a row that no watermark covers yet looks like any other once it is stored.
    """

    def __init__(self, store: Store) -> None:
        value = store.get(keys.WATERMARK_KEY)
        self.watermark = run_end_of(decode_watermark(keys.WATERMARK_KEY, value)) if value else NO_RUN
        # Rows that no watermark covers yet: two workers may write their runs interleaved, each before its own watermark.
        self._uncovered: dict[bytes, tuple[RunEnd, int]] = {}

    def counts(self, offset: int, row_key: bytes, value: bytes | None, run_end: RunEnd) -> bool:
        """Return whether the row in the record at this offset replaces what was read before it."""
        if run_end < self.end_of(row_key):
            return False
        if row_key == keys.WATERMARK_KEY and value is not None:
            self.cover(run_end_of(decode_watermark(row_key, value)))
        elif run_end > self.watermark:
            if len(self._uncovered) >= UNCOVERED_ROWS_MAX:
                self._uncovered.clear()  # this many rows without a watermark are a compacted log: there, no key comes twice
            self._uncovered[row_key] = run_end, offset
        return True

    def cover(self, watermark: RunEnd) -> None:
        """Take note of a watermark; what its run and earlier ones have written is settled."""
        self.watermark = max(self.watermark, watermark)
        if self._uncovered:
            self._uncovered = {key: one for key, one in self._uncovered.items() if one[0] > self.watermark}

    def end_of(self, row_key: bytes) -> RunEnd:
        """Return the end of the run that a row must not be behind to replace this one."""
        uncovered = self._uncovered.get(row_key)
        return self.watermark if uncovered is None else uncovered[0]

    def reachable(self, offset: int) -> int:
        """Return how far towards this offset a store may say that it has come: not past a row that must be judged once more."""
        return min([offset, *(at - 1 for _, at in self._uncovered.values())])
