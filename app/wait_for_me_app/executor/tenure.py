"""One partition from the moment it is assigned to this executor until it is taken away, and the fires in it. Pure data."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from wait_for_me_app.callbacks import Call, Callback
from wait_for_me_app.executor.ledger import FinalFires
from wait_for_me_app.executor.offsets import Offsets
from wait_for_me_app.outcomes import Progress


class Phase(enum.Enum):
    """Where a fire that is not final stands, in this process, and what it waits for.

    ACCEPTING      accepted is safe       -> WAITING
    WAITING        its time               -> READY, BEHIND, or PARKING when nobody here knows its callback
    PARKING        parked is safe         -> WAITING
    BEHIND         the end of an earlier fire of its group -> WAITING
    READY          a slot                 -> STARTING, or SETTING_ASIDE when its parameters do not fit
    STARTING       started is safe        -> RUNNING, or TAKING_BACK when the partition has left meanwhile
    TAKING_BACK    that is safe           -> WAITING
    RUNNING        the callback           -> FINISHING, or FAILING when it raised or its time is over
    FAILING        failed is safe         -> WAITING, or SETTING_ASIDE after the last attempt
    SETTING_ASIDE  the dead letter is     -> FINISHING
    FINISHING      done or dead is safe   -> forgotten, but for its id
    ELSEWHERE      another executor's end -> as that says, or FAILING when the time of that attempt is over
    """

    ACCEPTING = enum.auto()
    WAITING = enum.auto()
    PARKING = enum.auto()
    BEHIND = enum.auto()
    READY = enum.auto()
    STARTING = enum.auto()
    TAKING_BACK = enum.auto()
    RUNNING = enum.auto()
    FAILING = enum.auto()
    SETTING_ASIDE = enum.auto()
    FINISHING = enum.auto()
    ELSEWHERE = enum.auto()


class Hold(enum.Enum):
    """How firmly this executor holds a partition.

    RESTORING: its outcomes are being read. HELD: fires are taken and attempts started. LEAVING: handed over in order,
    so what runs is finished and written down, and nothing new starts. LOST: another executor may hold it; nothing is
    written any more.
    """

    RESTORING = enum.auto()
    HELD = enum.auto()
    LEAVING = enum.auto()
    LOST = enum.auto()


@dataclass(slots=True, kw_only=True, eq=False)
class Tenure:
    """One partition, as long as this executor has it."""

    partition: int
    hold: Hold = Hold.RESTORING
    stamp: int = 0
    """Larger than that of every earlier tenure of this partition; written with each step."""
    final: FinalFires = field(default_factory=FinalFires)
    entries: dict[bytes, Entry] = field(default_factory=dict)
    elsewhere: dict[bytes, Entry] = field(default_factory=dict)
    lanes: dict[tuple[str, str], list[Entry]] = field(default_factory=dict)
    """By callback and group, the fires that run one after the other, in the order in which they fired."""
    offsets: Offsets = field(default_factory=lambda: Offsets(0))
    outcomes_end: int = 0
    """Offset up to which the outcomes have been read."""
    look_again_steady_ms: int | None = 0
    """When to read outcomes again; None while that is under way."""


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """One fire that is not final."""

    tenure: Tenure
    uuid: bytes
    key: bytes
    """Under which its progress is written."""
    progress: Progress
    phase: Phase
    size: int
    """Bytes of memory that it is counted with."""
    lane: list[Entry] | None = None
    appended_at_ms: int | None = None
    """When the fire was written, if it was read here."""
    copies: list[int] = field(default_factory=list)
    """Offsets that are safe once it is accepted: its own, and those of copies that came meanwhile."""
    due_ms: int = 0
    callback: Callback | None = None
    call: Call | None = None
    before_start: Progress | None = None
    """What to go back to if the attempt cannot start after all."""
    stamped_steady_ms: int = 0
    until_steady_ms: int = 0
    """ELSEWHERE: when its attempt must have ended."""
    took_ms: int | None = None
    code: str | None = None
    """Why it is set aside."""
    reason: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Attempt:
    """One callback that runs. It holds its slot until it ends, even when it has been judged before (too late)."""

    token: int
    entry: Entry
    callback: Callback
    number: int
    began_steady_ms: int
    is_judged: bool = False
