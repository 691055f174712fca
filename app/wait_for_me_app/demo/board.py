"""What the demo knows: a fold over the records that it has read from the topics. Pure: no clock, no Kafka, no terminal.

Nothing here decides what the product decides. A deployment with six arrivals of six is still *waiting* until its fire has been
read; a removed one becomes FIRED if a fire for it turns up after all. So the board can show a mistake, and `tally` counts it.
"""

from __future__ import annotations

import enum
import json
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec


class Place(msgspec.Struct, frozen=True):
    """Where a record lies and when it was written: `topic` is the short name that the view shows."""

    topic: str
    partition: int
    offset: int
    at_ms: int


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """An add was read."""

    place: Place
    group_key: str
    participant_key: str
    number_of_participants: int
    wait_ms: int


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """A remove was read."""

    place: Place
    group_key: str
    reason: str


class Ticked(msgspec.Struct, frozen=True, kw_only=True):
    """A tick was read: the worker saw that something may be due, and had the broker put the time into the log."""

    place: Place


class Fired(msgspec.Struct, frozen=True, kw_only=True):
    """A fire was read."""

    place: Place
    group_key: str
    fire_id: str
    reason: str
    arrived_count: int
    missing_count: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome was read: how far the executor is with one fire."""

    place: Place
    group_key: str
    fire_id: str
    callback: str
    state: str
    attempt: int
    took_ms: int | None = None
    is_final: bool = False


class SetAside(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter was read; the story has none, so one of them means that something went wrong."""

    place: Place
    group_key: str
    error: str


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the demo itself did, and so is in no topic."""

    place: Place
    subject: str
    text: str


Seen = Arrived | Removed | Ticked | Fired | Outcome | SetAside | Note


class State(enum.StrEnum):
    """What the topics say about a deployment, in the words of the view."""

    NOT_STARTED = "not started"
    WAITING = "waiting"
    COMPLETE = "FIRED complete"
    TIMEOUT = "FIRED timeout"
    REMOVED = "REMOVED"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment."""

    group_key: str
    expected: tuple[str, ...]
    """Names that the story expects; the product knows only their number."""
    arrived: tuple[str, ...] = ()
    deadline_ms: int | None = None
    """When the wait runs out, by the last add: the view's countdown. The product's own verdict is the fire."""
    removed: Removed | None = None
    fires: tuple[Fired, ...] = ()
    outcome: Outcome | None = None

    @property
    def state(self) -> State:
        if self.fires:
            return State.COMPLETE if self.fires[0].reason == "complete" else State.TIMEOUT
        if self.removed is not None:
            return State.REMOVED
        return State.WAITING if self.arrived else State.NOT_STARTED

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in self.expected if name not in self.arrived)


class Line(msgspec.Struct, frozen=True):
    """One event of the log underneath."""

    place: Place
    subject: str
    text: str


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """All deployments and the latest events; `read` returns the next board."""

    rows: tuple[Row, ...]
    outcomes: dict[str, Outcome] = {}
    checks: frozenset[str] = frozenset()
    """Groups outside the story whose fire was carried out: the demo's own probes."""
    set_aside: tuple[SetAside, ...] = ()
    lines: tuple[Line, ...] = ()

    @classmethod
    def of(cls, deployments: Sequence[str], expected: Sequence[str]) -> Board:
        """Return a board that has read nothing yet."""
        return cls(rows=tuple(Row(group_key=key, expected=tuple(expected)) for key in deployments))

    def row(self, group_key: str) -> Row | None:
        """Return the deployment's row, or None for a group outside the story."""
        return next((row for row in self.rows if row.group_key == group_key), None)

    def read(self, seen: Seen) -> Board:
        """Return the board after one more record."""
        board = _apply(self, seen)
        line = _line(board, seen)
        return msgspec.structs.replace(board, lines=(*board.lines, line))


RowChange = Callable[[Row], Row]


def _apply(board: Board, seen: Seen) -> Board:
    match seen:
        case Arrived():
            return _change_row(board, seen.group_key, lambda row: _arrive(row, seen))
        case Removed():
            return _change_row(
                board, seen.group_key, lambda row: msgspec.structs.replace(row, removed=row.removed or seen)
            )
        case Fired():
            board = _change_row(board, seen.group_key, lambda row: _fire(row, seen))
            return _settle_outcomes(board)
        case Outcome():
            return _settle_outcomes(_note_outcome(board, seen))
        case SetAside():
            return msgspec.structs.replace(board, set_aside=(*board.set_aside, seen))
        case Ticked() | Note():
            return board


def _change_row(board: Board, group_key: str, change: RowChange) -> Board:
    rows = tuple(change(row) if row.group_key == group_key else row for row in board.rows)
    return msgspec.structs.replace(board, rows=rows)


def _arrive(row: Row, seen: Arrived) -> Row:
    if row.state not in (State.NOT_STARTED, State.WAITING):
        return row
    arrived = row.arrived if seen.participant_key in row.arrived else (*row.arrived, seen.participant_key)
    return msgspec.structs.replace(row, arrived=arrived, deadline_ms=seen.place.at_ms + seen.wait_ms)


def _fire(row: Row, seen: Fired) -> Row:
    """Keep one fire per `fire_id`: a copy that a crash made is the same fire."""
    if any(fire.fire_id == seen.fire_id for fire in row.fires):
        return row
    return msgspec.structs.replace(row, fires=(*row.fires, seen))


def _note_outcome(board: Board, seen: Outcome) -> Board:
    known = board.outcomes.get(seen.fire_id)
    if known is not None and known.is_final:
        return board
    return msgspec.structs.replace(board, outcomes={**board.outcomes, seen.fire_id: seen})


def _settle_outcomes(board: Board) -> Board:
    """Join fires and outcomes by `fire_id`: they come from two topics, so either may be read first."""
    rows = tuple(_with_outcome(row, board.outcomes) for row in board.rows)
    final = {one.group_key for one in board.outcomes.values() if one.is_final and board.row(one.group_key) is None}
    return msgspec.structs.replace(board, rows=rows, checks=board.checks | final)


def _with_outcome(row: Row, outcomes: dict[str, Outcome]) -> Row:
    found = [outcomes[fire.fire_id] for fire in row.fires if fire.fire_id in outcomes]
    return msgspec.structs.replace(row, outcome=found[0]) if found else row


def _line(board: Board, seen: Seen) -> Line:
    match seen:
        case Arrived():
            row = board.row(seen.group_key)
            count = f", {len(row.arrived)} of {seen.number_of_participants}" if row else ""
            return Line(seen.place, seen.group_key, f"{seen.participant_key} arrived{count}")
        case Removed():
            return Line(seen.place, seen.group_key, f"removed: {seen.reason}" if seen.reason else "removed")
        case Ticked():
            return Line(seen.place, "tick", "the worker moves time on")
        case Fired():
            missing = f", {seen.missing_count} missing" if seen.missing_count else ""
            return Line(seen.place, seen.group_key, f"fired: {seen.reason}{missing}")
        case Outcome():
            took = f" in {seen.took_ms} ms" if seen.took_ms is not None else ""
            return Line(seen.place, seen.group_key, f"{seen.callback} {seen.state}{took}")
        case SetAside():
            return Line(seen.place, seen.group_key, f"set aside: {seen.error}")
        case Note():
            return Line(seen.place, seen.subject, seen.text)


class Run(msgspec.Struct, frozen=True):
    """One line of the callback's own witness file: it ran, for this fire of this group."""

    group_key: str
    fire_id: str


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, in numbers."""

    complete: int
    timeout: int
    removed: int
    callbacks_run: int
    duplicates: int

    def as_json(self) -> str:
        """Return the line that `--json` prints."""
        return json.dumps(msgspec.structs.asdict(self))

    def differences(self, expected: Tally) -> tuple[str, ...]:
        """Return a sentence for each number that is not as expected."""
        ours, theirs = msgspec.structs.asdict(self), msgspec.structs.asdict(expected)
        return tuple(f"{name} is {ours[name]}, expected {theirs[name]}" for name in ours if ours[name] != theirs[name])


def tally(board: Board, runs: Sequence[Run]) -> Tally:
    """Count from what was read: fires by the fires topic, runs by the callback's own witness.

    A second run for one deployment is a duplicate whatever its `fire_id`: a user would see the cache invalidated twice.
    """
    reasons = Counter(fire.reason for row in board.rows for fire in row.fires)
    ran = Counter(run.group_key for run in runs if board.row(run.group_key) is not None)
    return Tally(
        complete=reasons["complete"],
        timeout=reasons["timeout"],
        removed=sum(row.state is State.REMOVED for row in board.rows),
        callbacks_run=ran.total(),
        duplicates=ran.total() - len(ran),
    )
