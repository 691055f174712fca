"""A dead fire that is sent once more is run again, exactly then; and a callback may ask for the end or for a longer
wait.
"""

from __future__ import annotations

from typing import Any

import pytest

from executor_world import PARTITION, Process, World, fire_id_of, fire_value
from wait_for_me_app.callback_errors import RetryAfter, SetAside
from wait_for_me_app.callbacks import Registry
from wait_for_me_app.executor.ledger import FinalFires, Ledger
from wait_for_me_app.executor.options import ExecutorOptions
from wait_for_me_app.outcomes import encode_outcome, key_of, progress_key
from wait_for_me_app.retries import RETRIED_AT, RETRIED_BY, is_retry, runs_again

ASKED: Any = ((RETRIED_BY, b"ann"), (RETRIED_AT, b"2026-11-24T02:10:00Z"))


@pytest.fixture
def world() -> World:
    """A world with a callback that has three attempts, and one that has one."""
    registry = Registry()
    registry.callback("ok", attempts=3, first_wait_in_seconds=10, longest_wait_in_seconds=600, timeout_in_seconds=60)(
        lambda: None
    )
    registry.callback("once", attempts=1)(lambda: None)
    return World(registry, ExecutorOptions(start_margin_ms=2_000))


def died(world: World) -> tuple[Process, bytes]:
    """Return a process in which a fire has just died, and the fire."""
    value = fire_value("once")
    world.write_fire(value)
    process = Process(world)
    process.read()
    process.settle(RuntimeError("no"))
    process.commit()
    assert world.states(fire_id_of(value))[-1] == "dead"
    return process, value


# --- sent once more --------------------------------------------------------------------------------------------------


def test_a_dead_fire_that_is_sent_once_more_is_run_again(world: World) -> None:
    """Under its own fire_id, with all its attempts; and then it is done for good."""
    process, value = died(world)
    world.write_fire(value, headers=ASKED)
    process.read()
    process.settle()
    assert world.states(fire_id_of(value))[-2:] == ["dead", "done"]
    assert [one.attempt for one in world.begun] == [1, 1]
    assert "retry_taken" in process.events()
    assert world.ledger().pending == {}


def test_a_plain_copy_of_a_dead_fire_is_not(world: World) -> None:
    """A worker's crash makes such copies."""
    process, value = died(world)
    world.write_fire(value)
    process.read()
    process.settle()
    assert len(world.begun) == 1


def test_a_fire_that_is_done_is_never_run_again(world: World) -> None:
    """Whoever asks; the log says so."""
    value = fire_value("ok")
    world.write_fire(value)
    world.write_fire(value, headers=ASKED)
    process = Process(world)
    process.read(1)
    process.settle()
    process.read()
    process.settle()
    assert len(world.begun) == 1
    assert "retry_ignored" in process.events()


def test_a_fire_that_still_goes_on_takes_no_notice(world: World) -> None:
    """It has attempts left already."""
    value = fire_value("ok")
    world.write_fire(value)
    world.write_fire(value, headers=ASKED)
    process = Process(world)
    process.read(1)
    process.deliver()
    process.read()
    process.settle()
    assert len(world.begun) == 1


def test_the_same_request_read_twice_counts_once(world: World) -> None:
    """Its executor died before the offset was committed."""
    process, value = died(world)
    world.write_fire(value, headers=ASKED)
    process.read()
    process.settle(RuntimeError("no"))
    process.crash()
    successor = Process(world, "e2")
    assert successor.read() == 1
    successor.settle()
    assert len(world.begun) == 2


def test_a_fire_that_dies_again_can_be_sent_again(world: World) -> None:
    """As often as somebody asks; each request counts once."""
    process, value = died(world)
    for _ in range(3):
        world.write_fire(value, headers=ASKED)
        process.read()
        process.settle(RuntimeError("no"))
    assert len(world.begun) == 4
    assert len(world.letters(fire_id_of(value))) == 4


def test_its_next_dead_letter_says_who_had_asked(world: World) -> None:
    """The headers of the request stay with the fire."""
    process, value = died(world)
    world.write_fire(value, headers=ASKED)
    process.read()
    process.settle(RuntimeError("no"))
    assert world.letters(fire_id_of(value))[-1][RETRIED_BY] == "ann"


@pytest.mark.parametrize("is_compacted", [False, True])
@pytest.mark.parametrize("steps", range(12))
def test_a_crash_at_any_step_of_a_retry_loses_nothing(world: World, is_compacted: bool, steps: int) -> None:
    """The successor goes on with it, whatever compaction has left of the outcomes: done once at least, and final."""
    process, value = died(world)
    world.write_fire(value, headers=ASKED)
    process.read()
    for _ in range(steps):
        process.tick()
        if not process.deliver(1) and process.running:
            process.end(process.only_token)
    process.crash()
    world.is_compacted = is_compacted
    world.wall_ms += 600_000  # the time limit of an attempt that was under way
    successor = Process(world, "e2")
    successor.read()
    for _ in range(3):
        successor.pass_time(200_000)
        successor.settle()
    done = [outcome for outcome in world.finals(fire_id_of(value)) if outcome.state == "done"]
    died_of_start = [one for one in world.letters(fire_id_of(value)) if one["wfm_error"] == "callback_killed_process"]
    assert done or died_of_start  # with one attempt allowed, a start without an end is the end
    assert world.ledger().pending == {}
    assert successor.tenure.entries == {}


def test_a_dead_outcome_that_comes_late_does_not_end_the_retry(world: World) -> None:
    """From an executor that was paused: it speaks of the fire that had died before."""
    process, value = died(world)
    late = next(one for one in world.outcomes if one.key == fire_id_of(value).encode())
    world.write_fire(value, headers=ASKED)
    process.read()
    process.deliver()
    world.outcomes.append(late)
    process.crash()
    successor = Process(world, "e2")
    successor.settle()
    assert world.states(fire_id_of(value))[-1] == "done"


def test_what_it_left_when_it_died_does_not_take_the_retry_along(world: World) -> None:
    """The old progress was never deleted, because the process died; the new one must stay."""
    process, value = died(world)
    del world.outcomes[-1]  # the deletion did not arrive
    assert world.outcomes[-1].value is not None
    world.write_fire(value, headers=ASKED)
    process.crash()
    successor = Process(world, "e2")
    successor.read()
    successor.deliver()
    successor.crash()
    third = Process(world, "e3")
    third.settle()
    assert world.states(fire_id_of(value))[-1] == "done"


def test_reading_on_does_not_take_the_own_old_outcome_for_news(world: World) -> None:
    """While an attempt elsewhere is waited for, the outcomes are read again from the start of the tenure."""
    other = fire_value("ok")
    world.write_fire(other)
    dead_process = Process(world, "e0")
    dead_process.read()
    dead_process.deliver()
    dead_process.tick()
    dead_process.deliver()
    dead_process.commit()
    dead_process.crash()
    value = fire_value("once")
    world.write_fire(value)
    process = Process(world, "e1")
    process.read()
    process.settle(RuntimeError("no"))
    assert process.tenure.elsewhere
    world.write_fire(value, headers=ASKED)
    process.read()
    process.pass_time(2_000)
    process.answer_reads()
    process.settle()
    assert world.states(fire_id_of(value))[-1] == "done"


def test_old_progress_that_was_never_deleted_is_not_cleaned_up_under_the_retry(world: World) -> None:
    """They have keys of their own: whoever takes over deletes the old one only."""
    process, value = died(world)
    del world.outcomes[-1]  # the deletion did not arrive
    world.write_fire(value, headers=ASKED)
    process.read()
    process.deliver(1)
    ledger = world.ledger()
    assert [progress.offset for progress in ledger.pending.values()] == [1]
    assert list(ledger.leftovers) == [progress_key(fire_id_of(value))]


@pytest.mark.parametrize("is_compacted", [False, True])
@pytest.mark.parametrize("steps", range(6))
def test_whoever_wakes_up_and_cleans_up_the_dead_fire_deletes_nothing_of_the_retry(
    world: World, is_compacted: bool, steps: int
) -> None:
    """A paused executor's deletion of the old round may come at any step of the new one, whose executor dies right then."""
    _, value = died(world)
    cleaning_up = world.outcomes.pop()  # still in the paused executor
    assert cleaning_up.value is None
    world.write_fire(value, headers=ASKED)
    owner = Process(world, "e2")
    owner.read()
    for _ in range(steps):
        owner.tick()
        if not owner.deliver(1) and owner.running:
            owner.end(owner.only_token)
    world.outcomes.append(cleaning_up)
    owner.commit()
    owner.crash()
    world.is_compacted = is_compacted
    successor = Process(world, "e3")
    successor.read()
    for _ in range(3):
        successor.pass_time(200_000)
        successor.settle()
    asked_for = [one for one in world.finals(fire_id_of(value)) if one.offset == 1]
    assert asked_for, "the retry is forgotten"
    assert world.ledger().pending == {}


def test_two_rounds_of_a_fire_do_not_mix(world: World) -> None:
    """Whichever arrives last: the later tenure's goes on, and the other is there to be deleted."""
    process, value = died(world)
    old = world.progress(fire_id_of(value))[-1]
    world.write_fire(value, headers=ASKED)
    Process(world, "e2").read()
    owner = Process(world, "e3")
    owner.read()
    owner.deliver()
    (new,) = (one for one in world.progress(fire_id_of(value)) if one.offset == 1)
    for steps in ((old, new), (new, old)):
        ledger = Ledger()
        for offset, step in enumerate(steps):
            ledger.fold(offset, key_of(step), encode_outcome(step), world.wall_ms)
        assert list(ledger.pending.values()) == [new]
        assert list(ledger.leftovers) == [key_of(old)]
    assert process.events()


def test_only_the_header_of_the_request_makes_one() -> None:
    """And only above the offset of the one that died."""
    assert is_retry(ASKED)
    assert not is_retry([("wfm_retried", b"")])
    assert not runs_again(ASKED, 7, 7)
    assert not runs_again(ASKED, 7, None)
    assert not runs_again((), 8, 7)


def test_where_a_dead_fire_lay_is_forgotten_with_it() -> None:
    """Or the memory of an executor would grow with every fire that ever died."""
    fires, week_ms = FinalFires(kept_ms=0), 7 * 24 * 3_600_000
    fires.add(b"a", 0, died_at=1)
    fires.add(b"b", 3 * week_ms)
    assert fires.died_at(b"a") is None
    fires.add(b"b", 3 * week_ms, died_at=2)
    assert fires.died_at(b"b") == 2
    fires.add(b"b", 3 * week_ms)
    assert fires.died_at(b"b") is None


# --- what a callback may ask for -------------------------------------------------------------------------------------


def failed_with(world: World, error: Exception) -> tuple[Process, str]:
    """Return a process in which a first attempt has ended so."""
    value = fire_value("ok")
    world.write_fire(value)
    process = Process(world)
    process.read()
    process.deliver()
    process.tick()
    process.deliver()
    process.end(process.only_token, error)
    process.deliver()
    return process, fire_id_of(value)


@pytest.mark.parametrize(("asked_s", "least_s", "most_s"), [(0, 8, 10), (120, 120, 144), (1e9, 600, 600)])
def test_the_next_attempt_comes_not_before_it_was_asked_for(
    world: World, asked_s: float, least_s: float, most_s: float
) -> None:
    """Nor later than the policy's longest wait; and not for all fires at once."""
    _, fire_id = failed_with(world, RetryAfter(asked_s))
    next_at_ms = world.progress(fire_id)[-1].next_attempt_at_ms or 0
    assert least_s * 1000 <= next_at_ms - world.wall_ms <= most_s * 1000


def test_asking_for_time_buys_no_further_attempt(world: World) -> None:
    """Or an endpoint could keep its fires for ever."""
    process, fire_id = failed_with(world, RetryAfter(60))
    for _ in range(2):
        process.pass_time(600_000)
        process.settle(RetryAfter(60))
    assert world.states(fire_id)[-1] == "dead"
    assert len(world.begun) == 3


def test_a_callback_can_give_its_fire_up_at_once(world: World) -> None:
    """With a code of its own, and without further attempts."""
    process, fire_id = failed_with(world, SetAside("gone", "endpoint_gone"))
    process.settle()
    (letter,) = world.letters(fire_id)
    assert (letter["wfm_error"], letter["__dlq.errors.delivery.count"]) == ("endpoint_gone", "1")
    assert world.states(fire_id)[-1] == "dead"
    assert world.finals(fire_id)[0].partition == PARTITION


def test_a_code_that_nobody_knows_is_refused_where_it_is_raised() -> None:
    """Codes are alerted on; so is a wait that is none."""
    with pytest.raises(ValueError, match="is no code of a callback: take one of bad_fire"):
        SetAside("x", "my_code")
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="give seconds from 0 on"):
            RetryAfter(seconds)
    assert RetryAfter(0.0001).wait_ms == 1
