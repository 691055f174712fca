"""What becomes of a fire, step by step: the order of effects, retries, limits, takeovers, stops. No Kafka, no threads, no clock."""

from __future__ import annotations

import asyncio
import json

import pytest

from executor_world import PARTITION, TOPICS, Process, World, fire_id_of, fire_value
from wait_for_me_app.callbacks import Registry
from wait_for_me_app.executor.effects import FireRecord
from wait_for_me_app.executor.options import ExecutorOptions
from wait_for_me_app.executor.records import MAX_FIRE_BYTES
from wait_for_me_app.executor.schedule import Schedule
from wait_for_me_app.executor.tenure import Hold

OPTIONS = ExecutorOptions(
    threads=4, tasks=4, patience_ms=600_000, parked_look_ms=30_000, start_margin_ms=2_000, look_again_ms=1_000
)


@pytest.fixture
def world() -> World:
    """A world whose registry knows a plain, an async, an impatient and a one-shot callback."""
    registry = Registry()

    async def later() -> None: ...

    registry.callback("ok", attempts=3, timeout_in_seconds=60, first_wait_in_seconds=10)(lambda *_: None)
    registry.callback("later", attempts=3, timeout_in_seconds=5)(later)
    registry.callback("once", attempts=1, timeout_in_seconds=5)(lambda: None)
    registry.callback("no.parameters")(lambda: None)
    return World(registry, OPTIONS)


def started(world: World, value: bytes | None = None) -> tuple[Process, str]:
    """Return a process in which one fire's attempt runs, and the fire_id."""
    value = value or fire_value()
    world.write_fire(value)
    process = Process(world)
    process.read()
    process.deliver()
    process.tick()
    process.deliver()
    assert len(process.running) == 1
    return process, fire_id_of(value)


# --- the order of effects --------------------------------------------------------------------------------------------


def test_a_fire_goes_through_accepted_started_and_done(world: World) -> None:
    """The usual life: three steps, then its progress is deleted."""
    process, fire_id = started(world)
    process.end(process.only_token)
    process.deliver()
    assert world.states(fire_id) == ["accepted", "started", "done"]
    assert world.outcomes[-1].value is None
    assert process.tenure.entries == {}
    assert world.ledger().pending == {}


def test_an_offset_may_be_committed_only_when_the_acceptance_is_safe(world: World) -> None:
    """Before that a crash must read the fire again; after it the outcomes know it."""
    world.write_fire(fire_value())
    process = Process(world)
    process.read()
    assert process.schedule.to_commit() == {}
    process.deliver()
    assert process.schedule.to_commit() == {PARTITION: 1}


def test_an_attempt_begins_only_when_its_start_is_safe(world: World) -> None:
    """Or a callback that kills its process would leave no trace."""
    world.write_fire(fire_value())
    process = Process(world)
    process.read()
    process.deliver()
    process.tick()
    assert [append.step for append in process.in_flight] == ["started"]
    assert process.running == {}
    process.deliver()
    assert len(process.running) == 1


def test_progress_is_deleted_only_when_the_final_outcome_is_safe(world: World) -> None:
    """Deleted earlier, a crash between the two would lose the fire."""
    process, _ = started(world)
    process.end(process.only_token)
    assert [append.step for append in process.in_flight] == ["final"]
    process.deliver(1)
    assert [append.step for append in process.in_flight] == ["deleted"]


def test_a_fire_is_dead_only_when_its_dead_letter_is_safe(world: World) -> None:
    """failed, then the letter, then dead, then the deletion, each after the one before is in Kafka."""
    process, fire_id = started(world, fire_value("once"))
    process.end(process.only_token, ValueError("no"))
    steps = []
    while process.in_flight:
        (append,) = process.in_flight
        steps.append(append.step)
        process.deliver(1)
    assert steps == ["failed", "dead_letter", "final", "deleted"]
    assert world.states(fire_id) == ["accepted", "started", "failed", "dead"]


# --- what is a fire --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"junk",
        b"[]",
        b'{"type":"fire"}',
        b"\xff\xfe",
        fire_value(fire_id="fire_1"),
        fire_value(fire_id="../../etc"),
        fire_value(group_key=5),
        fire_value(group_key="x" * MAX_FIRE_BYTES),
    ],
)
def test_a_record_that_is_no_fire_is_set_aside_and_the_next_one_is_run(world: World, value: bytes | None) -> None:
    """Bad input neither stops the line nor disappears."""
    world.write_fire(value, headers=(("trace", b"1"), ("empty", None)))
    good = fire_value()
    world.write_fire(good)
    process = Process(world)
    process.read()
    assert process.schedule.to_commit() == {}
    process.settle()
    (letter,) = world.dead_letters
    headers = dict(letter.headers)
    assert letter.value == (value if value is None else value[:262_144])
    assert headers["trace"] == b"1"
    assert headers["wfm_error"] == b"bad_fire"
    assert headers["wfm_stage"] == b"callback"
    assert headers["__dlq.errors.offset"] == b"0"
    assert headers["__dlq.errors.topic"] == TOPICS.fires.encode()
    assert world.states(fire_id_of(good)) == ["accepted", "started", "done"]
    assert process.schedule.to_commit() == {PARTITION: 2}


def test_a_dead_letter_stays_small_enough_to_be_written(world: World) -> None:
    """A stranger's key and headers can be as large as Kafka allows; they must not end the executor."""
    world.write_fire(b"junk", key=b"k" * 3_000_000, headers=(("h", b"v" * 900_000),))
    process = Process(world)
    process.read()
    process.deliver()
    (letter,) = world.dead_letters
    size = len(letter.key or b"") + len(letter.value or b"") + sum(len(value or b"") for _, value in letter.headers)
    assert size < 1_000_000


def test_an_unknown_reason_is_a_fire_like_any_other(world: World) -> None:
    """`reason` is open for more."""
    value = fire_value(reason="by request")
    world.write_fire(value)
    process = Process(world)
    process.read()
    process.settle()
    assert world.states(fire_id_of(value))[-1] == "done"


def test_copies_of_a_fire_are_run_once_and_let_the_offset_pass(world: World) -> None:
    """Before it is accepted, while it runs, and after it is done."""
    value = fire_value()
    world.write_fire(value)
    world.write_fire(value)
    process = Process(world)
    process.read()
    assert process.schedule.to_commit() == {}
    process.deliver()
    assert process.schedule.to_commit() == {PARTITION: 2}
    world.write_fire(value)
    process.read()
    process.settle()
    world.write_fire(value)
    process.read()
    assert process.schedule.to_commit() == {PARTITION: 4}
    assert [one.attempt for one in world.begun] == [1]


def test_fires_are_not_read_before_the_outcomes_are_known(world: World) -> None:
    """It would run again what is done; that it cannot happen is asserted."""
    schedule = Schedule(topics=TOPICS, find=world.registry.find, options=OPTIONS, executor="e")
    schedule.assigned(PARTITION)
    record = FireRecord(partition=PARTITION, offset=0, key=b"", value=fire_value())
    with pytest.raises(AssertionError, match="before its outcomes are known"):
        schedule.fire(record, world.now)
    schedule.fire(FireRecord(partition=9, offset=0, key=b"", value=fire_value()), world.now)
    assert schedule.take_effects() == []


# --- parameters and names --------------------------------------------------------------------------------------------


def test_parameters_that_do_not_fit_make_a_dead_letter_without_a_run(world: World) -> None:
    """No attempt is made, so none is counted."""
    value = fire_value("no.parameters", ["too", "many"])
    world.write_fire(value)
    process = Process(world)
    process.read()
    process.settle()
    assert world.begun == []
    assert world.states(fire_id_of(value)) == ["accepted", "dead"]
    (letter,) = world.letters(fire_id_of(value))
    assert letter["wfm_error"] == "bad_parameters"
    assert "send what its signature asks for" in letter["__dlq.errors.message"]
    assert world.dead_letters[0].value == value


def test_a_fire_with_an_unknown_callback_is_parked_and_dead_when_the_patience_is_over(world: World) -> None:
    """No attempt is spent, and the fires behind it go on."""
    value, other = fire_value("not.deployed.yet"), fire_value()
    world.write_fire(value)
    world.write_fire(other)
    process = Process(world)
    process.read()
    process.settle()
    assert world.states(fire_id_of(other))[-1] == "done"
    assert world.states(fire_id_of(value)) == ["accepted", "parked"]
    process.pass_time(599_999)
    process.settle()
    assert world.states(fire_id_of(value)) == ["accepted", "parked"]
    process.pass_time(1)
    process.settle()
    assert world.states(fire_id_of(value)) == ["accepted", "parked", "dead"]
    (letter,) = world.letters(fire_id_of(value))
    assert letter["wfm_error"] == "unknown_callback"
    assert world.finals(fire_id_of(value))[0].attempt == 0


def test_a_parked_fire_runs_when_an_executor_knows_its_callback(world: World) -> None:
    """The deploy has come: the successor runs it at once, as the first attempt."""
    value = fire_value("new")
    world.write_fire(value)
    process = Process(world)
    process.read()
    process.settle()
    process.crash()
    world.registry.callback("new")(lambda: None)
    world.wall_ms += 1_000
    Process(world, "e2").settle()
    assert world.states(fire_id_of(value)) == ["accepted", "parked", "started", "done"]


def test_patience_is_counted_from_the_first_look_however_often_executors_restart(world: World) -> None:
    """A crash loop does not make it longer."""
    value = fire_value("never")
    world.write_fire(value)
    process = Process(world)
    process.read()
    process.settle()
    process.commit()
    for restart in range(7):
        process.crash()
        world.wall_ms += 100_000
        process = Process(world, f"e{restart}")
        process.settle()
    assert world.states(fire_id_of(value)) == ["accepted", "parked", "dead"]


# --- retries ---------------------------------------------------------------------------------------------------------


def test_a_failed_attempt_waits_for_its_time_and_blocks_nobody(world: World) -> None:
    """10 s less jitter, then the second attempt; fires behind it run meanwhile."""
    process, fire_id = started(world)
    process.end(process.only_token, ValueError("not yet"))
    process.deliver()
    failure = world.progress(fire_id)[-1]
    assert (failure.state, failure.error, failure.reason) == ("failed", "callback_failed", "ValueError: not yet")
    wait_ms = (failure.next_attempt_at_ms or 0) - world.wall_ms
    assert 8_000 <= wait_ms <= 10_000
    behind = fire_value()
    world.write_fire(behind)
    process.read()
    process.settle()
    assert world.states(fire_id_of(behind))[-1] == "done"
    process.pass_time(wait_ms - 1)
    process.settle()
    assert len(world.progress(fire_id)) == 3
    process.pass_time(1)
    process.settle()
    assert world.states(fire_id) == ["accepted", "started", "failed", "started", "done"]
    assert [one.attempt for one in world.begun if one.fire_id == fire_id] == [1, 2]


def test_after_the_last_attempt_the_fire_is_dead_with_its_bytes_and_its_reason(world: World) -> None:
    """Key, value and headers as they came, and how often it was tried."""
    value = fire_value()
    world.write_fire(value, headers=(("trace", b"abc"),))
    process = Process(world)
    process.read()
    for _ in range(3):
        process.pass_time(100_000)
        process.settle(ValueError("never"))
    process.settle()
    (letter,) = world.letters(fire_id_of(value))
    assert letter["trace"] == "abc"
    assert letter["wfm_error"] == "callback_failed"
    assert letter["wfm_stage"] == "callback"
    assert letter["__dlq.errors.delivery.count"] == "3"
    assert letter["__dlq.errors.message"] == "ValueError: never"
    assert letter["__dlq.errors.group"] == TOPICS.executor_group
    assert (world.dead_letters[0].key, world.dead_letters[0].value) == (b"deploy-42", value)
    assert [one.attempt for one in world.begun] == [1, 2, 3]
    assert world.finals(fire_id_of(value))[0].error == "callback_failed"


def test_a_retry_survives_a_restart_even_when_its_offset_was_committed_long_ago(world: World) -> None:
    """The successor knows it from the outcomes alone, and waits for the same moment."""
    process, fire_id = started(world)
    process.end(process.only_token, ValueError("once"))
    process.deliver()
    due_ms = world.progress(fire_id)[-1].next_attempt_at_ms or 0
    process.commit()
    assert world.committed == 1
    process.crash()
    world.fires[0] = FireRecord(partition=PARTITION, offset=0, key=None, value=None)  # retention has taken it
    successor = Process(world, "e2")
    successor.settle()
    assert successor.running == {}
    successor.pass_time(due_ms - world.wall_ms)
    successor.settle()
    assert world.states(fire_id) == ["accepted", "started", "failed", "started", "done"]
    assert world.begun[-1].attempt == 2


def test_an_exception_that_cannot_be_printed_is_a_failure_like_any_other(world: World) -> None:
    """Text of foreign origin must not end the executor, nor make a record that cannot be written."""

    class Rude(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    process, fire_id = started(world)
    process.end(process.only_token, Rude())
    process.deliver()
    assert world.progress(fire_id)[-1].reason == "Rude"
    process.pass_time(20_000)
    process.deliver()
    process.end(process.only_token, ValueError("half \udc80 of a character" + "x" * 5_000))
    process.deliver()
    assert (world.progress(fire_id)[-1].reason or "").startswith("ValueError: half ? of a character")


# --- limits ----------------------------------------------------------------------------------------------------------


def test_an_attempt_past_its_limit_has_failed_and_keeps_its_slot_until_it_returns(world: World) -> None:
    """A thread cannot be killed; what it does afterwards changes nothing."""
    process, fire_id = started(world)
    hung = process.only_token
    process.pass_time(60_000)
    process.deliver()
    assert world.progress(fire_id)[-1].error == "callback_timeout"
    assert hung in process.cancelled
    others = [fire_value() for _ in range(4)]
    for value in others:
        world.write_fire(value)
    process.read()
    process.deliver()
    process.tick()
    process.deliver()
    assert len(process.running) == 3, "three of four threads for one name, the hung one among them"
    process.end(hung)
    assert "attempt_ended_late" in process.events()
    assert world.states(fire_id)[-1] == "failed", "it counts as failed although it returned"
    process.tick()
    process.deliver()
    assert len(process.running) == 3


def test_a_cancelled_attempt_that_ends_is_not_judged_twice(world: World) -> None:
    """The loop reports the cancellation after the limit; the attempt has failed once."""
    process, fire_id = started(world, fire_value("later"))
    token = process.only_token
    process.pass_time(5_000)
    process.end(token, asyncio.CancelledError())
    process.deliver()
    assert world.states(fire_id) == ["accepted", "started", "failed"]


def test_a_start_that_took_too_long_to_be_written_is_stamped_again(world: World) -> None:
    """A successor counts from the stamp; the callback must not run longer than the stamp says."""
    value = fire_value()
    world.write_fire(value)
    process = Process(world)
    process.read()
    process.deliver()
    process.tick()
    process.pass_time(OPTIONS.start_margin_ms + 1)
    process.deliver(1)
    assert process.running == {}
    process.deliver()
    assert len(process.running) == 1
    stamps = [one.started_at_ms for one in world.progress(fire_id_of(value)) if one.state == "started"]
    assert stamps == [world.wall_ms - OPTIONS.start_margin_ms - 1, world.wall_ms]
    assert world.begun[0].attempt == 1


# --- taking over -----------------------------------------------------------------------------------------------------


def test_a_start_without_an_end_is_waited_out_and_counts_as_spent(world: World) -> None:
    """Not before time limit and margin, counted from the start, are over and the outcomes have been read once more."""
    process, fire_id = started(world)
    world.wall_ms += 10_000
    process.crash()
    successor = Process(world, "e2")
    successor.pass_time(51_999)
    successor.settle()
    assert successor.running == {}
    successor.pass_time(1_001)
    successor.settle()
    assert [(one.attempt, one.process) for one in world.begun] == [(1, "e1"), (2, "e2")]
    lost = world.progress(fire_id)[2]
    assert (lost.state, lost.error, lost.starts_without_end) == ("failed", "callback_killed_process", 1)
    assert "on e1 has no end" in (lost.reason or "")
    assert world.states(fire_id)[-1] == "done"


def test_the_third_start_without_an_end_makes_the_fire_dead(world: World) -> None:
    """A callback that kills its process does so three times, not for ever."""
    world.registry.callback("killer", attempts=10, timeout_in_seconds=5)(lambda: None)
    value = fire_value("killer")
    world.write_fire(value)
    process = Process(world, "e0")
    process.read()
    for restart in range(1, 6):
        process.deliver()
        process.tick()
        process.deliver()
        process.crash()
        world.wall_ms += 7_001
        process = Process(world, f"e{restart}")
        process.tick()
        process.answer_reads()
    process.settle()
    assert [one.attempt for one in world.begun] == [1, 2, 3]
    (letter,) = world.letters(fire_id_of(value))
    assert letter["wfm_error"] == "callback_killed_process"
    assert world.finals(fire_id_of(value))[0].state == "dead"


def test_a_callback_that_is_to_run_once_is_not_run_again_when_its_process_died(world: World) -> None:
    """With attempts=1 the unknown outcome is a dead letter, for a person to look at."""
    process, fire_id = started(world, fire_value("once"))
    process.crash()
    world.wall_ms += 7_001
    successor = Process(world, "e2")
    successor.settle()
    assert len(world.begun) == 1
    assert world.letters(fire_id)[0]["wfm_error"] == "callback_killed_process"


@pytest.mark.parametrize("error", [None, ValueError("late")])
def test_an_executor_that_hands_over_in_order_still_writes_down_what_it_runs(
    world: World, error: Exception | None
) -> None:
    """The successor learns of it before the limit is over, and neither runs a done fire again nor loses a retry."""
    process, fire_id = started(world)
    process.hand_over()
    successor = Process(world, "e2")
    process.end(process.only_token, error)
    process.deliver()
    successor.pass_time(1_000)
    successor.answer_reads()
    successor.settle()
    assert successor.tenure.elsewhere == {}
    if error is None:
        assert world.states(fire_id) == ["accepted", "started", "done"]
        assert successor.tenure.entries == {}
    else:
        successor.pass_time(20_000)
        successor.settle()
        assert world.states(fire_id) == ["accepted", "started", "failed", "started", "done"]
        assert [(one.attempt, one.process) for one in world.begun] == [(1, "e1"), (2, "e2")]


def test_an_executor_that_has_handed_over_makes_no_retries(world: World) -> None:
    """It writes down that its attempt failed; the rest is the successor's."""
    process, _ = started(world)
    process.hand_over()
    process.end(process.only_token, ValueError("no"))
    process.deliver()
    process.pass_time(20_000)
    assert not process.in_flight
    assert process.tenure.entries == {}


def test_an_attempt_that_was_announced_when_the_partition_left_is_taken_back(world: World) -> None:
    """It did not begin: no attempt is spent, and the successor does not wait for an end."""
    value = fire_value()
    world.write_fire(value)
    process = Process(world)
    process.read()
    process.deliver()
    process.tick()
    process.hand_over()
    process.deliver()
    assert world.begun == []
    assert world.states(fire_id_of(value)) == ["accepted", "started", "accepted"]
    Process(world, "e2").settle()
    assert [(one.attempt, one.process) for one in world.begun] == [(1, "e2")]


def test_a_successor_that_read_the_announcement_learns_that_it_was_taken_back(world: World) -> None:
    """It goes on within a second instead of waiting for the limit."""
    world.write_fire(fire_value())
    process = Process(world)
    process.read()
    process.deliver()
    process.tick()
    process.hand_over()
    process.deliver(1)
    successor = Process(world, "e2")
    assert len(successor.tenure.elsewhere) == 1
    process.deliver()
    successor.pass_time(1_000)
    successor.settle()
    assert [(one.attempt, one.process) for one in world.begun] == [(1, "e2")]


def test_what_arrives_from_an_earlier_tenure_does_not_undo_what_a_later_one_has_done(world: World) -> None:
    """An announcement and its taking back, on their way for so long that two successors have come: the attempt between counts."""
    world.write_fire(fire_value())
    first = Process(world)
    first.read()
    first.deliver()
    first.tick()
    first.hand_over()
    world.wall_ms += 1
    second = Process(world, "e2")
    second.tick()
    second.deliver()
    assert [one.attempt for one in world.begun] == [1]
    second.hand_over()
    world.wall_ms += 1
    third = Process(world, "e3")
    first.deliver()
    third.pass_time(1_000)
    third.settle()
    assert third.running == {}, "the second one still runs it"
    second.end(second.only_token)
    second.deliver()
    third.pass_time(1_000)
    third.settle()
    assert [one.process for one in world.begun] == ["e2"]
    assert third.tenure.entries == {}


def test_each_tenure_has_a_larger_stamp_than_all_before_it(world: World) -> None:
    """Even if the clock was set back in between."""
    process, fire_id = started(world)
    process.crash()
    world.wall_ms -= 3_600_000
    successor = Process(world, "e2")
    assert successor.tenure.stamp == world.progress(fire_id)[-1].tenure + 1


def test_an_executor_that_lost_a_partition_writes_nothing_more_about_it(world: World) -> None:
    """Neither what its callbacks return, nor what was still to be sent; its async attempts are cancelled."""
    process, fire_id = started(world)
    token = process.only_token
    process.lose()
    assert token in process.cancelled
    assert process.tenure.hold is Hold.LOST
    process.end(token)
    assert process.deliver() == 0
    assert world.states(fire_id) == ["accepted", "started"]
    assert {"attempt_orphaned", "attempt_ended_late"} <= set(process.events())


def test_losing_a_partition_gives_announced_slots_back(world: World) -> None:
    """Or every rebalance would cost a thread."""
    for _ in range(3):
        world.write_fire(fire_value())
    process = Process(world)
    process.read()
    process.deliver()
    process.tick()
    assert [append.step for append in process.in_flight] == ["started"] * 3
    process.lose()
    process.in_flight.clear()
    process.take_partition()
    process.settle()
    assert len(world.begun) == 3


def slow_predecessor(world: World) -> tuple[Process, int, str, Process]:
    """Return an executor that runs two attempts past a hand-over, one past its limit of 5 s, and its successor.

    Also the token and the fire_id of the one past its limit, which the successor has counted as failed.
    """
    world.write_fire(fire_value())
    late = fire_value("later")
    world.write_fire(late)
    process = Process(world, "slow")
    process.read()
    process.deliver()
    process.tick()
    process.deliver()
    (token,) = [number for number, start in process.running.items() if start.is_async]
    process.hand_over()
    successor = Process(world, "e2")
    successor.pass_time(7_001)
    successor.answer_reads()
    successor.deliver()
    successor.tick()
    assert [append.step for append in successor.in_flight] == ["started"]
    return process, token, fire_id_of(late), successor


def test_a_fire_that_another_executor_has_finished_meanwhile_does_not_start(world: World) -> None:
    """Final wins, also over an attempt that is announced already; nothing is left of that."""
    process, token, fire_id, successor = slow_predecessor(world)
    process.end(token)
    process.deliver()
    successor.pass_time(1_000)
    successor.answer_reads()
    successor.deliver()
    assert successor.running == {}
    assert world.states(fire_id) == ["accepted", "started", "failed", "started", "done"]
    assert [one.fire_id for one in world.ledger().pending.values()] != [fire_id]
    assert world.ledger().leftovers == {}


def test_a_retry_of_a_fire_that_another_executor_has_finished_is_dropped(world: World) -> None:
    """It waits for its time, and its time does not come."""
    process, token, fire_id, successor = slow_predecessor(world)
    successor.deliver()
    successor.end(successor.only_token, ValueError("no"))
    successor.deliver()
    process.end(token)
    process.deliver()
    successor.pass_time(1_000)
    successor.answer_reads()
    successor.pass_time(20_000)
    successor.deliver()
    assert successor.running == {}
    assert [one.attempt for one in world.begun if one.fire_id == fire_id] == [1, 2]


def test_two_attempts_that_overlap_are_reported(world: World) -> None:
    """An executor that ran on past its limit has finished a fire that this one runs."""
    process, token, _, successor = slow_predecessor(world)
    successor.deliver()
    assert len(successor.running) == 1
    process.end(token)
    process.deliver()
    successor.pass_time(1_000)
    successor.answer_reads()
    assert "attempts_overlap" in successor.events()


def test_progress_that_a_dead_executor_left_behind_is_cleaned_up(world: World) -> None:
    """It died between the final outcome and the deletion; the next one deletes."""
    process, fire_id = started(world)
    process.end(process.only_token)
    process.deliver(1)
    process.crash()
    successor = Process(world, "e2")
    successor.settle()
    assert world.ledger().leftovers == {}
    assert world.states(fire_id) == ["accepted", "started", "done"]
    assert len(world.begun) == 1


def test_a_damaged_outcome_is_set_aside_and_then_deleted(world: World) -> None:
    """With its bytes; and not again at the next takeover."""
    value = fire_value()
    world.write_fire(value)
    process = Process(world)
    process.read()
    process.deliver()
    good = world.outcomes.pop()
    world.outcomes.append(type(good)(good.key, b"bit rot", (), world.wall_ms))
    process.crash()
    successor = Process(world, "e2")
    assert [append.step for append in successor.in_flight] == ["dead_letter"]
    successor.deliver()
    headers = dict(world.dead_letters[0].headers)
    assert (headers["wfm_error"], headers["wfm_stage"]) == (b"damaged_row", b"apply")
    assert headers["__dlq.errors.topic"] == TOPICS.outcomes.encode()
    assert world.dead_letters[0].value == b"bit rot"
    successor.crash()
    assert not Process(world, "e3").in_flight


def test_a_fire_that_is_older_than_what_is_known_is_set_aside(world: World) -> None:
    """Its end may have been forgotten, so running it might be running it again."""
    process, fire_id = started(world)
    process.end(process.only_token, ValueError("no"))
    process.deliver()
    process.crash()
    world.options = ExecutorOptions(outcomes_kept_ms=30 * 86_400_000)
    world.wall_ms += 30 * 86_400_000 + 1
    successor = Process(world, "e2")
    successor.settle()
    assert len(world.begun) == 1
    assert "send it again if not" in world.letters(fire_id)[0]["__dlq.errors.message"]


def test_a_clock_that_runs_ahead_elsewhere_makes_no_wait_longer_than_the_limit(world: World) -> None:
    """The start may seem to lie in the future."""
    process, _ = started(world)
    process.crash()
    world.wall_ms -= 3_600_000
    successor = Process(world, "e2")
    (entry,) = successor.tenure.elsewhere.values()
    assert entry.until_steady_ms - world.now.steady_ms == 62_000


def test_a_fire_accepted_by_another_release_that_this_one_cannot_read_is_set_aside(world: World) -> None:
    """Its bytes are kept in the dead letter."""
    value = fire_value()
    world.write_fire(value)
    process = Process(world)
    process.read()
    process.deliver()
    process.crash()
    record = world.outcomes.pop()
    outcome = json.loads(record.value or b"")
    outcome["fire"] = {"type": "fire", "layout": "of another time"}
    world.outcomes.append(type(record)(record.key, json.dumps(outcome).encode(), (), record.at_ms))
    Process(world, "e2").settle()
    assert world.letters(fire_id_of(value))[0]["wfm_error"] == "bad_fire"


# --- memory ----------------------------------------------------------------------------------------------------------


def test_reading_pauses_when_memory_is_full_and_resumes_when_there_is_room(world: World) -> None:
    """With a distance between the two, so that it does not flutter."""
    world.options = ExecutorOptions(pending_fires=10)
    for _ in range(10):
        world.write_fire(fire_value("unknown.here"))
    process = Process(world)
    process.read(9)
    assert not process.schedule.check_full()
    process.read(1)
    assert process.schedule.check_full()
    process.settle()
    assert process.schedule.check_full(), "parked fires are in memory"
    process.pass_time(600_000)
    process.settle()
    assert not process.schedule.check_full()


def test_reading_pauses_by_bytes_too(world: World) -> None:
    """A few large fires weigh as much as many small ones."""
    world.options = ExecutorOptions(pending_bytes=200_000)
    for _ in range(2):
        world.write_fire(fire_value("unknown.here", ["x" * 60_000]))
    process = Process(world)
    process.read(1)
    assert not process.schedule.check_full()
    process.settle()
    world.options = ExecutorOptions(pending_bytes=100_000)
    process = Process(world, "e2")
    process.read()
    assert process.schedule.check_full()


# --- stopping --------------------------------------------------------------------------------------------------------


def test_a_stop_lets_what_runs_finish_and_starts_nothing(world: World) -> None:
    """Fires that come meanwhile are left to the successor."""
    process, fire_id = started(world)
    process.schedule.stop()
    world.write_fire(fire_value())
    process.read()
    process.settle()
    assert not process.schedule.is_running
    assert world.states(fire_id)[-1] == "done"
    assert process.schedule.positions() == {PARTITION: 1}
    assert len(world.begun) == 1


def test_a_stop_takes_back_what_was_announced(world: World) -> None:
    """The successor starts it as the same attempt."""
    value = fire_value()
    world.write_fire(value)
    process = Process(world)
    process.read()
    process.deliver()
    process.tick()
    process.schedule.stop()
    process.settle()
    assert world.begun == []
    assert world.states(fire_id_of(value)) == ["accepted", "started", "accepted"]


def test_what_still_runs_when_the_grace_is_over_is_tried_again_by_the_successor(world: World) -> None:
    """It counts as an attempt, but not as one that killed its process."""
    process, fire_id = started(world)
    process.schedule.stop()
    process.schedule.interrupt(world.now)
    process._carry_out()
    assert not process.schedule.is_running
    process.deliver()
    failure = world.progress(fire_id)[-1]
    assert (failure.error, failure.starts_without_end) == ("callback_failed", 0)
    assert "was stopped while the callback ran" in (failure.reason or "")
    world.wall_ms = failure.next_attempt_at_ms or 0
    Process(world, "e2").settle()
    assert world.states(fire_id)[-1] == "done"


def test_the_next_wakeup_is_known(world: World) -> None:
    """So that the shell sleeps neither too long nor for nothing."""
    process, _ = started(world)
    assert process.schedule.next_wakeup_in_ms(world.now) == 60_000
    process.end(process.only_token, ValueError("no"))
    process.deliver()
    assert 8_000 <= (process.schedule.next_wakeup_in_ms(world.now) or 0) <= 10_000
    idle = Process(World(world.registry, OPTIONS))
    assert idle.schedule.next_wakeup_in_ms(world.now) is None
    process.crash()
