"""The fires that this executor has in memory: which ones, how many, and when each is due. Pure.

Memory is bounded: when the fires that are not final fill it, no more are read, and those behind wait in Kafka. So that a
callback which fails for hours does not fill it alone, it is told when it holds half of it (`has_its_share`).
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable
from typing import Final

from wait_for_me_app.callbacks import Callback
from wait_for_me_app.executor.options import ExecutorOptions
from wait_for_me_app.executor.tenure import Entry, Hold, Phase, Tenure
from wait_for_me_app.executor.timers import Timers
from wait_for_me_app.outcomes import Progress, key_of

_ENTRY_BYTES: Final = 2048  # what a fire takes in memory beside its own bytes
_RESUME_AT: Final = 0.8  # of the bound: pausing and resuming at every fire would fetch the same again and again


class Fires:
    """Fires that are not final, of all partitions."""

    def __init__(self, options: ExecutorOptions, find: Callable[[str], Callback | None]) -> None:
        self._options = options
        self._find = find
        self._held: Counter[str] = Counter()
        self._due = Timers[Entry](_is_waiting)
        self._count = 0
        self._bytes = 0
        self._is_full = False

    def enter(self, tenure: Tenure, uuid: bytes, progress: Progress, phase: Phase) -> Entry:
        """Take a fire in."""
        size = memoryview(progress.fire).nbytes + _ENTRY_BYTES
        entry = tenure.entries[uuid] = Entry(
            tenure=tenure, uuid=uuid, key=key_of(progress), progress=progress, phase=phase, size=size
        )
        self._count += 1
        self._bytes += size
        self._held[progress.callback] += 1
        self._line_up(entry)
        return entry

    def drop(self, entry: Entry) -> None:
        """Forget a fire; what is known of it is in Kafka."""
        if entry.tenure.entries.pop(entry.uuid, None) is not None:
            entry.tenure.elsewhere.pop(entry.uuid, None)
            self._count -= 1
            self._bytes -= entry.size
            self._held[entry.progress.callback] -= 1
            if not self._held[entry.progress.callback]:
                del self._held[entry.progress.callback]  # names of callbacks are free, so they must not add up
            if entry.lane is not None:
                self._leave_line(entry, entry.lane)

    def wait(self, entry: Entry, due_ms: int) -> None:
        """Let a fire wait for its time, or forget it when its partition is no longer held."""
        if entry.tenure.hold is Hold.HELD:
            entry.phase = Phase.WAITING
            entry.due_ms = due_ms
            self._due.set(due_ms, entry)
        else:
            self.drop(entry)

    def pop_due(self, wall_ms: int) -> Entry | None:
        """Return the next fire whose time has come, or None."""
        return self._due.pop_due(wall_ms)

    @property
    def earliest_due_ms(self) -> int | None:
        """When the next fire is due, at the earliest."""
        return self._due.earliest_ms

    def has_its_share(self, name: str) -> bool:
        """Return whether the fires of one callback are half of what may be in memory."""
        return 2 * self._held[name] >= self._options.pending_fires

    def check_full(self) -> bool:
        """Return whether so much is in memory that no more fires should be read for now."""
        scale, options = _RESUME_AT if self._is_full else 1.0, self._options
        self._is_full = self._count >= options.pending_fires * scale or self._bytes >= options.pending_bytes * scale
        return self._is_full

    def __len__(self) -> int:
        return self._count

    # -- one after the other

    def is_behind(self, entry: Entry) -> bool:
        """Return whether an earlier fire of its group has to end first."""
        return entry.lane is not None and entry.lane[0] is not entry

    def _line_up(self, entry: Entry) -> None:
        callback = self._find(entry.progress.callback)
        if callback is not None and callback.in_order:
            lane = entry.tenure.lanes.setdefault(_lane_of(entry), [])
            insort(lane, entry, key=_fired_at)
            entry.lane = lane

    def _leave_line(self, entry: Entry, lane: list[Entry]) -> None:
        lane.remove(entry)
        if not lane:
            del entry.tenure.lanes[_lane_of(entry)]
        elif lane[0].phase is Phase.BEHIND and entry.tenure.hold is Hold.HELD:
            self.wait(lane[0], 0)


def is_here(entry: Entry) -> bool:
    """Return whether a fire is still in memory; timers and queues may name one that is not."""
    return entry.tenure.entries.get(entry.uuid) is entry


def _lane_of(entry: Entry) -> tuple[str, str]:
    return entry.progress.callback, entry.progress.group_key


def _fired_at(entry: Entry) -> int:
    return entry.progress.offset


def _is_waiting(due_ms: int, entry: Entry) -> bool:
    return entry.phase is Phase.WAITING and entry.due_ms == due_ms and is_here(entry)
