"""The demo goes from act to act by what the topics say, and gives up with a reason."""

from __future__ import annotations

import pytest

from wait_for_me.partitioner import partition_for
from wait_for_me_app.demo.acts import (
    AS_PLANNED,
    CLOSING_LIMIT_MS,
    OPENING_CHECK,
    OPENING_LIMIT_MS,
    PLAYING_LIMIT_MS,
    Act,
    Check,
    Closing,
    Failed,
    Finished,
    Opening,
    Playing,
    closing_check,
    faults,
    next_act,
    open_the_show,
)
from wait_for_me_app.demo.board import Arrived, Board, Fired, Outcome, Place, Removed, Seen, SetAside
from wait_for_me_app.demo.scenario import DEPLOYMENTS, IS_REMOVED, SERVERS, Kill, Refresh, story

NOWHERE = Place("commands", 0, 0, 0)
BEGIN = Board.of(DEPLOYMENTS, SERVERS)
ALL_TOLD = len(story())


def arrived(group: str, at_ms: int = 0) -> Arrived:
    return Arrived(
        place=Place("commands", 0, 0, at_ms),
        group_key=group,
        participant_key="web-1",
        number_of_participants=6,
        wait_ms=6000,
    )


def carried_out(group: str, reason: str, state: str = "done") -> tuple[Seen, ...]:
    return (
        arrived(group),
        Fired(place=NOWHERE, group_key=group, fire_id=group, reason=reason, arrived_count=1, missing_count=5),
        Outcome(
            place=NOWHERE,
            group_key=group,
            fire_id=group,
            callback="c",
            state=state,
            attempt=1,
            took_ms=1,
            is_final=True,
        ),
    )


def board_of(*seen: Seen) -> Board:
    board = BEGIN
    for one in seen:
        board = board.read(one)
    return board


def played(*, removed_at_ms: int = 0) -> Board:
    return board_of(
        *carried_out("deploy-41", "complete"),
        *carried_out("deploy-42", "timeout"),
        arrived(IS_REMOVED, removed_at_ms),
        Removed(place=NOWHERE, group_key=IS_REMOVED, reason=""),
    )


def after(act: Act, board: Board, now_ms: int) -> Act:
    return next_act(act, board, now_ms, 4)[0]


def test_the_show_opens_with_a_check() -> None:
    """The story begins when an add has gone all the way through, not when processes exist."""
    assert open_the_show(5) == (Opening(5), (Check(OPENING_CHECK),))


def test_the_story_begins_when_the_check_came_through() -> None:
    """Until its outcome is read, nothing is told to the web servers."""
    assert after(Opening(0), BEGIN, 1000) == Opening(0)
    assert after(Opening(0), board_of(*carried_out(OPENING_CHECK, "complete")), 1000) == Playing(1000, 0)


def test_steps_are_told_when_they_are_due_and_once() -> None:
    """A step whose time has come is carried out; the next look does not repeat it."""
    act, actions = next_act(Playing(0, 0), BEGIN, 0, 4)
    assert [action.server for action in actions if isinstance(action, Refresh)] == list(SERVERS)
    assert next_act(act, BEGIN, 100, 4)[1] == ()


def test_a_late_look_tells_everything_that_is_due() -> None:
    """A slow machine skips no step."""
    assert next_act(Playing(0, 0), BEGIN, 44_000, 4)[1] == story()


def test_the_removed_deployment_is_watched_until_after_its_deadline() -> None:
    """Silence before the deadline proves nothing."""
    act = Playing(0, ALL_TOLD)
    assert after(act, played(removed_at_ms=10_000), 16_000) == act
    assert isinstance(after(act, played(removed_at_ms=10_000), 17_000), Closing)


def test_the_closing_check_shares_the_removed_deployments_partition() -> None:
    """Fires of one partition come in order, which is what makes the check a proof."""
    for partitions in (1, 4, 12):
        check = closing_check(partitions)
        assert partition_for(check.encode(), partitions) == partition_for(IS_REMOVED.encode(), partitions)


def test_the_show_is_finished_when_the_closing_check_came_through() -> None:
    """Nothing that was to come before it can come any more."""
    check = closing_check(4)
    assert after(Closing(0, check), played(), 10) == Closing(0, check)
    board = played()
    for seen in carried_out(check, "complete"):
        board = board.read(seen)
    assert after(Closing(0, check), board, 10) == Finished()


@pytest.mark.parametrize(
    ("act", "limit_ms", "reason"),
    [
        (Opening(0), OPENING_LIMIT_MS, "no add came through worker and executor within 60 s"),
        (
            Playing(0, ALL_TOLD),
            PLAYING_LIMIT_MS,
            "deploy-42 is waiting with 1 arrived; deploy-43 fired but its callback has no final outcome after 45 s",
        ),
        (Closing(0, "check-2"), CLOSING_LIMIT_MS, "the closing check did not come through within 20 s"),
    ],
)
def test_an_act_that_takes_too_long_fails_with_the_reason(act: Act, limit_ms: int, reason: str) -> None:
    """The demo never hangs."""
    board = board_of(
        *carried_out("deploy-41", "complete"),
        arrived("deploy-42"),
        *carried_out(IS_REMOVED, "timeout")[:2],
    )
    assert after(act, board, limit_ms) == act
    assert after(act, board, limit_ms + 1) == Failed(reason)


def test_a_record_that_was_set_aside_ends_the_show() -> None:
    """The story has no bad record, so a dead letter is a mistake of ours."""
    board = board_of(SetAside(place=NOWHERE, group_key="deploy-41", error="not_json: ?"))
    assert after(Playing(0, 0), board, 0) == Failed("a record was set aside: not_json: ?")


def test_an_ended_show_stays_ended() -> None:
    """Nothing follows the last act."""
    for act in (Finished(), Failed("why")):
        assert next_act(act, BEGIN, 10**9, 4) == (act, ())


def test_a_callback_that_is_not_done_is_a_fault() -> None:
    """A fire whose callback was given up is no success, even if the numbers agree."""
    board = board_of(*carried_out("deploy-41", "complete", "dead"), *carried_out("deploy-42", "timeout"))
    assert faults(board, AS_PLANNED) == ("deploy-41: the callback is dead",)
    assert faults(played(), AS_PLANNED) == ()


def test_only_living_servers_are_told_anything() -> None:
    """After its death web-4 has no orders: a pipe to a dead process would break the show."""
    (kill,) = (step for step in story() if isinstance(step, Kill))
    told = [
        step for step in story() if isinstance(step, Refresh) and step.server == kill.server and step.at_s > kill.at_s
    ]
    assert told == []
