"""What the schedule asks the shell to do, as values. Pure.

They are structs of msgspec because an executor makes a dozen of them for each fire, and a frozen dataclass takes many
times as long to make. An `Append` with a ticket is answered by `Schedule.acked` when Kafka has it; until then nothing that rests on it
happens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from msgspec import Struct, field

from wait_for_me_app.callbacks import Call, Kind

if TYPE_CHECKING:
    from wait_for_me_app.executor.tenure import Entry, Tenure

Headers = tuple[tuple[str, bytes | None], ...]
Ticket: TypeAlias = "Entry | UnreadableFire | UnreadableOutcome"
"""Whose record it is: given back when Kafka has it."""
Step = Literal["accepted", "parked", "started", "failed", "taken_back", "dead_letter", "final", "deleted"]


class Now(NamedTuple):
    """One moment on two clocks: `wall_ms` is written down and compared across machines, `steady_ms` measures durations here."""

    wall_ms: int
    steady_ms: int


class FireRecord(Struct, frozen=True, kw_only=True, eq=False):
    """A record of the fires topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    appended_at_ms: int | None = None
    """Kafka's own time of it."""


class UnreadableFire(Struct, frozen=True, kw_only=True, eq=False):
    """Ticket of a record that was no fire: once its dead letter is safe, its offset is."""

    tenure: Tenure
    offset: int


class UnreadableOutcome(Struct, frozen=True, kw_only=True, eq=False):
    """Ticket of a record that was no outcome: once its dead letter is safe, it is deleted."""

    partition: int
    key: bytes


class Append(Struct, frozen=True, kw_only=True, eq=False):
    """Write a record."""

    step: Step
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    ticket: Ticket | None = None


class Start(Struct, frozen=True, kw_only=True, eq=False):
    """Run a callback; answered by `Schedule.ended` with the token."""

    token: int
    call: Call
    kind: Kind

    @property
    def is_async(self) -> bool:
        """Whether it runs on the loop."""
        return self.kind == "task"


class Cancel(Struct, frozen=True, kw_only=True, eq=False):
    """End an attempt if it can be ended."""

    token: int


class ReadAgain(Struct, frozen=True, kw_only=True, eq=False):
    """Read the outcomes of a partition on from an offset; answered by `Schedule.read_again`."""

    tenure: Tenure
    from_offset: int
    asked_steady_ms: int


class Report(Struct, frozen=True, kw_only=True, eq=False):
    """Something to log."""

    level: int
    event: str
    fields: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None


Effect = Append | Start | Cancel | ReadAgain | Report
