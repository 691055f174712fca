"""The small pure parts of the executor: offsets, slots, turns, timers, options."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wait_for_me.errors import ConfigurationError
from wait_for_me_app.callbacks import Callback, Registry
from wait_for_me_app.executor.offsets import Offsets
from wait_for_me_app.executor.options import ExecutorOptions
from wait_for_me_app.executor.slots import Slots, Turns
from wait_for_me_app.executor.timers import Timers

# --- offsets ---------------------------------------------------------------------------------------------------------


def test_the_position_stops_at_the_first_fire_that_is_not_safe() -> None:
    """Later ones that are safe do not let it pass."""
    offsets = Offsets(5)
    for offset in (5, 6, 9):
        offsets.read(offset)
    offsets.safe(6)
    assert offsets.position == 5
    offsets.safe(5)
    assert offsets.position == 9
    offsets.safe(9)
    assert offsets.position == 10


@given(st.lists(st.integers(1, 3), max_size=30), st.randoms())
def test_the_position_is_what_a_dumb_count_says(gaps: list[int], random: object) -> None:
    """Against the definition: the smallest unsafe offset, or one after the last that was read."""
    offsets, read, unsafe = Offsets(0), list[int](), set[int]()
    for gap in gaps:
        offset = (read[-1] if read else -1) + gap
        read.append(offset)
        unsafe.add(offset)
        offsets.read(offset)
        if random.random() < 0.6:  # type: ignore[attr-defined]
            safe = random.choice(read)  # type: ignore[attr-defined]
            unsafe.discard(safe)
            offsets.safe(safe)
        assert offsets.position == min(unsafe, default=read[-1] + 1)


def test_a_position_is_committed_once() -> None:
    """What has been handed out for commit is no news any more."""
    offsets = Offsets(3)
    assert offsets.to_commit() is None
    offsets.read(3)
    assert offsets.to_commit() is None
    offsets.safe(3)
    assert offsets.to_commit() == 4
    assert offsets.to_commit() is None


# --- slots and turns -------------------------------------------------------------------------------------------------


def callback(name: str, *, is_async: bool = False) -> Callback:
    """Return a registered callback that does nothing."""
    registry = Registry()

    async def later() -> None: ...

    registry.callback(name)(later if is_async else lambda: None)
    found = registry.find(name)
    assert found is not None
    return found


def test_no_callback_takes_more_than_three_quarters_of_the_slots() -> None:
    """One that hangs leaves room for the others."""
    slots, greedy, other = Slots(threads=4, tasks=1), callback("greedy"), callback("other")
    for _ in range(3):
        assert slots.has_room(greedy, 0)
        slots.take(greedy, 0)
    assert not slots.has_room(greedy, 0)
    assert slots.has_room(other, 0)
    slots.take(other, 0)
    assert not slots.has_room(other, 0)
    slots.give_back(greedy)
    assert slots.has_room(other, 0)
    assert slots.has_room(greedy, 0)


def test_a_single_slot_can_be_used() -> None:
    """Three quarters of one is one."""
    slots, only = Slots(threads=1, tasks=1), callback("only")
    assert slots.has_room(only, 0)
    slots.take(only, 0)
    assert not slots.has_room(only, 0)


def test_threads_and_tasks_are_counted_apart() -> None:
    """An async callback needs no thread."""
    slots = Slots(threads=1, tasks=1)
    slots.take(callback("plain"), 0)
    assert slots.has_room(callback("later", is_async=True), 0)


def test_names_take_turns() -> None:
    """A long queue of one name does not hold up the others."""
    turns: Turns[str] = Turns()
    for item in ("a1", "a2", "a3", "b1"):
        turns.put(item[0], item)
    assert [turns.take(lambda _: True) for _ in range(5)] == ["a1", "b1", "a2", "a3", None]


def test_a_name_without_room_is_passed_over() -> None:
    """It keeps its place in the queue."""
    turns: Turns[str] = Turns()
    turns.put("a", "a1")
    turns.put("b", "b1")
    assert turns.take(lambda name: name != "a") == "b1"
    assert turns.take(lambda name: name != "a") is None
    assert turns.take(lambda _: True) == "a1"


# --- timers ----------------------------------------------------------------------------------------------------------


def test_timers_come_out_by_time_and_then_in_order() -> None:
    """Equal times keep the order in which they were set."""
    timers: Timers[str] = Timers(lambda _, item: item != "dead")
    for at_ms, item in ((5, "late"), (1, "first"), (1, "second"), (0, "dead")):
        timers.set(at_ms, item)
    assert timers.earliest_ms == 0
    assert [timers.pop_due(1) for _ in range(3)] == ["first", "second", None]
    assert timers.pop_due(5) == "late"
    assert timers.earliest_ms is None


def test_timers_that_no_longer_matter_do_not_pile_up() -> None:
    """A hundred thousand attempts with a limit of a day leave no trace once they have ended."""
    live: set[int] = set()
    timers: Timers[int] = Timers(lambda _, item: item in live)
    for number in range(100_000):
        live = {number}
        timers.set(86_400_000 + number, number)
    assert len(timers) <= 2048


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"threads": 0}, {"starts_without_end": 0}, {"patience_ms": -1}, {"pending_fires": 0}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    """With the name and the least value."""
    with pytest.raises(ConfigurationError, match=rf"the executor's {next(iter(wrong))} is .*: give \d or more"):
        ExecutorOptions(**wrong)


def test_no_patience_and_no_grace_are_allowed() -> None:
    """0 means at once."""
    assert ExecutorOptions(patience_ms=0, stop_grace_ms=0, start_margin_ms=0).patience_ms == 0
