"""The fires that this executor has in memory: which ones, how many, and when each is due. Pure.

Memory is bounded: when the fires that are not final fill it, no more are read, and those behind wait in Kafka.
"""

from __future__ import annotations

from typing import Final

from wait_for_me_app.executor.options import ExecutorOptions
from wait_for_me_app.executor.tenure import Entry, Hold, Phase, Tenure
from wait_for_me_app.executor.timers import Timers
from wait_for_me_app.outcomes import Progress

_ENTRY_BYTES: Final = 2048  # what a fire takes in memory beside its own bytes
_RESUME_AT: Final = 0.8  # of the bound: pausing and resuming at every fire would fetch the same again and again


class Fires:
    """Fires that are not final, of all partitions."""

    def __init__(self, options: ExecutorOptions) -> None:
        self._options = options
        self._due = Timers[Entry](_is_waiting)
        self._count = 0
        self._bytes = 0
        self._is_full = False

    def enter(self, tenure: Tenure, uuid: bytes, progress: Progress, phase: Phase) -> Entry:
        """Take a fire in."""
        size = memoryview(progress.fire).nbytes + _ENTRY_BYTES
        entry = tenure.entries[uuid] = Entry(tenure=tenure, uuid=uuid, progress=progress, phase=phase, size=size)
        self._count += 1
        self._bytes += size
        return entry

    def drop(self, entry: Entry) -> None:
        """Forget a fire; what is known of it is in Kafka."""
        if entry.tenure.entries.pop(entry.uuid, None) is not None:
            entry.tenure.elsewhere.pop(entry.uuid, None)
            self._count -= 1
            self._bytes -= entry.size

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

    def check_full(self) -> bool:
        """Return whether so much is in memory that no more fires should be read for now."""
        scale, options = _RESUME_AT if self._is_full else 1.0, self._options
        self._is_full = self._count >= options.pending_fires * scale or self._bytes >= options.pending_bytes * scale
        return self._is_full

    def __len__(self) -> int:
        return self._count


def is_here(entry: Entry) -> bool:
    """Return whether a fire is still in memory; timers and queues may name one that is not."""
    return entry.tenure.entries.get(entry.uuid) is entry


def _is_waiting(due_ms: int, entry: Entry) -> bool:
    return entry.phase is Phase.WAITING and entry.due_ms == due_ms and is_here(entry)
