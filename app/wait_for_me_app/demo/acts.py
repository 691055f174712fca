"""Which act the demo is in, and what it does next: a pure function of the board and the time that is passed in.

    Opening --check came through--> Playing --every row settled--> Closing --check came through--> Finished
       |                               |                              |
       +------------ its limit passed, or a record was set aside ------+--------------------------> Failed

A *check* is a group of one participant with a harmless callback. When its outcome is read, an add has gone through worker and
executor. The closing check goes to the partition of the removed deployment, after that one's deadline: fires of a partition
come in order, so a fire that the removed deployment was still to get would have been read before the check's.
"""

from __future__ import annotations

from typing import Final

import msgspec

from wait_for_me.partitioner import partition_for
from wait_for_me_app.demo.board import Board, Row, State, Tally
from wait_for_me_app.demo.scenario import IS_REMOVED, Kill, Refresh, Step, story

OPENING_CHECK: Final = "check-1"
OPENING_LIMIT_MS: Final = 60_000
PLAYING_LIMIT_MS: Final = 45_000
CLOSING_LIMIT_MS: Final = 20_000
AFTER_THE_DEADLINE_MS: Final = 700

AS_PLANNED: Final = Tally(complete=1, timeout=1, removed=1, callbacks_run=2, duplicates=0)


class Check(msgspec.Struct, frozen=True):
    """Send the only add of a group of one."""

    group_key: str


Action = Refresh | Kill | Check


class Opening(msgspec.Struct, frozen=True):
    """The processes start; the first check tells when they are ready."""

    since_ms: int


class Playing(msgspec.Struct, frozen=True):
    """The story runs; `told` of its steps have been carried out."""

    since_ms: int
    told: int


class Closing(msgspec.Struct, frozen=True):
    """Everything is settled; the last check proves that the removed deployment stays silent."""

    since_ms: int
    group_key: str


class Finished(msgspec.Struct, frozen=True):
    """All that can be known is known."""


class Failed(msgspec.Struct, frozen=True):
    """Something did not happen in time."""

    why: str


Act = Opening | Playing | Closing | Finished | Failed


def open_the_show(now_ms: int) -> tuple[Act, tuple[Action, ...]]:
    """Return the first act and what to do at its start."""
    return Opening(now_ms), (Check(OPENING_CHECK),)


def next_act(act: Act, board: Board, now_ms: int, partitions: int) -> tuple[Act, tuple[Action, ...]]:
    """Return the act that follows from what the board says, and what to do now."""
    if board.set_aside and not isinstance(act, Finished | Failed):
        return Failed(f"a record was set aside: {board.set_aside[0].error}"), ()
    match act:
        case Opening():
            return _opening(act, board, now_ms), ()
        case Playing():
            return _playing(act, board, now_ms, partitions)
        case Closing():
            return _closing(act, board, now_ms), ()
        case Finished() | Failed():
            return act, ()


def _opening(act: Opening, board: Board, now_ms: int) -> Act:
    if OPENING_CHECK in board.checks:
        return Playing(now_ms, 0)
    if now_ms - act.since_ms > OPENING_LIMIT_MS:
        return Failed(f"no add came through worker and executor within {OPENING_LIMIT_MS // 1000} s")
    return act


def _playing(act: Playing, board: Board, now_ms: int, partitions: int) -> tuple[Act, tuple[Action, ...]]:
    steps = story()
    due = _due(steps[act.told :], now_ms - act.since_ms)
    told = act.told + len(due)
    unsettled = [row for row in board.rows if not is_settled(row, now_ms)]
    if told == len(steps) and not unsettled:
        check = closing_check(partitions)
        return Closing(now_ms, check), (Check(check),)
    if now_ms - act.since_ms > PLAYING_LIMIT_MS:
        return Failed("; ".join(_unsettled(row) for row in unsettled) + f" after {PLAYING_LIMIT_MS // 1000} s"), ()
    return Playing(act.since_ms, told), due


def _closing(act: Closing, board: Board, now_ms: int) -> Act:
    if act.group_key in board.checks:
        return Finished()
    if now_ms - act.since_ms > CLOSING_LIMIT_MS:
        return Failed(f"the closing check did not come through within {CLOSING_LIMIT_MS // 1000} s")
    return act


def _due(steps: tuple[Step, ...], elapsed_ms: int) -> tuple[Step, ...]:
    return tuple(step for step in steps if step.at_s * 1000 <= elapsed_ms)


def is_settled(row: Row, now_ms: int) -> bool:
    """Return whether nothing more is to come for the deployment, as far as can be seen by waiting."""
    if row.fires:
        return row.outcome is not None and row.outcome.is_final
    return row.state is State.REMOVED and now_ms >= (row.deadline_ms or 0) + AFTER_THE_DEADLINE_MS


def _unsettled(row: Row) -> str:
    if row.fires:
        return f"{row.group_key} fired but its callback has no final outcome"
    return f"{row.group_key} is {row.state} with {len(row.arrived)} arrived"


def closing_check(partitions: int) -> str:
    """Return a group key that lies on the removed deployment's partition."""
    home = partition_for(IS_REMOVED.encode(), partitions)
    return next(
        key for number in range(2, 1000) if partition_for((key := f"check-{number}").encode(), partitions) == home
    )


def faults(board: Board, counted: Tally) -> tuple[str, ...]:
    """Return a sentence for everything that did not go as the story says; none means success."""
    not_done = [
        f"{row.group_key}: the callback is {row.outcome.state if row.outcome else 'not run'}"
        for row in board.rows
        if row.fires and (row.outcome is None or row.outcome.state != "done")
    ]
    return (*counted.differences(AS_PLANNED), *not_done)
