"""A worker process: the real `Lanes`, `Lane`, `Fold`, `Sweep` and restore, with doubles for Kafka, disk, clock and Faust.

What Faust does around the lanes is told here again in a few lines: it feeds them through the real `Intake`, closes the intakes when a
rebalance begins, waits for the runs that are out, and takes lanes over when it has an assignment. A later assignment cancels a
take-over that is under way; its threads go on.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from simulation.disk import CHANGELOG_ID, Disk, Place
from simulation.kafka import Batch, Message, Producer, Record, Wire
from simulation.tasks import Job, Killed, Pending, Task
from wait_for_me.topic_names import TopicNames
from wait_for_me_app.broker_clock import BrokerClock
from wait_for_me_app.commands_log import CommandsLogCheck
from wait_for_me_app.faust_lanes.intake import Intake, sizes_of
from wait_for_me_app.faust_lanes.outlet import KafkaOutlet
from wait_for_me_app.lanes import Lanes
from wait_for_me_app.restore import Applier, Changelog

TOPICS: Final = TopicNames("t")
TOPIC_ID: Final = uuid.UUID("7d3c1f9e-0b5a-4a77-9d2e-3f6a1c8b5e40")


class Names:
    """`TopicNames` with the names made once."""

    commands, fires, changelog = TOPICS.commands, TOPICS.fires, TOPICS.changelog
    commands_dead_letters, worker_group = TOPICS.commands_dead_letters, TOPICS.worker_group


class WorkerSettings:
    """The settings that `Lanes` reads."""

    topics = Names
    demo_broker = False

    def __init__(self, process: Process) -> None:
        self.data_directory = Place(process)


class CommandsLog:
    """Stands for the admin client's look at the commands topic."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def look(self) -> CommandsLogCheck:
        process = self._process
        process.asks_kafka()
        ends = [log.end for log in process.world.commands]
        process.asks_kafka()
        return CommandsLogCheck(
            topic=Names.commands,
            topic_id=TOPIC_ID,
            partitions=len(ends),
            first_offsets=[0] * len(ends),
            end_offsets=ends,
        )

    def changelog_id(self) -> uuid.UUID:
        return CHANGELOG_ID


class Tail:
    """Stands for `StandbyTail`: follows the changelog a little whenever the schedule says so."""

    def __init__(self, process: Process, stores: dict[int, Any]) -> None:
        self._process, self._stores = process, stores
        self._appliers = {partition: Applier(store) for partition, store in stores.items()}
        self.is_over = False  # an error ends the real one's thread; nobody starts it again
        process.tail = self

    def follow(self, at_most: int) -> None:
        """Apply what has come, as `StandbyTail._follow` does."""
        for partition, applier in self._appliers.items():
            start = self._stores[partition].changelog_offset + 1
            records = self._process.world.changelogs[partition].read_from(start, at_most)
            for record in records:
                applier.take(Message(partition, record))  # type: ignore[arg-type]
            if records:
                applier.flush()

    def stop(self) -> None:
        self._process.tail = None


class SimulatedChangelog(Changelog):
    """The real one, but for the thread that a standby has."""

    def __init__(self, process: Process) -> None:
        super().__init__({"sim.process": process}, Names.changelog)
        self._process = process

    def tail(self, stores: Any) -> Any:
        return Tail(self._process, dict(stores))


class Process:
    """One life of a worker."""

    def __init__(self, world: Any, slot: int, disk: Disk) -> None:
        self.world, self.slot, self.disk = world, slot, disk
        self.is_dead = False
        self.is_zombie = False
        self.is_frozen = False
        self.held_jobs: list[Job] = []
        self.held_wires: list[Wire] = []
        self.was_failed = False
        self.fails_after = 0
        self.crash_at: str | None = None
        self.crash_after = 0
        self.tasks: dict[Task, None] = {}
        self.ready: deque[Task] = deque()
        self.wires: dict[tuple[str, int], Wire] = {}
        self.clock_rate, self.clock_ahead_ms, self.started_at_ms = 1.0, 0.0, world.now
        self.intakes: dict[int, Intake] = {}
        self.positions: dict[int, int] = {}
        self.generation = 0
        self.runs_out = 0
        self.taking_over: Task | None = None
        self.tail: Tail | None = None
        self.timers: dict[str, Task] = {}
        self._make_lanes()

    def _make_lanes(self) -> None:
        outlet = KafkaOutlet({}, on_appended=lambda at_ms, mono_ms: self.clock.observe(at_ms, mono_ms))
        outlet._producers = [Producer(self)]
        self.clock = BrokerClock()
        self.lanes = Lanes(
            WorkerSettings(self),  # type: ignore[arg-type]
            outlet=outlet,
            changelog=SimulatedChangelog(self),
            commands_log=CommandsLog(self),  # type: ignore[arg-type]
            clock=self.clock,
            end_process=self._end,
        )

    # -- clocks

    def monotonic_ms(self) -> float:
        """This machine's monotonic clock: it starts anywhere and runs as it likes."""
        return (self.world.now - self.started_at_ms) * self.clock_rate + self.clock_ahead_ms

    def wall_ms(self) -> int:
        return int(self.world.now)

    # -- what the doubles call

    def make_ready(self, task: Task) -> None:
        """Put a task behind those of this process that are ready."""
        if not self.ready and not self.is_frozen:
            self.world.runnable.append(self)
        self.ready.append(task)

    def freeze(self) -> None:
        """Stand still, and with it everything that is on the wire: a pause, or a network that holds everything back."""
        self.is_frozen = True
        world = self.world
        self.held_jobs = [job for job in world.jobs if job.process is self]
        self.held_wires = [wire for wire in world.wires if wire.process is self]
        world.jobs = [job for job in world.jobs if job.process is not self]
        world.wires = [wire for wire in world.wires if wire.process is not self]
        if self in world.runnable:
            world.runnable.remove(self)

    def thaw(self) -> None:
        """Go on where it stood still."""
        self.is_frozen = False
        self.world.jobs += self.held_jobs
        self.world.wires += self.held_wires
        if self.ready:
            self.world.runnable.append(self)

    @property
    def is_sending(self) -> bool:
        """Whether something of this process is on the wire."""
        return any(wire.requests for wire in self.wires.values())

    def asks_kafka(self) -> None:
        """A thread waits for an answer: others go on meanwhile, and this process may die."""
        if self.is_dead:
            raise Killed
        self.world.meanwhile()
        if self.is_dead:
            raise Killed

    def send(self, batch: Batch, topic: str, partition: int) -> Pending:
        """Put a batch on the wire."""
        wire = self.wires.get((topic, partition))
        if wire is None:
            log = self.world.logs[topic][partition]
            wire = self.wires[(topic, partition)] = Wire(self, log, (topic, partition))
        done = Pending()
        if not wire.requests:
            (self.held_wires if self.is_frozen else self.world.wires).append(wire)
        wire.requests.append((batch, done))
        return done

    def passes(self, point: str) -> None:
        """Come by a named crash point."""
        self.world.passed[point] += 1
        if self.crash_at == point:
            self.crash_after -= 1
            if self.crash_after <= 0:
                self.world.hits[point] += 1
                self.world.kill(self)
                raise Killed

    def task_failed(self, name: str, error: Exception) -> None:
        """A timer or a take-over that raises ends the worker; a run for a lane that has been given up is forgotten."""
        if name == "fold":
            self.world.count("run_without_lane" if isinstance(error, KeyError) else "run_raised")
        else:
            self.world.process_ended(self, error)

    def _end(self, error: BaseException) -> None:
        self.world.process_ended(self, error)
        raise Killed

    # -- what Faust does

    def spawn(self, name: str, make: Any) -> None:
        """Run one of the worker's timers, unless it is still running."""
        task = self.timers.get(name)
        if task is None or task.is_over:
            self.timers[name] = Task(self, make(), name)

    def revoke(self) -> None:
        """A rebalance begins: nothing more is delivered."""
        self.intakes = {}
        self.positions = {}

    def assign(self, active: Sequence[int], standby: Sequence[int]) -> None:
        """A rebalance has ended: take over, whatever was being taken over before."""
        self.generation += 1
        if self.taking_over is not None and not self.taking_over.is_over:
            self.world.count("take_over_cancelled")
            self.taking_over.cancel()
        self.taking_over = Task(self, self._take_over(self.generation, active, standby), "take_over")

    async def _take_over(self, generation: int, active: Sequence[int], standby: Sequence[int]) -> None:
        positions = await self.lanes.take_over(active, standby)
        if generation != self.generation:
            return
        self.intakes = {partition: Intake(offset) for partition, offset in positions.items()}
        self.positions = dict(positions)
        self.lanes.on_ready()

    def fetch(self, partition: int, at_most: int) -> bool:
        """Read commands of a lane and deliver a run if none is out; return whether there was anything."""
        intake = self.intakes.get(partition)
        if intake is None:
            return False
        records = self.world.commands[partition].read_from(self.positions[partition], at_most)
        if not records:
            return False
        self.positions[partition] = records[-1].offset + 1
        intake.offer(records, sizes_of(records))
        self._ring(partition, intake)
        return True

    def _ring(self, partition: int, intake: Intake) -> None:
        run = intake.take_run()
        if run:
            self.runs_out += 1
            Task(self, self._fold(partition, run), "fold")

    async def _fold(self, partition: int, run: list[Record]) -> None:
        try:
            if not await self.lanes.fold(partition, run):
                return
        finally:
            self.runs_out -= 1
        intake = self.intakes.get(partition)
        if intake is not None:
            intake.run_is_done()
            self._ring(partition, intake)
