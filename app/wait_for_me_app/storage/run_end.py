"""Where a run ended: what every changelog record says of the run that wrote it, and by which a zombie's record is known."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Final, NamedTuple

from wait_for_me_app.core.rows import Watermark

RUN_HEADER: Final = "wfm_run"


class RunEnd(NamedTuple):
    """A place in the commands of a partition; of two, the greater is further.

    A run usually ends behind a record. When the next record makes very many rounds time out, runs end amid those, too: the rows
    after one slice of them are not the rows after the next, although both lie behind the same record.
    """

    offset: int
    """The last record that is folded; -1 for none."""
    closed_until: bytes = b""
    """The entry in the deadlines (due time, then key) up to which the next record's timeouts are settled; empty if it is not begun."""

    def header(self) -> tuple[str, bytes]:
        """Return the record header that says it: the offset, and behind a colon the entry, if there is one."""
        if self.closed_until:
            return RUN_HEADER, b"%d:%b" % self
        return RUN_HEADER, b"%d" % self.offset


NO_RUN: Final = RunEnd(-1)
"""Before every run: of records that nobody of this project wrote, too."""


def run_end_in(headers: Iterable[tuple[str, bytes]] | None) -> RunEnd:
    """Return the end of the run that wrote a record with these headers."""
    for name, value in headers or ():
        if name == RUN_HEADER:
            return _read(value)
    return NO_RUN


@functools.lru_cache(maxsize=256)  # the records of a run stand together
def _read(value: bytes) -> RunEnd:
    offset, _, closed_until = value.partition(b":")
    return RunEnd(int(offset), closed_until)


def run_end_of(watermark: Watermark) -> RunEnd:
    """Return the end of the run that a watermark vouches for."""
    return RunEnd(watermark.offset, watermark.closed_until)
