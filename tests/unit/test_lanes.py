"""The lanes of one worker: taken over, kept, handed on, and checked while they work."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes import NOON_MS, TOPIC_ID, TOPICS, MemoryChangelog, MemoryOutlet, StillCommandsLog, add, new_lane, run_header
from wait_for_me.errors import NotReady
from wait_for_me.partitioner import partition_for
from wait_for_me_app import lanes as lanes_module
from wait_for_me_app.broker_clock import BrokerClock
from wait_for_me_app.commands_log import CommandsLogCheck, RefusedLog
from wait_for_me_app.exit_codes import ExitCode
from wait_for_me_app.lane import Lane, LaneFailure, Message
from wait_for_me_app.lanes import Lanes
from wait_for_me_app.settings import Settings
from wait_for_me_app.storage import keys

PARTITIONS = 3


def described(end: int = 100, *, topic_id: Any = TOPIC_ID, partitions: int = PARTITIONS, first: int = 0) -> Any:
    """A commands topic with the same offsets in each partition."""
    return CommandsLogCheck(
        topic=TOPICS.commands,
        topic_id=topic_id,
        partitions=partitions,
        first_offsets=[first] * PARTITIONS,
        end_offsets=[end] * PARTITIONS,
    )


class World:
    """A Kafka in memory, and workers on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.outlet = MemoryOutlet()
        self.commands_log = StillCommandsLog(described())
        self.ended: list[BaseException] = []
        self.workers: list[Lanes] = []

    def worker(self, name: str = "w") -> Lanes:
        """Start a worker with a data directory of its own."""
        settings = Settings(
            prefix=TOPICS.prefix,
            partitions=PARTITIONS,
            replication_factor=1,
            unsafe=True,
            data_dir=self.directory / name,
        )
        one = Lanes(
            settings,
            outlet=self.outlet,
            changelog=MemoryChangelog(self.outlet),  # type: ignore[arg-type]  # its twin in memory
            commands_log=self.commands_log,  # type: ignore[arg-type]
            clock=BrokerClock(),
            end_process=self.ended.append,
        )
        self.workers.append(one)
        return one

    def folding(self, lane: Lane, records: list[Any]) -> Callable[[], None]:
        """Return what has a lane fold these records, in its own loop, once, after they have come into the log."""
        loop, left = asyncio.get_running_loop(), [records]

        def fold() -> None:
            if left:
                self.commands_log.check = described(records[-1].offset + 1)
                asyncio.run_coroutine_threadsafe(lane.take(left.pop()), loop).result(10)

        return fold


@pytest.fixture
def world(tmp_path: Path) -> Any:
    """An empty Kafka; workers end with the test."""
    one = World(tmp_path)
    yield one
    for worker in one.workers:
        worker.close()


AT_HOME = [name for name in (f"g{number}" for number in range(3000)) if partition_for(name.encode(), PARTITIONS) == 0]
"""Groups that live on partition 0."""


def run(start: int, count: int) -> list[Any]:
    """Adds from this offset on; each opens a round in a group of its own."""
    return [add(offset, NOON_MS + start, AT_HOME[offset], of=9) for offset in range(start, start + count)]


# -- taking over


async def test_a_new_lane_begins_with_the_first_record(world: World) -> None:
    """Nothing has been folded yet."""
    world.commands_log.check = described(first=7)
    assert await world.worker().take_over([0, 2], []) == {0: 7, 2: 7}


async def test_a_lane_goes_on_behind_what_another_worker_has_folded(world: World) -> None:
    """Restored from the changelog, on another disk."""
    first, second = world.worker("a"), world.worker("b")
    await first.take_over([0], [])
    await first.fold(0, run(0, 2))
    assert await second.take_over([0], []) == {0: 2}
    assert second.by_partition[0].earliest_due_ms == NOON_MS + 60_000


async def test_a_lane_that_stays_is_kept_as_it_is(world: World) -> None:
    """Its hot rows and its deadlines need not be built again."""
    worker = world.worker()
    await worker.take_over([0], [])
    await worker.fold(0, run(0, 2))
    kept = worker.by_partition[0]
    assert await worker.take_over([0, 1], []) == {0: 2, 1: 0}
    assert worker.by_partition[0] is kept


async def test_a_lane_that_stays_but_was_written_by_another_is_built_anew(world: World) -> None:
    """Between two assignments it had another owner: what is in memory is old."""
    worker, other = world.worker("a"), world.worker("b")
    await worker.take_over([0], [])
    await worker.fold(0, run(0, 2))
    await other.take_over([0], [])
    await other.fold(0, run(2, 1))
    old = worker.by_partition[0]
    assert await worker.take_over([0], []) == {0: 3}
    assert worker.by_partition[0] is not old
    assert worker.by_partition[0].rows.get(AT_HOME[2].encode()) is not None


async def test_what_is_written_under_a_lane_that_stays_is_left_to_that_lane(world: World) -> None:
    """A restore would put rows into its store that its memory and its deadlines do not know of; the lane takes them over itself."""
    worker, zombie = world.worker("a"), world.worker("b")
    await worker.take_over([0], [])
    await worker.fold(0, run(0, 2))
    await zombie.take_over([0], [])
    kept = worker.by_partition[0]
    ahead = world.folding(zombie.by_partition[0], run(2, 2))
    worker._changelog.while_restoring = ahead  # type: ignore[attr-defined]  # MemoryChangelog
    assert await worker.take_over([0, 1], []) == {0: 2, 1: 0}
    assert worker.by_partition[0] is kept
    assert kept.store.get(keys.group_row_key(AT_HOME[2].encode())) is None
    worker.on_ready()
    await worker.look_for_foreign_writers()
    assert (kept.watermark, kept.waiting, len(kept.fold.deadlines)) == (3, 4, 4)


async def test_a_lane_that_is_healed_during_a_take_over_is_not_beyond_its_log(world: World) -> None:
    """A look for foreign writers may have begun before: what it takes over is newer than what the brokers have just said."""
    worker, zombie = world.worker("a"), world.worker("b")
    await worker.take_over([0], [])
    await worker.fold(0, run(0, 2))
    await zombie.take_over([0], [])
    kept, ahead = worker.by_partition[0], world.folding(zombie.by_partition[0], run(2, 2))
    loop, read = asyncio.get_running_loop(), worker._read_gap

    def heal() -> None:
        ahead()
        asyncio.run_coroutine_threadsafe(kept.heal(1 << 20, read), loop).result(10)

    world.commands_log.check, world.commands_log.while_looking = described(2), heal
    assert await worker.take_over([0, 1], []) == {0: 2, 1: 0}
    assert (worker.by_partition[0] is kept, kept.watermark) == (True, 3)


async def test_a_row_that_no_watermark_covers_is_kept_until_the_lane_has_come_as_far(world: World) -> None:
    """Its writer has died, and a slower one writes an older row behind it: neither the lane nor a later restore may take that."""
    opened = run(0, 2)
    more = [add(offset, NOON_MS + offset, AT_HOME[offset == 2], "qrs"[offset - 2], of=9) for offset in range(2, 5)]
    first, second = world.worker("a"), world.worker("b")
    await first.take_over([0], [])
    await first.fold(0, opened)
    ahead, behind = await row_after(opened, more), await row_after(opened, more[:2])
    world.outlet.write(TOPICS.changelog, 0, [[ahead]])
    await second.take_over([0], [])
    second.on_ready()
    await second.fold(0, more[:2])
    world.outlet.write(TOPICS.changelog, 0, [[behind]])
    await second.look_for_foreign_writers()
    lane = second.by_partition[0]
    last = [one for one in world.outlet.read(TOPICS.changelog) if one.key == ahead[0]][-1]
    assert (lane.watermark, lane.store.get(ahead[0] or b"")) == (3, ahead[1])
    assert (last.value, list(last.headers)) == (ahead[1], [run_header(4)])
    assert lane.store.changelog_offset < last.offset, "a restore must judge it once more"
    await second.fold(0, more)
    assert lane.store.changelog_offset == world.outlet.end(TOPICS.changelog) - 1


async def row_after(opened: list[Any], more: list[Any]) -> Message:
    """The record in which a worker writes the first group's row when it has folded these."""
    outlet = MemoryOutlet()
    lane = new_lane(outlet, partitions=PARTITIONS)
    await lane.take(opened)
    await lane.take(more)
    key = keys.group_row_key(AT_HOME[0].encode())
    last = [one for one in outlet.read(TOPICS.changelog) if one.key == key][-1]
    return last.key, last.value, list(last.headers)


async def test_a_lane_that_goes_gives_its_files_back(world: World) -> None:
    """And finds them again when it comes back."""
    worker = world.worker()
    await worker.take_over([0, 1], [])
    await worker.fold(0, run(0, 2))
    await worker.take_over([1], [])
    assert set(worker.by_partition) == {1}
    assert await worker.take_over([0, 1], []) == {0: 2, 1: 0}


async def test_a_standby_becomes_a_lane(world: World) -> None:
    """With the store that it has kept up to date."""
    owner, standby = world.worker("a"), world.worker("b")
    await owner.take_over([0], [])
    await owner.fold(0, run(0, 2))
    assert await standby.take_over([], [0]) == {}
    assert standby.by_partition == {}
    assert await standby.take_over([0], []) == {0: 2}


async def test_a_copy_that_stopped_following_long_ago_is_restored_from_the_beginning(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may have missed deletions that the changelog has forgotten, and would bring the rows back."""
    owner, standby = world.worker("a"), world.worker("b")
    await owner.take_over([0], [])
    await owner.fold(0, run(0, 2))
    await standby.take_over([], [0])
    stale = keys.group_row_key(b"deleted long ago")
    standby._stores[0].write([(stale, b"\x01")], standby._stores[0].changelog_offset)
    await owner.fold(0, run(2, 1))
    monkeypatch.setattr(lanes_module, "STORE_MAX_AGE_MS", -1)
    assert await standby.take_over([0], []) == {0: 3}
    assert "store_wiped" in caplog.text
    assert standby._stores[0].get(stale) is None


async def test_a_step_that_hangs_ends_the_next_take_over_and_holds_up_no_close(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose take-over waits for ever looks alive to its group while nobody folds its lanes."""
    monkeypatch.setattr(lanes_module, "STEP_SECONDS", 0.05)
    monkeypatch.setattr(lanes_module, "CLOSE_SECONDS", 0.05)
    worker = world.worker()
    with worker._one_step_at_a_time:
        with pytest.raises(TimeoutError, match="has not returned for"):
            await worker.take_over([0], [])
        assert worker.close() is False
    assert worker.close() is True


async def test_a_look_for_foreign_writers_waits_for_brokers_that_are_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes again every second; a worker must outlive its brokers."""
    worker = world.worker()
    await worker.take_over([0], [])
    worker.on_ready()

    def away(_: object) -> None:
        raise NotReady("the brokers are away")

    monkeypatch.setattr(worker._changelog, "bounds", away)
    await worker.look_for_foreign_writers()
    assert world.ended == []


async def test_a_store_that_is_ahead_of_its_changelog_is_emptied(world: World) -> None:
    """The changelog was truncated or made anew: what Kafka does not have has never been."""
    worker = world.worker()
    await worker.take_over([0], [])
    await worker.fold(0, run(0, 2))
    worker.close()
    world.outlet.logs.clear()
    again = world.worker()
    assert await again.take_over([0], []) == {0: 0}
    assert again.by_partition[0].rows.get(AT_HOME[0].encode()) is None


async def test_a_damaged_store_is_restored_from_the_changelog(world: World) -> None:
    """Wherever the damage is: the worker must not stop at every start, and no row may be missing."""
    worker = world.worker()
    await worker.take_over([0], [])
    await worker.fold(0, run(0, 800))
    worker._stores[0]._db.flush()
    worker.close()
    (table,) = world.directory.rglob("*.sst")
    content = bytearray(table.read_bytes())
    content[len(content) // 3] ^= 0xFF
    table.write_bytes(content)
    again = world.worker()
    world.commands_log.check = described(1000)
    assert await again.take_over([0], []) == {0: 800}
    assert len(again.by_partition[0].fold.deadlines) == 800


# -- refusals


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (described(first=5), "begins at offset 5"),
        (described(end=1), "ends at offset 1"),
        (described(topic_id=uuid.uuid4()), "created again"),
        (described(partitions=4), "4 partitions, but was folded with 3"),
    ],
)
async def test_a_lane_is_not_taken_over_if_its_log_cannot_be_continued(world: World, check: Any, reason: str) -> None:
    """The error reaches the caller, which ends the worker with the remedy."""
    worker = world.worker("a")
    await worker.take_over([0], [])
    await worker.fold(0, run(0, 2))
    world.commands_log.check = check
    with pytest.raises(RefusedLog, match=reason):
        await world.worker("b").take_over([0], [])


async def test_what_a_former_owner_folds_during_a_take_over_is_no_truncated_log(world: World) -> None:
    """A restore takes seconds and its watermark is new; the end of the commands log must not be older than it."""
    owner, successor = world.worker("a"), world.worker("b")
    await owner.take_over([0], [])
    await owner.fold(0, run(0, 2))
    world.commands_log.check = described(2)
    former = world.folding(owner.by_partition[0], run(2, 2))
    successor._changelog.while_restoring = former  # type: ignore[attr-defined]  # MemoryChangelog
    assert await successor.take_over([0], []) == {0: 4}


async def test_records_that_are_folded_while_the_log_is_looked_at_do_not_stop_the_worker(world: World) -> None:
    """The check of each minute asks the brokers, and the lane goes on meanwhile: its watermark may pass the end in the answer."""
    worker = world.worker()
    await worker.take_over([0], [])
    worker.on_ready()
    await worker.fold(0, run(0, 2))
    world.commands_log.check = described(2)
    world.commands_log.while_looking = world.folding(worker.by_partition[0], run(2, 1))
    await worker.check_commands_log()
    assert worker.by_partition[0].watermark == 2


@pytest.mark.parametrize(
    "check", [described(first=5), described(end=1), described(topic_id=uuid.uuid4()), described(partitions=4)]
)
async def test_a_worker_stops_within_a_minute_if_its_log_is_not_the_same_any_more(world: World, check: Any) -> None:
    """Whatever has happened to the topic while it worked."""
    worker = world.worker()
    await worker.take_over([0], [])
    worker.on_ready()
    await worker.fold(0, run(0, 2))
    await worker.check_commands_log()
    world.commands_log.check = check
    with pytest.raises(RefusedLog):
        await worker.check_commands_log()


# -- work


async def test_a_run_that_fails_ends_the_process(world: World) -> None:
    """And is not acknowledged: the failure goes on to the caller too."""
    worker = world.worker()
    await worker.take_over([0], [])
    world.outlet.refuse(TOPICS.changelog)
    with pytest.raises(LaneFailure) as caught:
        await worker.fold(0, run(0, 2))
    assert world.ended == [caught.value]


async def test_a_foreign_writer_is_found_without_a_run(world: World) -> None:
    """An idle lane looks at its changelog's end, too."""
    worker = world.worker()
    await worker.take_over([0, 1], [])
    worker.on_ready()
    await worker.fold(0, run(0, 2))
    world.outlet.write(TOPICS.changelog, 0, [[(keys.group_row_key(AT_HOME[0].encode()), b"\x01x", [run_header(0)])]])
    await worker.look_for_foreign_writers()
    assert worker.by_partition[0].counts.healed == 1
    assert worker.by_partition[1].counts.healed == 0


async def test_nothing_is_checked_before_the_lanes_are_fed(world: World) -> None:
    """During a rebalance the changelog may be another's rightfully."""
    worker = world.worker()
    await worker.take_over([0], [])
    world.outlet.write(TOPICS.changelog, 0, [[(keys.group_row_key(AT_HOME[0].encode()), b"\x01x", [run_header(0)])]])
    world.commands_log.check = described(first=5, end=5)
    await worker.look_for_foreign_writers()
    await worker.check_commands_log()
    assert worker.by_partition[0].counts.healed == 0
    assert not worker.is_ready


END_WITH = """
import os
from wait_for_me.errors import ConfigurationError, NotReady
from wait_for_me_app.commands_log import RefusedLog
from wait_for_me_app.faust_lanes.versions import UnfitInstallation
from wait_for_me_app.lane import LaneFailure
from wait_for_me_app import lanes as lanes_module
from wait_for_me_app.lanes import _end_process
errors = [LaneFailure("x"), RuntimeError("x"), RefusedLog("x"), ConfigurationError("x"), UnfitInstallation("x"), NotReady("x")]
codes = []
for error in errors:
    child = os.fork()
    if child == 0:
        _end_process(error)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(*codes)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_the_exit_code_says_whether_starting_again_helps() -> None:
    """70 does, 75 does when Kafka is back, 78 does not."""
    done = subprocess.run([sys.executable, "-c", END_WITH], capture_output=True, text=True, timeout=60, check=True)
    wanted = [ExitCode.INTERNAL_ERROR] * 2 + [ExitCode.BAD_CONFIGURATION] * 3 + [ExitCode.BROKER_OUT_OF_REACH]
    assert [int(code) for code in done.stdout.split()] == wanted
