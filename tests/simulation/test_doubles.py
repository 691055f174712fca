"""The simulated Kafka and the tasks keep the promises on which the simulation's verdicts rest."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from simulation.kafka import COMPACTION_LAG_MS, DELETE_RETENTION_MS, Partition
from simulation.tasks import Asyncio, Cancelled, Job, Pending, Task


def test_compaction_keeps_the_last_record_of_each_key() -> None:
    """And the offsets of what is left."""
    log = _log((b"a", b"1"), (b"b", b"2"), (b"a", b"3"))
    log.compact(COMPACTION_LAG_MS, log.end)
    assert [(one.offset, one.value) for one in log.records] == [(1, b"2"), (2, b"3")]
    assert log.end == 3


def test_compaction_leaves_young_records_and_those_behind_the_boundary() -> None:
    """A record only makes an older one go when both are being cleaned."""
    log = _log((b"a", b"1"), (b"a", b"2"))
    log.append([(b"a", b"3", ())], 1)
    log.compact(COMPACTION_LAG_MS, log.end)
    assert [one.value for one in log.records] == [b"2", b"3"]
    log.compact(2 * COMPACTION_LAG_MS, 2)
    assert [one.value for one in log.records] == [b"2", b"3"]


def test_a_tombstone_goes_when_it_has_been_kept_long_enough() -> None:
    """Counted from its first cleaning, as Kafka does."""
    log = _log((b"a", b"1"), (b"a", None))
    log.compact(COMPACTION_LAG_MS, log.end)
    log.compact(COMPACTION_LAG_MS + DELETE_RETENTION_MS - 1, log.end)
    assert [one.value for one in log.records] == [None]
    log.compact(COMPACTION_LAG_MS + DELETE_RETENTION_MS, log.end)
    assert log.records == []


def test_reading_skips_what_is_gone() -> None:
    """A consumer goes on at the next offset that there is."""
    log = _log((b"a", b"1"), (b"a", b"2"), (b"b", b"3"))
    log.compact(COMPACTION_LAG_MS, log.end)
    assert [one.offset for one in log.read_from(0, 10)] == [1, 2]
    assert [one.offset for one in log.read_from(2, 10)] == [2]


def _log(*records: tuple[bytes, bytes | None]) -> Partition:
    log = Partition()
    for key, value in records:
        log.append([(key, value, ())], 0)
    return log


class _World:
    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def chance(self, _one_in: int) -> bool:
        return True


class _Process:
    """As little of a process as tasks need."""

    is_dead = False

    def __init__(self) -> None:
        self.world = _World()
        self.tasks: dict[Any, None] = {}
        self.ready: deque[Task] = deque()
        self.failures: list[str] = []

    def make_ready(self, task: Task) -> None:
        self.ready.append(task)

    def task_failed(self, name: str, error: Exception) -> None:
        self.failures.append(f"{name}: {error}")

    def run(self) -> None:
        """Run whatever is ready."""
        while self.ready:
            self.ready.popleft().run()


@pytest.fixture
def process() -> _Process:
    """A process without a world around it."""
    return _Process()


def test_whoever_waits_first_for_a_lock_has_it_first(process: _Process) -> None:
    """Runs of one lane are folded in the order in which they were delivered."""
    asyncio, seen, gate = Asyncio(lambda: process), [], Pending()
    lock = asyncio.Lock()

    async def take(name: str) -> None:
        async with lock:
            await gate
            seen.append(name)

    for name in "abc":
        Task(process, take(name))
    process.run()
    gate.settle()
    process.run()
    assert seen == ["a", "b", "c"]


def test_a_gathered_failure_reaches_who_gathers(process: _Process) -> None:
    """And only that one: the parts have no name, so nobody else is told."""
    asyncio = Asyncio(lambda: process)

    async def fail() -> None:
        raise ValueError("no")

    async def gather() -> None:
        await asyncio.gather(fail(), fail())

    Task(process, gather(), "all")
    process.run()
    assert process.failures == ["all: no"]


def test_cancelling_does_not_stop_a_thread_that_runs(process: _Process) -> None:
    """Its caller is gone, its effects are not; one that no thread has begun is forgotten."""
    asyncio, seen = Asyncio(lambda: process), []

    async def wait() -> None:
        await asyncio.to_thread(seen.append, "ran")

    task = Task(process, wait())
    process.run()
    (job,) = process.world.jobs
    process.world.jobs.clear()
    task.cancel()
    assert isinstance(task.ended.error, Cancelled)
    job.run()
    assert seen == ["ran"]
    late = Task(process, wait())
    process.run()
    late.cancel()
    assert process.world.jobs == []
