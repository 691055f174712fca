"""What the schedule asks the shell to do, as values. Pure.

An `Append` with a ticket is answered by `Schedule.acked` when Kafka has it; until then nothing that rests on it
happens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from wait_for_me_app.callbacks import Call

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


@dataclass(frozen=True, slots=True, kw_only=True)
class FireRecord:
    """A record of the fires topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableFire:
    """Ticket of a record that was no fire: once its dead letter is safe, its offset is."""

    tenure: Tenure
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableOutcome:
    """Ticket of a record that was no outcome: once its dead letter is safe, it is deleted."""

    partition: int
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """Write a record."""

    step: Step
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    ticket: Ticket | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Run a callback; answered by `Schedule.ended` with the token."""

    token: int
    call: Call
    is_async: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """End an attempt if it can be ended."""

    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAgain:
    """Read the outcomes of a partition on from an offset; answered by `Schedule.read_again`."""

    tenure: Tenure
    from_offset: int
    asked_steady_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Something to log."""

    level: int
    event: str
    fields: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None


Effect = Append | Start | Cancel | ReadAgain | Report
