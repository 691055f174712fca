"""What a callback may ask for or is held to: speed, concurrency, order within a group, and a share of the memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_world import Process, World, fire_id_of, fire_value
from wait_for_me.errors import ConfigurationError
from wait_for_me_app.callbacks import Registry
from wait_for_me_app.executor.options import ExecutorOptions
from wait_for_me_app.executor.rates import Rate
from wait_for_me_app.executor.slots import Slots

# --- speed -----------------------------------------------------------------------------------------------------------


@given(st.floats(0.2, 500), st.lists(st.integers(0, 900), min_size=1, max_size=60))
def test_no_second_has_more_than_the_bucket_and_what_flows_in(per_second: float, pauses: list[int]) -> None:
    """In any span of so many seconds: at most those seconds' worth, and one second's for what was in the bucket."""
    rate, now_ms, taken = Rate(per_second), 0, list[int]()
    for pause_ms in pauses:
        now_ms += pause_ms
        while rate.wait_ms(now_ms) == 0 and len(taken) < 2_000:
            rate.take(now_ms)
            taken.append(now_ms)
    burst = max(1.0, per_second)
    for first in range(0, len(taken), 7):
        for last in range(first, len(taken), 5):
            span_s = (taken[last] - taken[first]) / 1000
            assert last - first + 1 <= burst + span_s * per_second + 1e-3


def test_a_callback_begins_no_more_often_than_it_may_and_the_wakeup_is_known() -> None:
    """Two a second: two at once, then one each half second; nothing else wakes the executor up."""
    world = world_with("slow", per_second=2)
    process = begun(world, [fire_value("slow") for _ in range(5)])
    assert len(world.begun) == 2
    assert process.schedule.next_wakeup_in_ms(world.now) == 500
    for count in (3, 4, 5):
        process.pass_time(499)
        process.settle()
        assert len(world.begun) == count - 1
        process.pass_time(1)
        process.settle()
        assert len(world.begun) == count
    assert (process.schedule.next_wakeup_in_ms(world.now) or 0) > 10_000  # the limit of an attempt, long over


def test_a_slow_callback_does_not_slow_the_others_down() -> None:
    """They take turns; one that may not start is passed over."""
    world = world_with("slow", per_second=0.1)
    world.registry.callback("quick")(lambda: None)
    begun(world, [*(fire_value("slow") for _ in range(20)), *(fire_value("quick") for _ in range(20))])
    assert len(world.succeeded) == 21


# --- how many at once ------------------------------------------------------------------------------------------------


def test_a_callback_has_no_more_attempts_at_once_than_it_asks_for() -> None:
    """The others have the rest of the slots."""
    world = world_with("careful", concurrency=2)
    world.registry.callback("other")(lambda: None)
    process = running(world, [*(fire_value("careful") for _ in range(9)), *(fire_value("other") for _ in range(3))])
    assert sorted(attempt.entry.progress.callback for attempt in process.attempts()) == ["careful"] * 2 + ["other"] * 3
    process.settle()
    assert len(world.succeeded) == 12


def test_an_executor_has_no_more_attempts_at_once_than_it_may() -> None:
    """Of all kinds together."""
    registry = Registry()

    async def later() -> None: ...

    registry.callback("plain")(lambda: None)
    registry.callback("later")(later)
    slots = Slots(threads=8, tasks=8, at_most=3)
    plain, task = registry.find("plain"), registry.find("later")
    assert plain is not None
    assert task is not None
    for callback in (plain, task, plain):
        assert slots.has_room(callback, 0)
        slots.take(callback, 0)
    assert not slots.has_room(plain, 0)
    assert not slots.has_room(task, 0)
    assert slots.taken == {"thread": 2, "task": 1, "process": 0}
    slots.give_back(plain)
    assert slots.has_room(task, 0)


# --- one after the other ---------------------------------------------------------------------------------------------


def test_fires_of_a_group_run_one_after_the_other_where_a_callback_asks_for_it() -> None:
    """In the order in which they fired; other groups do not wait."""
    world = world_with("step", in_order=True)
    values = [fire_value("step", group_key=group) for group in ("a", "a", "b", "a")]
    process = running(world, values)
    assert begun_ids(world) == [fire_id_of(values[0]), fire_id_of(values[2])]
    process.settle()
    assert [one for one in begun_ids(world) if one != fire_id_of(values[2])] == [
        fire_id_of(values[0]),
        fire_id_of(values[1]),
        fire_id_of(values[3]),
    ]
    assert process.tenure.lanes == {}


def test_without_that_they_do_not_wait() -> None:
    """The default: as many as there are slots."""
    world = world_with("step")
    running(world, [fire_value("step", group_key="a") for _ in range(3)])
    assert len(world.begun) == 3


def test_a_fire_that_fails_holds_its_group_back_until_it_is_final() -> None:
    """Its retries come first; when it is dead, the next one runs."""
    world = world_with("step", in_order=True, attempts=2, first_wait_in_seconds=10)
    first, second = fire_value("step", group_key="a"), fire_value("step", group_key="a")
    process = running(world, [first, second])
    process.settle(RuntimeError("no"))
    process.pass_time(5_000)
    process.settle()
    assert begun_ids(world) == [fire_id_of(first)]
    process.pass_time(6_000)
    process.deliver()
    process.tick()
    process.end(process.only_token, RuntimeError("no"))
    process.settle()
    assert begun_ids(world) == [fire_id_of(first)] * 2 + [fire_id_of(second)]
    assert world.states(fire_id_of(first))[-1] == "dead"
    assert world.states(fire_id_of(second))[-1] == "done"


@pytest.mark.parametrize("is_crash", [False, True])
def test_order_survives_a_takeover(is_crash: bool) -> None:
    """The successor waits for the attempt that runs elsewhere, and only then goes on with the group."""
    world = world_with("step", in_order=True, timeout_in_seconds=30)
    values = [fire_value("step", group_key="a") for _ in range(3)]
    process = running(world, values)
    if is_crash:
        process.commit()
        process.crash()
    else:
        process.hand_over()
    successor = Process(world, "e2")
    successor.read()
    successor.settle()
    assert begun_ids(world) == [fire_id_of(values[0])]
    if not is_crash:
        process.settle()
    for _ in range(40):
        successor.pass_time(1_000)
        successor.settle()
    order = list(dict.fromkeys(begun_ids(world)))
    assert order == [fire_id_of(value) for value in values]
    assert all(world.states(fire_id_of(value))[-1] == "done" for value in values)


# --- a share of the memory -------------------------------------------------------------------------------------------


def test_a_callback_that_only_fails_does_not_fill_the_memory() -> None:
    """Once its fires are half of it, further ones become dead letters, and others are read and run."""
    world = world_with("dead.end", options={"pending_fires": 40, "failures_in_a_row": 10}, attempts=50)
    world.registry.callback("other")(lambda: None)
    process = Process(world)
    for _ in range(5):
        for _ in range(8):
            world.write_fire(fire_value("dead.end"))
        process.read()
        process.settle(ConnectionError("refused"))
    assert process.schedule.pending <= 28
    assert not process.schedule.check_full()
    world.write_fire(fire_value("other"))
    process.read()
    process.settle()
    letters = [dict(letter.headers) for letter in world.dead_letters]
    assert len(letters) >= 12
    assert {one["wfm_error"] for one in letters} == {b"callback_backlog"}
    assert any(one.state == "done" for fire in world.fires for one in world.finals(fire_id_of(fire.value or b"")))
    process.commit()
    assert world.committed == len(world.fires)


def test_a_callback_that_succeeds_now_and_then_waits_in_kafka_like_any_other() -> None:
    """A backlog is no failure: reading pauses, and nothing is set aside."""
    world = world_with("busy", options={"pending_fires": 40, "failures_in_a_row": 10}, attempts=50)
    process = Process(world)
    for number in range(6):
        for _ in range(9):
            world.write_fire(fire_value("busy"))
        process.read()
        process.settle(ConnectionError("refused") if number else None)
        world.write_fire(fire_value("busy"))
        process.read()
        process.settle()
    assert world.dead_letters == []
    assert process.schedule.check_full()


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"concurrency": 0}, {"per_second": 0}, {"per_second": -1}, {"per_second": float("nan")}]
)
def test_bounds_that_let_nothing_run_are_refused(wrong: dict[str, Any]) -> None:
    """With the remedy."""
    with pytest.raises(ConfigurationError, match="Give"):
        Registry().callback("x", **wrong)(lambda: None)


# --- helpers ---------------------------------------------------------------------------------------------------------


def world_with(name: str, *, options: dict[str, Any] | None = None, **asked: Any) -> World:
    """Return a world with one callback."""
    registry = Registry()
    registry.callback(name, **asked)(lambda: None)
    return World(registry, ExecutorOptions(**(options or {})))


def running(world: World, values: list[bytes]) -> Process:
    """Return a process that has started what it may of these fires; none has ended."""
    for value in values:
        world.write_fire(value)
    process = Process(world)
    process.read()
    for _ in range(3):
        process.tick()
        process.deliver()
    return process


def begun(world: World, values: list[bytes]) -> Process:
    """Return a process in which everything has ended that may start without the clock."""
    process = running(world, values)
    process.settle()
    return process


def begun_ids(world: World) -> list[str]:
    """Return the fires whose callbacks have begun, in that order."""
    return [one.fire_id for one in world.begun]
