"""Takes lanes over after a rebalance: restore, build, and only then begin to read.

    Recovery._restart_recovery   faust/tables/recovery.py:338   reads changelogs through the event path, and resumes event
                                                                partitions before seeking them: records delivered in between are
                                                                cleared away although they count as read (lost for ever)
    Recovery._slurp_changelogs   faust/tables/recovery.py:773   feeds that path, a record at a time (11,000 a second)
    Recovery._publish_stats      faust/tables/recovery.py:1008  reports on it
    TableManager.recovery        faust/tables/manager.py:119    creates the stock class

An exception here is the end of the worker; upstream swallows it (Recovery.on_recovery_completed, faust/tables/recovery.py:624).
"""

from __future__ import annotations

import logging
from typing import Any

from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from mode import Service

log = logging.getLogger(__name__)


class LaneRecovery(Recovery):
    """Hands the assignment to the lanes and opens their intakes when they are ready."""

    @Service.task
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):  # type: ignore[arg-type]  # as upstream, recovery.py:354
                break
            self.signal_recovery_start.clear()
            try:
                await self._wait(self._take_over(self._generation_id))
            except RebalanceAgain:
                log.info("take_over_interrupted")
            except ServiceStopped:
                break

    async def _take_over(self, generation_id: int) -> None:
        app: Any = self.app  # a LaneApp
        lanes = app.lanes
        self._set_recovery_started()
        try:
            positions = await lanes.take_over(_partitions(self.active_tps), _partitions(self.standby_tps))
        except Exception as error:
            lanes.fail(error)
            raise
        if app.consumer_generation_id != generation_id:
            log.info("take_over_outdated")
            return
        self._set_recovery_ended()
        app.flow_control.resume()  # clears queues, which are empty: nothing is delivered before the intakes open
        app.consumer.resume_flow()
        await app.consumer.open_intakes(positions)
        await app._fetcher.maybe_start()
        self.completed.set()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()
        await app.on_rebalance_complete.send()
        lanes.on_ready()

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Changelogs are read by `wait_for_me_app.restore`."""

    @Service.task
    async def _publish_stats(self) -> None:
        """Progress is logged by the lanes."""


class LaneTableManager(TableManager):
    """Uses `LaneRecovery`."""

    @property
    def recovery(self) -> Any:
        if self._recovery is None:
            self._recovery = LaneRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


def _partitions(tps: Any) -> list[int]:
    return sorted({tp.partition for tp in tps})
