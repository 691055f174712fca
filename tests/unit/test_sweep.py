"""The sweep: a tick where a deadline has passed and the log does not know it, and none anywhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from fakes import NOON_MS, TOPICS, MemoryOutlet, Refused, add, new_lane, remove, tick
from wait_for_me.codec import decode_command
from wait_for_me.commands import Tick
from wait_for_me_app.broker_clock import BrokerClock
from wait_for_me_app.core.deadlines import NEVER_MS
from wait_for_me_app.lane import Lane
from wait_for_me_app.sweep import TICK, Sweep, needs_tick

DUE_MS = NOON_MS + 60_000


def clock_at(now_ms: int) -> BrokerClock:
    """A clock that says this at local moment 0."""
    clock = BrokerClock()
    clock.observe(now_ms, 0)
    return clock


def sweep_over(lanes: Mapping[int, Lane], outlet: MemoryOutlet, clock: BrokerClock) -> Sweep:
    """A sweep whose local clock stands still."""
    return Sweep(
        lanes=lambda: lanes, outlet=outlet, commands_topic=TOPICS.commands, clock=clock, monotonic_ms=lambda: 0.0
    )


async def waiting_lane(outlet: MemoryOutlet | None = None) -> Lane:
    """A lane with one group that is due a minute after noon."""
    lane = new_lane(outlet or MemoryOutlet())
    await lane.take([add(0, NOON_MS)])
    return lane


def test_a_tick_is_a_command() -> None:
    """The worker reads its own ticks like anybody's."""
    assert isinstance(decode_command(None, TICK, ()), Tick)


@pytest.mark.parametrize(("now_ms", "wanted"), [(DUE_MS - 1, False), (DUE_MS, True), (DUE_MS + 1, True), (None, True)])
async def test_a_lane_needs_a_tick_when_its_earliest_deadline_has_passed(now_ms: int | None, wanted: bool) -> None:
    """By the broker's clock; where that is not known, one tick finds out."""
    assert needs_tick(await waiting_lane(), now_ms) is wanted


@pytest.mark.parametrize("now_ms", [None, NEVER_MS - 1])
async def test_a_lane_with_nothing_open_needs_none(now_ms: int | None) -> None:
    """Idle partitions cost nothing, whatever the time."""
    assert not needs_tick(new_lane(MemoryOutlet()), now_ms)


async def test_a_closed_group_that_lingers_is_no_reason_for_a_tick() -> None:
    """Its row is freed by the next record, whenever that comes; a million closed groups must not keep a quiet log busy."""
    lane = await waiting_lane()
    await lane.take([tick(1, DUE_MS)])
    assert not needs_tick(lane, DUE_MS)
    assert not needs_tick(lane, DUE_MS + 60_000)
    await lane.take([tick(2, DUE_MS + 120_000), tick(3, DUE_MS + 120_001)])
    assert lane.earliest_due_ms == NEVER_MS


async def test_no_tick_follows_one_that_has_not_been_read() -> None:
    """At most one own tick a lane is unread: a lane that lags is not buried in ticks."""
    lane = await waiting_lane()
    lane.last_tick_offset = 1
    assert not needs_tick(lane, DUE_MS)
    await lane.take([tick(1, DUE_MS - 1)])
    assert needs_tick(lane, DUE_MS)


async def test_one_tick_goes_to_each_lane_that_needs_one() -> None:
    """One for all groups of a lane; its offset is remembered."""
    outlet = MemoryOutlet()
    due, idle = await waiting_lane(), new_lane(MemoryOutlet())
    outlet.write(TOPICS.commands, 3, [[(b"x", b"x", [])]])
    sweep = sweep_over({3: due, 4: idle}, outlet, clock_at(DUE_MS))
    assert await sweep.run_once() == 1
    assert [(one.key, one.value) for one in outlet.read(TOPICS.commands, 3)][1:] == [(None, TICK)]
    assert outlet.read(TOPICS.commands, 4) == []
    assert (due.last_tick_offset, sweep.ticks_sent) == (1, 1)


async def test_a_second_look_sends_nothing_until_the_tick_is_read() -> None:
    """However often the timer runs."""
    outlet = MemoryOutlet()
    outlet.write(TOPICS.commands, 0, [[(b"g", b"the add", [])]])
    sweep = sweep_over({0: await waiting_lane()}, outlet, clock_at(DUE_MS))
    assert [await sweep.run_once() for _ in range(3)] == [1, 0, 0]


async def test_no_tick_is_sent_while_one_is_under_way() -> None:
    """The broker is slow, the timer is not."""
    outlet = MemoryOutlet()
    outlet.hold(TOPICS.commands)
    sweep = sweep_over({0: await waiting_lane()}, outlet, clock_at(DUE_MS))
    first = asyncio.create_task(sweep.run_once())
    await outlet.begun(TOPICS.commands)
    assert await sweep.run_once() == 0
    outlet.release(TOPICS.commands)
    assert await first == 1


async def test_lanes_do_not_wait_for_each_other() -> None:
    """One partition without a leader must not make the timeouts of all others late."""
    outlet = MemoryOutlet()
    outlet.hold(TOPICS.commands)
    sweep = sweep_over({0: await waiting_lane(), 1: await waiting_lane()}, outlet, clock_at(DUE_MS))
    both = asyncio.create_task(sweep.run_once())
    await outlet.begun(TOPICS.commands)
    await asyncio.sleep(0)
    assert outlet.calls == 2
    outlet.release(TOPICS.commands)
    assert await both == 2


async def test_a_tick_that_is_refused_is_an_error_and_may_be_sent_again() -> None:
    """The worker decides what to do about it; the sweep does not hide it, and does not think that one is under way."""
    outlet = MemoryOutlet()
    outlet.refuse(TOPICS.commands)
    sweep = sweep_over({0: await waiting_lane()}, outlet, clock_at(DUE_MS))
    with pytest.raises(Refused):
        await sweep.run_once()
    outlet.accept(TOPICS.commands)
    assert await sweep.run_once() == 1


async def test_a_tick_that_comes_too_early_is_repeated_and_then_fires() -> None:
    """The estimate was ahead; the log was not: nothing fires before its time, and something does at it."""
    commands = MemoryOutlet(now_ms=lambda: DUE_MS - 10)
    lane, clock = await waiting_lane(), BrokerClock()
    sweep = sweep_over({0: lane}, commands, clock)
    assert await sweep.run_once() == 1
    await lane.take([tick(1, DUE_MS - 10)])
    clock.observe(DUE_MS - 10, 0)
    assert await sweep.run_once() == 0
    clock.observe(DUE_MS, 0)
    lane.last_tick_offset = -1
    assert await sweep.run_once() == 1
    await lane.take([tick(2, DUE_MS)])
    assert lane.counts.fires == 1


async def test_a_group_that_was_removed_asks_for_no_tick_before_it_is_freed() -> None:
    """Its old deadline may come up once; it closes nothing."""
    lane = await waiting_lane()
    await lane.take([remove(1, NOON_MS)])
    await lane.take([tick(2, DUE_MS)])
    assert lane.counts.fires == 0
    assert lane.earliest_due_ms == NEVER_MS
