"""What is remembered of a group: one row a group, and one more per participant once a group is large.

A group's row is an `OpenRound` or a `ClosedRound`; there is no third state and no flag. A missing row means that nothing is known
of the key. The rows are plain values that the fold changes in place: a run that raises is never written, so a half-changed row
dies with the process that holds it. None of them can be part of a cycle, so the garbage collector need not look at them.

A round names its first `INLINE_ARRIVALS` participants in its own row. Later ones get rows of their own, which belong to the round
(`opened_offset`) and not to the key, so a new round starts empty and the bytes written per add do not grow with the group.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

RULES_VERSION: Final = 1
"""The version of the fold's rules, stamped on a round when it opens: a deploy never re-judges an open round."""

INLINE_ARRIVALS: Final = 8
ARRIVALS_NAMED_IN_A_FIRE: Final = 1000

COMPLETE: Final = "complete"
TIMEOUT: Final = "timeout"
REMOVED: Final = "removed"


class Arrival(msgspec.Struct, array_like=True, gc=False):
    """One participant that has arrived: its name, the stream time of its first add, and the `event_id` of its latest."""

    participant_key: str
    at_ms: int
    event_id: str | None


class OpenRound(msgspec.Struct, array_like=True, tag=1, kw_only=True, gc=False):
    """A round that waits: who has arrived, for how many it waits, until when, and what to do then."""

    rules_version: int
    changed_offset: int
    opened_offset: int
    opened_at_ms: int
    last_add_at_ms: int
    deadline_ms: int
    number_of_participants: int
    callback: str
    params: bytes
    wait_ms: int
    max_wait_ms: int | None
    linger_ms: int
    conflict_count: int
    arrived_count: int
    first_arrivals: list[Arrival]

    @property
    def due_ms(self) -> int:
        """When the sweep must look at this row again."""
        return self.deadline_ms


class ClosedRound(msgspec.Struct, array_like=True, tag=2, kw_only=True, gc=False):
    """A round that has ended and lingers, so that a straggler or a retry cannot open a round of its own."""

    rules_version: int
    changed_offset: int
    opened_offset: int
    reason: str
    closed_at_ms: int
    closed_offset: int
    linger_ms: int
    number_of_participants: int
    arrived_count: int
    late_count: int

    @property
    def due_ms(self) -> int:
        """When the row is freed: from then on the key is as if it had never been used."""
        return self.closed_at_ms + self.linger_ms


Round = OpenRound | ClosedRound


class Watermark(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """The last command offset whose effects are all safe in Kafka, with what a successor needs to go on behind it.

    `closed_until` is not empty while the next record's timeouts are being settled in slices: it is the last one's entry in the
    deadlines. `rerouted` holds the largest source offset taken over from each partition that has re-sent misplaced commands to this one.
    """

    offset: int
    stream_time_ms: int
    topic_id: str
    partitions: int
    rerouted: dict[int, int]
    closed_until: bytes = b""


class Strike(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """A record that made the fold raise once; the next time it is set aside instead of stopping the lane again."""

    offset: int
    error: str


class Rows(Protocol):
    """Where the fold finds a partition's rows, and where it leaves those it changed.

    Implemented by `storage.working_set.WorkingSet`; a reader sees its own writes.
    """

    def get(self, group_key: bytes) -> Round | None:
        """Return the group's row, or None where there is none."""
        ...

    def put(self, group_key: bytes, row: Round) -> None:
        """Note that the group's row is new or has changed."""
        ...

    def participant(self, group_key: bytes, opened_offset: int, participant_key: str) -> Arrival | None:
        """Return a participant that has a row of its own in this round, or None."""
        ...

    def put_participant(self, group_key: bytes, opened_offset: int, arrival: Arrival, index: int | None) -> None:
        """Remember a participant in a row of its own; `index` is its place in the order of arrival, None when it is not new."""
        ...

    def later_arrivals(self, group_key: bytes, opened_offset: int, stop_index: int) -> Iterator[Arrival]:
        """Yield, by order of arrival, the participants with rows of their own whose index is below `stop_index`."""
        ...

    def discard(self, group_key: bytes, row: ClosedRound) -> None:
        """Note that a freed row, and its participants', may be deleted by a later run."""
        ...
