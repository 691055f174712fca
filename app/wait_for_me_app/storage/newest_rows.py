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
    """Which records of one changelog partition count, as they are read in order. Pure."""

    def __init__(self, store: Store) -> None:
        value = store.get(keys.WATERMARK_KEY)
        self.watermark = run_end_of(decode_watermark(keys.WATERMARK_KEY, value)) if value else NO_RUN
        # Rows that no watermark covers yet: two workers may write their runs interleaved, each before its own watermark.
        self._uncovered: dict[bytes, RunEnd] = {}

    def counts(self, row_key: bytes, value: bytes | None, run_end: RunEnd) -> bool:
        """Return whether a record's row replaces what was read before it."""
        if run_end < self.watermark or run_end < self._uncovered.get(row_key, run_end):
            return False
        if row_key == keys.WATERMARK_KEY and value is not None:
            self._cover(run_end_of(decode_watermark(row_key, value)))
        elif run_end > self.watermark:
            if len(self._uncovered) >= UNCOVERED_ROWS_MAX:
                self._uncovered.clear()  # this many rows without a watermark are a compacted log: there, no key comes twice
            self._uncovered[row_key] = run_end
        return True

    def _cover(self, watermark: RunEnd) -> None:
        self.watermark = max(self.watermark, watermark)
        self._uncovered = {key: run_end for key, run_end in self._uncovered.items() if run_end > self.watermark}
