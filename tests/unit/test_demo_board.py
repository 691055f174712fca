"""The demo's board says what the topics say, and its tally counts mistakes."""

from __future__ import annotations

from itertools import count

import pytest

from wait_for_me_app.demo.board import (
    Arrived,
    Board,
    Fired,
    Note,
    Outcome,
    Place,
    Removed,
    Run,
    Seen,
    SetAside,
    State,
    Tally,
    Ticked,
    tally,
)

_offsets = count()
EMPTY = Board.of(("deploy-1", "deploy-2"), ("web-1", "web-2"))


def place(topic: str = "commands", at_ms: int = 1000) -> Place:
    return Place(topic, 0, next(_offsets), at_ms)


def arrived(participant: str, group: str = "deploy-1", at_ms: int = 1000) -> Arrived:
    return Arrived(
        place=place(at_ms=at_ms), group_key=group, participant_key=participant, number_of_participants=2, wait_ms=6000
    )


def removed(group: str = "deploy-1", reason: str = "rolled back") -> Removed:
    return Removed(place=place(), group_key=group, reason=reason)


def fired(group: str = "deploy-1", fire_id: str = "fire_1", reason: str = "complete", missing: int = 0) -> Fired:
    return Fired(
        place=place("fires"),
        group_key=group,
        fire_id=fire_id,
        reason=reason,
        arrived_count=2 - missing,
        missing_count=missing,
    )


def outcome(state: str, group: str = "deploy-1", fire_id: str = "fire_1", *, is_final: bool = False) -> Outcome:
    return Outcome(
        place=place("outcomes"),
        group_key=group,
        fire_id=fire_id,
        callback="cloudfront.invalidate",
        state=state,
        attempt=1,
        took_ms=38 if is_final else None,
        is_final=is_final,
    )


def board_of(*seen: Seen) -> Board:
    board = EMPTY
    for one in seen:
        board = board.read(one)
    return board


def state_after(*seen: Seen) -> State:
    row = board_of(*seen).row("deploy-1")
    assert row is not None
    return row.state


def test_a_deployment_is_not_started_until_somebody_arrives() -> None:
    """Before the first add there is nothing to wait for."""
    assert state_after() is State.NOT_STARTED
    assert state_after(arrived("web-1")) is State.WAITING


def test_all_arrived_is_still_waiting_until_the_fire_has_been_read() -> None:
    """The board does not decide in the product's place."""
    assert state_after(arrived("web-1"), arrived("web-2")) is State.WAITING
    assert state_after(arrived("web-1"), arrived("web-2"), fired()) is State.COMPLETE


def test_a_timeout_is_told_apart_from_completion() -> None:
    """The reason on the fire decides what the row says."""
    assert state_after(arrived("web-1"), fired(reason="timeout", missing=1)) is State.TIMEOUT


def test_a_removed_deployment_says_so() -> None:
    """A remove on the topic ends the wait on the board."""
    assert state_after(arrived("web-1"), removed()) is State.REMOVED


def test_a_fire_after_a_remove_is_not_hidden() -> None:
    """If the product broke its promise, the view must show it and the tally must count it."""
    board = board_of(arrived("web-1"), removed(), fired(reason="timeout"))
    assert board.rows[0].state is State.TIMEOUT
    assert tally(board, ()).removed == 0


def test_who_is_missing_is_known_by_name() -> None:
    """The story knows the servers' names; the product only their number."""
    row = board_of(arrived("web-2")).rows[0]
    assert (row.arrived, row.missing) == (("web-2",), ("web-1",))


def test_a_participant_that_arrives_twice_is_listed_once_and_moves_the_deadline() -> None:
    """A second add of one participant counts once and starts the wait anew."""
    row = board_of(arrived("web-1", at_ms=1000), arrived("web-1", at_ms=3000)).rows[0]
    assert (row.arrived, row.deadline_ms) == (("web-1",), 9000)


def test_a_late_add_leaves_a_closed_row_alone() -> None:
    """What comes after the end of a round does not look like an arrival."""
    row = board_of(arrived("web-1"), removed(), arrived("web-2")).rows[0]
    assert row.arrived == ("web-1",)


@pytest.mark.parametrize("fire_comes_first", [True, False])
def test_an_outcome_finds_its_row_whichever_topic_is_read_first(fire_comes_first: bool) -> None:
    """Fires and outcomes are two topics; between them there is no order."""
    pair: tuple[Seen, Seen] = (fired(), outcome("done", is_final=True))
    board = board_of(*(pair if fire_comes_first else pair[::-1]))
    assert board.rows[0].outcome is not None
    assert board.rows[0].outcome.state == "done"


def test_a_final_outcome_wins_over_a_later_one_that_is_not() -> None:
    """A copy of an earlier step cannot take a result back."""
    board = board_of(fired(), outcome("done", is_final=True), outcome("started"))
    assert board.rows[0].outcome is not None
    assert board.rows[0].outcome.state == "done"


def test_a_group_outside_the_story_is_a_check_once_it_is_carried_out() -> None:
    """The demo's own probes count when their outcome is final, and only then."""
    started = board_of(fired("check-1", "fire_9"), outcome("started", "check-1", "fire_9"))
    done = started.read(outcome("done", "check-1", "fire_9", is_final=True))
    assert (started.checks, done.checks) == (frozenset(), frozenset({"check-1"}))


def test_every_record_leaves_a_line_in_the_log() -> None:
    """Whatever was read can be seen underneath the rows."""
    board = board_of(
        arrived("web-1"),
        Ticked(place=place()),
        fired(reason="timeout", missing=1),
        outcome("done", is_final=True),
        removed("deploy-2"),
        SetAside(place=place("dead letter"), group_key="deploy-2", error="not_json: no JSON"),
        Note(place=Place("demo", 0, -1, 0), subject="web-2", text="process 1 killed"),
    )
    assert [f"{line.subject} {line.text}" for line in board.lines] == [
        "deploy-1 web-1 arrived, 1 of 2",
        "tick the worker moves time on",
        "deploy-1 fired: timeout, 1 missing",
        "deploy-1 cloudfront.invalidate done in 38 ms",
        "deploy-2 removed: rolled back",
        "deploy-2 set aside: not_json: no JSON",
        "web-2 process 1 killed",
    ]


def test_the_tally_counts_fires_removals_and_runs() -> None:
    """Fires come from the topic, runs from the callback's own witness; checks are not counted."""
    board = board_of(
        arrived("web-1"), fired(), arrived("web-1", "deploy-2"), removed("deploy-2"), fired("check-1", "fire_9")
    )
    counted = tally(board, (Run("deploy-1", "fire_1"), Run("check-1", "fire_9")))
    assert counted == Tally(complete=1, timeout=0, removed=1, callbacks_run=1, duplicates=0)


def test_a_copy_of_a_fire_is_one_fire() -> None:
    """A crash may write a fire again with the same `fire_id`; that is no second fire."""
    assert tally(board_of(fired(), fired()), ()).complete == 1


def test_a_second_fire_of_a_deployment_is_counted() -> None:
    """Another `fire_id` for the same deployment is a mistake that must show."""
    assert tally(board_of(fired(), fired(fire_id="fire_2", reason="timeout")), ()).timeout == 1


def test_a_second_run_for_a_deployment_is_a_duplicate_whatever_its_fire_id() -> None:
    """The user would see the cache invalidated twice."""
    counted = tally(board_of(fired()), (Run("deploy-1", "fire_1"), Run("deploy-1", "fire_2")))
    assert (counted.callbacks_run, counted.duplicates) == (2, 1)


def test_the_json_line_is_exactly_as_promised() -> None:
    """Scripts compare this line as text."""
    counted = Tally(complete=1, timeout=1, removed=1, callbacks_run=2, duplicates=0)
    assert counted.as_json() == '{"complete": 1, "timeout": 1, "removed": 1, "callbacks_run": 2, "duplicates": 0}'


def test_a_tally_says_in_which_numbers_it_differs() -> None:
    """One sentence a number, none if all are equal."""
    counted = Tally(complete=1, timeout=0, removed=1, callbacks_run=2, duplicates=0)
    assert counted.differences(Tally(complete=1, timeout=1, removed=1, callbacks_run=2, duplicates=0)) == (
        "timeout is 0, expected 1",
    )
    assert counted.differences(counted) == ()
