"""The sweep: sees which lanes have a deadline behind them, and lets their logs know by appending a tick.

It decides nothing. A tick is an empty command whose broker timestamp moves stream time; the fold closes what is due. So one tick
serves all groups due on a partition, and a tick that comes too early has no effect.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from wait_for_me_app.broker_clock import BrokerClock
from wait_for_me_app.core.deadlines import NEVER_MS
from wait_for_me_app.crash_points import crash_point
from wait_for_me_app.lane import NO_HEADERS, Lane, Outlet

log = logging.getLogger(__name__)

TICK: Final = b'{"type":"tick"}'
INTERVAL_SECONDS: Final = 0.03


def needs_tick(lane: Lane, broker_now_ms: int | None) -> bool:
    """Return whether a lane's earliest deadline has passed by the broker's clock while its log does not know it yet.

    Not while an own tick is still unread. Where the broker's time is not known, one tick finds out.
    """
    due_ms = lane.earliest_due_ms
    if due_ms == NEVER_MS or lane.last_tick_offset > lane.watermark:
        return False
    return broker_now_ms is None or (due_ms <= broker_now_ms and lane.has_due(broker_now_ms))


@dataclass(kw_only=True)
class Sweep:
    """Sends ticks for the lanes of one worker."""

    lanes: Callable[[], Mapping[int, Lane]]
    outlet: Outlet
    commands_topic: str
    clock: BrokerClock
    monotonic_ms: Callable[[], float]
    ticks_sent: int = 0
    _under_way: set[int] = field(default_factory=set)

    async def run_once(self) -> int:
        """Send a tick to every lane that needs one; return how many were sent."""
        now_ms = self.clock.now_ms(self.monotonic_ms())
        lanes = self.lanes()
        due = [p for p, lane in lanes.items() if p not in self._under_way and needs_tick(lane, now_ms)]
        if due:
            await asyncio.gather(*(self._tick(partition, lanes[partition]) for partition in due))
        return len(due)

    async def _tick(self, partition: int, lane: Lane) -> None:
        crash_point("K9")
        self._under_way.add(partition)
        try:
            appended = await self.outlet.append(self.commands_topic, partition, [[(None, TICK, NO_HEADERS)]])
            lane.last_tick_offset = appended.last_offset
            self.ticks_sent += 1
        finally:
            self._under_way.discard(partition)
