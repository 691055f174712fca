"""All lanes of one worker: taking them over, handing them on, and ending the process when one fails.

Taking over a lane: open its store, restore it from the changelog, check that the commands log still holds what comes next, build the
deadline index, go on at watermark + 1. A lane that stays with this worker through a rebalance is kept as it is, if nobody has
written to its changelog meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from wait_for_me.errors import ConfigurationError, NotReady
from wait_for_me_app.broker_clock import BrokerClock
from wait_for_me_app.commands_log import CommandsLog, CommandsLogCheck, RefusedLog
from wait_for_me_app.core.effects import FireTimes, Identity
from wait_for_me_app.crash_points import crash_point
from wait_for_me_app.exit_codes import ExitCode
from wait_for_me_app.faust_lanes.versions import UnfitInstallation
from wait_for_me_app.lane import Gap, Lane, LaneFailure, Outlet
from wait_for_me_app.restore import Changelog, LogBounds, Restored
from wait_for_me_app.settings import Settings
from wait_for_me_app.storage.rocks_store import RocksStore, open_store
from wait_for_me_app.sweep import Sweep

log = logging.getLogger(__name__)

STORE_MAX_AGE_MS: Final = 12 * 3_600_000
"""Half of the changelog's delete.retention.ms, which `topics check` demands to be a day or more."""
STEP_SECONDS: Final = 30.0
"""How long a step of an interrupted take-over may hold up the next one: a little longer than the brokers may take to answer."""
CLOSE_SECONDS: Final = 2.0
HOT_ROWS_OF_A_WORKER: Final = 32_768


class Overtaken(Exception):
    """A later assignment has begun; what this one was about to do must not be done."""


class Lanes:
    """The lanes that this worker owns, by partition, and the copies that it keeps for others."""

    def __init__(
        self,
        settings: Settings,
        *,
        outlet: Outlet,
        changelog: Changelog,
        commands_log: CommandsLog,
        clock: BrokerClock,
        on_fired: Callable[[Sequence[FireTimes], int], None] = lambda _times, _appended_at_ms: None,
        end_process: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.settings = settings
        self.by_partition: dict[int, Lane] = {}
        self.clock = clock
        self.sweep = Sweep(
            lanes=lambda: self.by_partition,
            outlet=outlet,
            commands_topic=settings.topics.commands,
            clock=clock,
            monotonic_ms=lambda: time.monotonic() * 1000,
        )
        self.is_ready = False
        self.taken_over_in_seconds = 0.0
        self._outlet, self._changelog, self._commands_log = outlet, changelog, commands_log
        self._on_fired = on_fired
        self._stores: dict[int, RocksStore] = {}
        self._assignment = 0
        self._one_step_at_a_time = threading.Lock()
        self._tail: Any = None
        self._end_process = end_process or _end_process

    # -- assignment

    async def take_over(self, active: Sequence[int], standby: Sequence[int]) -> dict[int, int]:
        """Make these partitions' lanes ready; return the offset at which each goes on."""
        started = time.monotonic()
        self.is_ready = False
        crash_point("K8")
        self._assignment += 1
        assignment = self._assignment

        async def step(function: Callable[..., Any], *arguments: Any) -> Any:
            return await asyncio.to_thread(self._step, assignment, function, *arguments)

        for lane in list(self.by_partition.values()):
            await lane.settle()
        bounds = await step(self._changelog.bounds, active)
        for partition, lane in list(self.by_partition.items()):
            if partition not in bounds or not lane.is_sole_writer_until(bounds[partition].end):
                await lane.retire()
                self.by_partition.pop(partition, None)
        await step(self._let_go, set(active), set(standby))
        taken = [partition for partition in active if partition not in self.by_partition]
        restored = await step(self._restore, taken, lambda: assignment == self._assignment)
        # The log is looked at after every watermark that it is compared with: a healing that is still under way may move a kept lane's.
        watermarks = {partition: lane.watermark for partition, lane in self.by_partition.items()}
        check = await asyncio.to_thread(self._commands_log.look)
        for lane in self.by_partition.values():
            check.refuse_other_topic(lane.identity.topic_id, lane.identity.partitions)
        for partition in taken:
            self._adopt(partition, await step(self._lane, partition, restored[partition], check), check)
            watermarks[partition] = self.by_partition[partition].watermark
        await step(self._follow, standby)
        self.taken_over_in_seconds = time.monotonic() - started
        positions = {partition: check.position(partition, watermarks[partition]) for partition in active}
        log.info(
            "lanes_taken_over",
            extra={"active": list(active), "standby": list(standby), "seconds": round(self.taken_over_in_seconds, 3)},
        )
        return positions

    def on_ready(self) -> None:
        """Note that the lanes are being fed."""
        self.is_ready = True
        log.info("worker_ready", extra={"lanes": len(self.by_partition)})

    def close(self) -> bool:
        """Close every store, and what read the changelog; return False if a step of a take-over still has them.

        Then they are left as they are: a store that is not closed is one whose process was killed, and its copy is in Kafka.
        """
        self._assignment += 1
        if not self._one_step_at_a_time.acquire(timeout=CLOSE_SECONDS):
            log.warning("stores_left_open")
            return False
        try:
            self._let_go(set(), set())
        finally:
            self._one_step_at_a_time.release()
        self._changelog.close()
        return True

    def _step(self, assignment: int, function: Callable[..., Any], *arguments: Any) -> Any:
        """Do a step of a take-over in this thread, unless a later assignment has overtaken it.

        A rebalance may interrupt a take-over while one of its steps still runs in a thread, which nothing can stop: the next
        take-over's steps wait for it, so that no store is opened behind its back. Not for ever: a worker whose lanes nobody
        folds looks alive to its group, so it must end.
        """
        if not self._one_step_at_a_time.acquire(timeout=STEP_SECONDS):
            raise TimeoutError(f"a step of an earlier take-over has not returned for {STEP_SECONDS:.0f} s")
        try:
            if assignment != self._assignment:
                raise Overtaken(f"assignment {assignment} was followed by {self._assignment}")
            return function(*arguments)
        finally:
            self._one_step_at_a_time.release()

    def _lane(self, partition: int, restored: Restored, check: CommandsLogCheck) -> Lane:
        identity = Identity(
            topic_id=check.topic_id,
            partition=partition,
            partitions=check.partitions,
            trust_create_time=self.settings.demo_broker,
        )
        return Lane(
            identity=identity,
            topics=self.settings.topics,
            store=self._stores[partition],
            outlet=self._outlet,
            changelog_end=restored.own_until,
            restored_until=restored.end,
            newest=restored.newest,
            hot_rows=max(1024, HOT_ROWS_OF_A_WORKER // check.partitions),
            on_fired=self._on_fired,
        )

    def _adopt(self, partition: int, lane: Lane, check: CommandsLogCheck) -> None:
        self.by_partition[partition] = lane
        if lane.folded_topic is not None:
            check.refuse_other_topic(*lane.folded_topic)

    # -- stores

    def _let_go(self, active: set[int], standby: set[int]) -> None:
        if self._tail is not None:
            self._tail.stop()
            self._tail = None
        for partition in set(self.by_partition) - active:
            del self.by_partition[partition]
        for partition in set(self._stores) - active - standby:
            self._stores.pop(partition).close()

    def _restore(self, partitions: Sequence[int], goes_on: Callable[[], bool]) -> dict[int, Restored]:
        """Bring stores up to their changelogs; never that of a lane that is kept, which has its own view of its rows in memory."""
        for partition in partitions:
            self._open(partition)
        bounds = self._changelog.bounds(partitions)
        for partition in partitions:
            store, found = self._stores[partition], bounds[partition]
            if (reason := _why_unfit(store, found)) is not None:
                log.warning("store_wiped", extra={"partition": partition, "reason": reason})
                store.wipe()
        return self._changelog.restore({partition: self._stores[partition] for partition in partitions}, goes_on)

    def _follow(self, partitions: Sequence[int]) -> None:
        if partitions:
            for partition in partitions:
                self._open(partition)
            self._tail = self._changelog.tail({partition: self._stores[partition] for partition in partitions})

    def _open(self, partition: int) -> None:
        if partition not in self._stores:
            directory = self.settings.data_directory / "rows" / self.settings.topics.changelog / str(partition)
            self._stores[partition] = open_store(
                directory, topic_id=self._commands_log.changelog_id(), oldest_ms=_oldest_ms()
            )

    # -- work

    async def fold(self, partition: int, records: Sequence[Any]) -> bool:
        """Fold a run on its lane; when this returns it is safe, unless the lane has been given up. A failure ends the process."""
        lane = self.by_partition.get(partition)
        if lane is None:
            return False
        try:
            return await lane.take(records)
        except LaneFailure as error:
            self.fail(error)
            raise

    async def look_for_foreign_writers(self) -> None:
        """Compare every changelog's end with what its lane expects, and have gaps healed."""
        if not self.is_ready or not self.by_partition:
            return
        lanes = dict(self.by_partition)
        try:
            bounds = await asyncio.to_thread(self._changelog.bounds, list(lanes))
        except NotReady as error:
            # Every append sees a gap too, so nothing is missed: ask again when the brokers are back.
            log.warning("changelog_out_of_reach", extra={"error": str(error)})
            return
        for partition, lane in lanes.items():
            if self.by_partition.get(partition) is lane and bounds[partition].end > lane.changelog_end:
                await lane.heal(bounds[partition].end, self._read_gap)

    async def check_commands_log(self) -> None:
        """Stop the worker if the commands topic was re-created, repartitioned, or lost what is still to be read."""
        if not self.is_ready:
            return
        watermarks = {
            partition: lane.watermark for partition, lane in self.by_partition.items()
        }  # lanes go on meanwhile
        check = await asyncio.to_thread(self._commands_log.look)
        for partition, lane in list(self.by_partition.items()):
            check.refuse_other_topic(lane.identity.topic_id, lane.identity.partitions)
            if partition in watermarks:
                check.position(partition, watermarks[partition])

    async def _read_gap(self, partition: int, start: int) -> Gap:
        return await asyncio.to_thread(self._changelog.read_gap, partition, start)

    def fail(self, error: BaseException) -> None:
        """End the process: what has not been acknowledged will be folded again by a successor."""
        self._end_process(error)


def _oldest_ms() -> int:
    return time.time_ns() // 1_000_000 - STORE_MAX_AGE_MS


def _why_unfit(store: RocksStore, found: LogBounds) -> str | None:
    """Say why a store cannot be brought up to a changelog with these bounds; a copy whose follower has stopped grows old while open."""
    if store.changelog_offset >= 0 and not found.first - 1 <= store.changelog_offset < found.end:
        return "it does not fit its changelog"
    if store.changelog_offset + 1 < found.end and store.written_at_ms < _oldest_ms():
        return "it has not followed its changelog for half of delete.retention.ms"
    return None


def _end_process(error: BaseException) -> NoReturn:
    code = ExitCode.INTERNAL_ERROR
    if isinstance(error, (RefusedLog, ConfigurationError, UnfitInstallation)):
        code = ExitCode.BAD_CONFIGURATION
    elif isinstance(error, NotReady):
        code = ExitCode.BROKER_OUT_OF_REACH
    log.critical("worker_ends", extra={"error": str(error)}, exc_info=error)
    logging.shutdown()
    os._exit(int(code))
