"""One deployment from its first command to the last fire: applies a plan, then lets everything heal and drain.

Time is virtual and moves only when an action says so. Whatever can go on, goes on when an action picks it: a process's next
task, a thread's job, a batch on the wire. So a process can die between any two of them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from simulation import product, workload
from simulation.disk import Disk
from simulation.kafka import COMPACTION_LAG_MS, Batch, NoKafka, Partition, Wire, Written
from simulation.plan import Action, Options, Plan
from simulation.story import show
from simulation.tasks import Job, Killed, Pending
from simulation.worker import Names, Process
from wait_for_me_app.core.deadlines import NEVER_MS
from wait_for_me_app.crash_points import POINTS

START_MS: Final = 1_795_500_000_000
WORKER_POINTS: Final = tuple(sorted(point for point in POINTS if point.startswith("K")))
DEEPEST: Final = 2
"""How many threads may wait for Kafka inside each other."""


class Violation(BaseException):
    """Something happened that must never happen; `code` is stable."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class World:
    """The state of one deployment, and what may happen to it."""

    def __init__(self, plan: Plan) -> None:
        self.seed, self.plan, self.options = plan.seed, plan, plan.options
        partitions = plan.options.partitions
        self.now: float = START_MS
        self.broker_ahead_ms = 0
        self.slowest_answer_ms = 0
        self.commands = [Partition() for _ in range(partitions)]
        self.changelogs = [Partition() for _ in range(partitions)]
        self.fires = [Partition() for _ in range(partitions)]
        self.letters = [Partition() for _ in range(partitions)]
        self.logs = {
            Names.commands: self.commands,
            Names.changelog: self.changelogs,
            Names.fires: self.fires,
            Names.commands_dead_letters: self.letters,
        }
        self.runnable: list[Process] = []
        self.jobs: list[Job] = []
        self.wires: list[Wire] = []
        self.disks = [Disk() for _ in range(plan.options.workers)]
        self.processes: list[Process | None] = [None] * plan.options.workers
        self.members: list[Process] = []
        self.everyone: list[Process] = []
        self.preparing: tuple[int, int] | None = None
        self.sent: list[tuple[int, workload.Command]] = []
        self.loads: Counter[int] = Counter()
        self.words: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        self.story: list[str] | None = None
        self.at = 0
        self.depth = 0
        self.luck = plan.seed & 0x7FFFFFFF
        self.is_healing = False
        self._does: dict[str, Callable[[int, int], None]] = {
            "go": self._go, "send": self._send, "fetch": self._fetch, "time": self._time, "sweep": self._sweep,
            "look": self._look, "check": self._check, "kill": self._kill, "arm": self._arm, "restart": self._restart,
            "rebalance": self._rebalance, "zombie": self._zombie, "wake": self._wake, "fail": self._fail,
            "compact": self._compact, "quiet": self._quiet, "clock": self._clock, "broker_clock": self._broker_clock,
            "tail": self._tail, "hole": self._hole, "work": self._work,
        }  # fmt: skip

    # -- the plan

    def run(self) -> None:
        """Apply the whole plan."""
        for slot in range(self.options.workers):
            self._start(slot)
        self._rebalance(self.plan.seed, 0)
        actions = self.plan.actions
        while self.at < len(actions):
            self._act(actions[self.at])

    def _act(self, action: Action) -> None:
        self.at += 1
        name, a, b = action
        self.luck = a ^ (b << 7)  # of its own, so that leaving an action out does not change what the others choose
        if self.story is not None:
            self.story.append(f"{self.at - 1:4} {name} {a} {b}")
        self._does[name](a, b)

    def meanwhile(self) -> None:
        """A thread waits for Kafka: sometimes let the next actions happen before it is answered."""
        if self.is_healing or self.depth >= DEEPEST or not self.chance(3):
            return
        self.depth += 1
        for _ in range(1 + self.roll(60 if self.chance(3) else 8)):
            if self.at < len(self.plan.actions):
                luck = self.luck
                self._act(self.plan.actions[self.at])
                self.luck = luck
        self.depth -= 1

    def roll(self, sides: int) -> int:
        """Return a number below `sides` that depends on the plan alone."""
        self.luck = luck = (self.luck * 1103515245 + 12345) & 0x7FFFFFFF
        return (luck >> 8) % sides

    def chance(self, one_in: int) -> bool:
        """Return True once in so many calls."""
        return self.roll(one_in) == 0

    def count(self, what: str) -> None:
        """Count a fault or an event."""
        self.counts[what] += 1
        if self.story is not None:
            self.story.append(f"       * {what}")

    def tell(self, text: str) -> None:
        """Note something for the reader of a failing schedule."""
        if self.story is not None:
            self.story.append(f"       {text}")

    # -- whatever can go on

    def _go(self, _a: int, b: int) -> None:
        for _ in range(1 + b % 10):
            if not self._go_on():
                return

    def _go_on(self) -> bool:
        runnable, jobs, wires = self.runnable, self.jobs, self.wires
        total = len(runnable) + len(jobs) + len(wires)
        if not total:
            return False
        at = self.roll(total)
        if at < len(runnable):
            self._run_task(at)
        elif at < len(runnable) + len(jobs):
            self._run_job(at - len(runnable))
        else:
            self._move(at - len(runnable) - len(jobs))
        if self.preparing is not None:
            self._complete_rebalance()
        return True

    def _run_task(self, at: int) -> None:
        process = self.runnable[at]
        task = process.ready.popleft()
        if not process.ready:
            del self.runnable[at]
        before = product.Running.process
        product.Running.process = process
        task.run()
        product.Running.process = before

    def _run_job(self, at: int) -> None:
        job = self.jobs.pop(at)
        before = product.Running.process
        product.Running.process = job.process
        job.run()
        product.Running.process = before

    def _move(self, at: int) -> None:
        """Move the first batch of a wire: into the log, then its acknowledgement back."""
        wire = self.wires[at]
        batch, done = wire.requests[0]
        if self._is_refused(wire, batch, done):
            return
        if wire.under_way is None:
            wire.under_way = self._apply(wire, batch)
            if not wire.process.is_dead:
                return
        wire.requests.popleft()
        written, wire.under_way = wire.under_way, None
        if not wire.requests or wire.process.is_dead:
            del self.wires[at]
        if not wire.process.is_dead:
            self.slowest_answer_ms = max(self.slowest_answer_ms, self.broker_now_ms - written.timestamp)
            done.settle(written)

    def _apply(self, wire: Wire, batch: Batch) -> Written:
        at_ms = self.broker_now_ms
        first = wire.partition.append(batch.messages, at_ms)
        if self.story is not None:
            what = ", ".join(show(wire.name[0], key, value, headers) for key, value, headers in batch.messages)
            late = " (late, its process is dead)" if wire.process.is_dead else ""
            self.tell(f"w{wire.process.slot} -> {wire.name[0]} {wire.name[1]} #{first}{late}: {what}")
        return Written(first, at_ms)

    @property
    def broker_now_ms(self) -> int:
        """The broker's clock."""
        return int(self.now) + self.broker_ahead_ms

    # -- processes

    def _start(self, slot: int) -> None:
        process = Process(self, slot, self.disks[slot])
        rates = self.options.clock_rates
        process.clock_rate = rates[self.roll(len(rates))]
        process.clock_ahead_ms = float(self.roll(1_000_000))
        self.processes[slot] = process
        self.members.append(process)
        self.everyone.append(process)
        self.tell(f"w{slot} starts")

    def kill(self, process: Process) -> None:
        """End a process between two instructions; a request that is under way may still arrive."""
        if process.is_frozen:
            process.thaw()
        process.is_dead = True
        self.tell(f"w{process.slot} dies")
        if process in self.members:
            self.members.remove(process)
        if self.processes[process.slot] is process:
            self.processes[process.slot] = None
        if process in self.runnable:
            self.runnable.remove(process)
        self.jobs = [job for job in self.jobs if job.process is not process]
        for wire in process.wires.values():
            if wire.requests:
                self._leave_on_wire(wire)
        running = [task for task in process.tasks if task.coroutine.cr_running]
        for task in list(process.tasks):
            if task not in running:
                task.drop()

    def _leave_on_wire(self, wire: Wire) -> None:
        if wire.under_way is None and self.chance(3):
            self.count("late_request")
            while len(wire.requests) > 1:
                wire.requests.pop()
        else:
            wire.requests.clear()
            self.wires.remove(wire)

    def process_ended(self, process: Process, error: BaseException) -> None:
        """A process has ended itself."""
        if not (process.was_failed or self._may_raise(error)):
            raise Violation("CRASHED", f"w{process.slot} ended itself: {error!r}")
        self.kill(process)

    def _may_raise(self, error: BaseException) -> bool:
        return "on purpose" in repr(error)

    def _alive(self, a: int) -> Process | None:
        alive = [process for process in self.processes if process is not None]
        return alive[a % len(alive)] if alive else None

    # -- what a healthy deployment does

    def _send(self, _a: int, b: int) -> None:
        for _ in range(1 + b % 3):
            percent = self.roll(100)
            key, value, partition = self._command(percent)
            self.commands[partition].append([(key, value, ())], self.broker_now_ms)
            if self.story is not None:
                self.tell(
                    f"producer -> commands {partition} #{self.commands[partition].end - 1}: {show('commands', key, value, ())}"
                )
            if self.chance(3):
                self.now += self.roll(20)

    def _command(self, percent: int) -> tuple[bytes | None, bytes | None, int]:
        options, partitions = self.options, self.options.partitions
        bounds = options.percent_poison
        if percent < bounds:
            self.count("poison")
            group = workload.GROUPS[options.groups[self.roll(len(options.groups))]].encode()
            return group, workload.POISON[self.roll(len(workload.POISON))], self.roll(partitions)
        if percent < (bounds := bounds + options.percent_tick):
            return None, workload.TICK, self.roll(partitions)
        if percent < (bounds := bounds + options.percent_raises):
            self.count("raises")
            return None, workload.RAISES, self.roll(partitions)
        if percent < (bounds := bounds + options.percent_resend) and self.sent:
            self.count("duplicate")
            partition, (key, value) = self.sent[-1 - self.roll(min(8, len(self.sent)))]
            return key, value, partition
        group_text = workload.GROUPS[options.groups[self.roll(len(options.groups))]]
        event = workload.EVENTS[self.roll(len(workload.EVENTS))]
        if percent < bounds + options.percent_remove:
            command = workload.remove(group_text, event)
        else:
            participant = workload.PARTICIPANTS[self.roll(options.participants)]
            profile = options.profiles[self.roll(len(options.profiles))]
            command = workload.add(group_text, participant, event, profile)
        partition = workload.home(command[0], partitions)
        if partitions > 1 and self.roll(100) < options.percent_misplaced:
            self.count("misplaced")
            partition = (partition + 1) % partitions
        self.sent.append((partition, command))
        return *command, partition

    def _fetch(self, a: int, b: int) -> None:
        process = self._alive(a)
        if process is not None and process.positions and not process.is_frozen:
            partitions = list(process.positions)
            process.fetch(partitions[b % len(partitions)], 1 + (a >> 8) % 12)

    def _time(self, a: int, b: int) -> None:
        kind = b % 4
        if kind == 0:
            self._to_next_deadline(a)
        else:
            self.now += a % (5, 40, 300)[kind - 1]

    def _to_next_deadline(self, a: int) -> None:
        due = [lane.earliest_due_ms for process in self.members for lane in process.lanes.by_partition.values()]
        soonest = min(due, default=NEVER_MS)
        target = soonest - self.broker_ahead_ms + a % 4 - 1
        if self.now < target < self.now + 60_000:
            self.now = target

    def _sweep(self, a: int, _b: int) -> None:
        process = self._alive(a)
        if process is not None and process.lanes.is_ready:
            process.spawn("sweep", process.lanes.sweep.run_once)

    def _look(self, a: int, _b: int) -> None:
        process = self._alive(a)
        if process is not None:
            process.spawn("look", process.lanes.look_for_foreign_writers)

    def _check(self, a: int, _b: int) -> None:
        process = self._alive(a)
        if process is not None:
            process.spawn("check", process.lanes.check_commands_log)

    # -- membership

    def _rebalance(self, a: int, b: int) -> None:
        """Begin a rebalance; members whose runs do not end before the next one begins are left out, and do not know it."""
        if self.preparing is not None:
            for process in [one for one in self.members if one.runs_out]:
                self._leave_out(process)
        self.count("rebalance")
        for process in self.members:
            process.revoke()
        self.preparing = (a, b)
        self._complete_rebalance()

    def _complete_rebalance(self) -> None:
        members = self.members
        if self.preparing is None or any(process.runs_out for process in members):
            return
        a, b = self.preparing
        self.preparing = None
        if not members:
            return
        everyone = range(self.options.partitions)
        owner = {partition: members[(a + partition * (1 + b % 2)) % len(members)] for partition in everyone}
        for process in members:
            active = [partition for partition in everyone if owner[partition] is process]
            others = [partition for partition in everyone if owner[partition] is not process]
            self.tell(f"w{process.slot} is assigned {active}")
            process.assign(active, others if self.options.standby else ())

    def _leave_out(self, process: Process) -> None:
        self.count("zombie")
        process.is_zombie = True
        self.members.remove(process)
        self.tell(f"w{process.slot} is a zombie from now on")

    def _zombie(self, a: int, b: int) -> None:
        if len(self.members) > 1 and self.preparing is None:
            busy = [process for process in self.members if process.is_sending]
            candidates = busy or self.members
            process = candidates[a % len(candidates)]
            self._leave_out(process)
            if b % 3:
                process.freeze()
            self._rebalance(a, b)

    def _wake(self, a: int, b: int) -> None:
        zombies = [process for process in self.processes if process is not None and process.is_zombie]
        if not zombies:
            return
        process = zombies[a % len(zombies)]
        if process.is_frozen:
            process.thaw()
            self.tell(f"w{process.slot} goes on")
        else:
            self._rejoin(process)
            self._rebalance(a, b)

    def _rejoin(self, process: Process) -> None:
        process.is_zombie = False
        self.members.append(process)
        self.tell(f"w{process.slot} learns that it was left out")

    # -- faults

    def _kill(self, a: int, _b: int) -> None:
        process = self._alive(a)
        if process is not None:
            self.count("kill")
            self.kill(process)

    def _arm(self, a: int, b: int) -> None:
        process = self._alive(a)
        if process is not None:
            process.crash_at, process.crash_after = WORKER_POINTS[b % len(WORKER_POINTS)], 1 + (b >> 8) % 3

    def _restart(self, a: int, b: int) -> None:
        slots = [slot for slot, process in enumerate(self.processes) if process is None]
        if not slots:
            return
        slot, what = slots[a % len(slots)], b % 8
        if what == 0:
            self.count("store_lost")
            self.disks[slot].lose()
        elif what in (1, 2):
            self.count("store_older")
            self.disks[slot].go_back()
        self._start(slot)
        if (b >> 8) % 4:
            self._rebalance(a, b)

    def _fail(self, a: int, b: int) -> None:
        """Let one of a process's next requests fail."""
        process = self._alive(a)
        if process is not None:
            process.fails_after = 1 + b % 6

    def _is_refused(self, wire: Wire, batch: Batch, done: Pending) -> bool:
        """Return whether the request fails: its process is told so, whether or not the log has it."""
        process = wire.process
        if process.is_dead or not process.fails_after:
            return False
        process.fails_after -= 1
        if process.fails_after:
            return False
        self.count("request_failed")
        if wire.under_way is None and self.chance(2):
            self._apply(wire, batch)
        process.was_failed = True
        wire.requests.clear()
        wire.under_way = None
        self.wires.remove(wire)
        done.settle(None, NoKafka("no answer"))
        return True

    def _compact(self, a: int, b: int) -> None:
        log = self.changelogs[a % len(self.changelogs)]
        if log.records:
            self.count("compaction")
            log.compact(self.broker_now_ms, log.end if b % 3 else b % log.end)

    def _quiet(self, a: int, b: int) -> None:
        """Let hours pass in which nothing goes wrong, as every promise about compaction supposes."""
        if self.depth:
            return
        self.count("hours_pass")
        self._calm()
        self._heal_gaps()
        if not self._is_mended():
            return
        for hours in (1, 26, 1)[: 3 if b % 4 == 0 else 1]:
            for process in self.members:
                self._follow(process, 1_000_000)
            self.now += hours * COMPACTION_LAG_MS + 1
            for log in self.changelogs:
                if b & 8 and log.records:
                    log.compact(self.broker_now_ms, log.end if b & 16 else a % (log.end + 1))
            if b & 32:
                self.sweep_all()
                self.send_ticks()

    def _is_mended(self) -> bool:
        """Return whether every changelog has an owner who mends it, or nothing to mend: no older row behind a newer one of its key."""
        owned = {partition for process in self.members if process.lanes.is_ready for partition in process.positions}
        return all(partition in owned or log.is_in_order() for partition, log in enumerate(self.changelogs))

    def _clock(self, a: int, b: int) -> None:
        process = self._alive(a)
        if process is not None:
            self.count("worker_clock_jumps")
            process.clock_ahead_ms += b % 5_000

    def _broker_clock(self, a: int, _b: int) -> None:
        self.count("broker_clock_steps")
        self.broker_ahead_ms += a % 60 - 40

    def _tail(self, a: int, b: int) -> None:
        process = self._alive(a)
        if process is None or process.tail is None:
            return
        if b % 16 == 0 and not process.tail.is_over:
            self.count("standby_stops")
            process.tail.is_over = True
        self._follow(process, 1 + (b >> 4) % 8)

    def _follow(self, process: Process, at_most: int) -> None:
        before, product.Running.process = product.Running.process, process
        with suppress(Killed):
            if process.tail is not None and not process.tail.is_over:
                process.tail.follow(at_most)
        product.Running.process = before

    def _work(self, _a: int, _b: int) -> None:
        """Let everybody who is not frozen do all there is to do."""
        if not self.depth:
            self.drain()

    def _hole(self, a: int, _b: int) -> None:
        """A transaction's marker or an aborted record: an offset that no reader sees."""
        self.count("offset_hole")
        self.commands[a % len(self.commands)].end += 1

    # -- peace

    def finish(self) -> None:
        """End all faults and let everybody do what is left to do, without moving time."""
        for _ in range(50):
            self._calm()
            dead = [slot for slot, process in enumerate(self.processes) if process is None]
            for slot in dead:
                self._start(slot)
            if dead:
                self._rebalance(0, 0)
            self.drain()
            self._heal_gaps()
            self._heal_gaps()
            if None not in self.processes:
                return
        raise Violation("STUCK", "workers keep ending themselves")

    def _calm(self) -> None:
        """Let zombies learn the truth, and everything that is under way arrive."""
        healing, self.is_healing = self.is_healing, True
        alive = [process for process in self.processes if process is not None]
        for process in [one for one in alive if one.is_frozen]:
            process.thaw()
        self._settle()
        alive = [process for process in self.processes if process is not None]
        zombies = [process for process in alive if process.is_zombie]
        for process in alive:
            process.crash_at, process.fails_after = None, 0
        for process in zombies:
            self._rejoin(process)
        owned = [partition for process in self.members if process.lanes.is_ready for partition in process.positions]
        if zombies or sorted(owned) != list(range(self.options.partitions)):
            self._rebalance(1, 0)
        self._settle()
        self.is_healing = healing

    def _settle(self) -> None:
        """Let go on whatever can, until nothing can."""
        while self.runnable or self.jobs or self.wires:
            while self.runnable:
                self._run_task(0)
            while self.jobs:
                self._run_job(0)
            if self.wires:
                self._move(0)
            if self.preparing is not None:
                self._complete_rebalance()

    def drain(self) -> None:
        """Read and fold every command there is."""
        healing, self.is_healing = self.is_healing, True
        self._settle()
        progress = True
        while progress:
            progress = False
            for process in self.members:
                for partition in list(process.positions):
                    progress |= process.fetch(partition, 1000)
            self._settle()
        self.is_healing = healing

    def _heal_gaps(self) -> None:
        healing, self.is_healing = self.is_healing, True
        for process in self.members:
            process.spawn("look", process.lanes.look_for_foreign_writers)
        self._settle()
        self.is_healing = healing

    def close(self) -> None:
        """Forget every coroutine that is left, and cut what refers to each other: nobody collects garbage meanwhile."""
        for process in self.everyone:
            for task in list(process.tasks):
                if not task.coroutine.cr_running:
                    task.drop()
        for process in self.everyone:
            process.lanes.__dict__.clear()
            process.__dict__.clear()
        self.processes, self.members, self.everyone = [], [], []
        self._does = {}

    def history(self) -> str:
        """Return a fingerprint of everything that has been written, in which order and when."""
        digest = hashlib.blake2b(digest_size=16)
        for name, logs in self.logs.items():
            for partition, log in enumerate(logs):
                digest.update(f"{name} {partition} {log.end}\n".encode())
                for record in log.records:
                    digest.update(
                        f"{record.offset} {record.timestamp} {record.key!r} {record.value!r} {record.headers!r}\n".encode()
                    )
        digest.update(repr(sorted((self.counts + self.passed + self.hits).items())).encode())
        return digest.hexdigest()

    def send_ticks(self) -> None:
        """Give every lane something to do, so that it deletes what it has freed."""
        for log in self.commands:
            log.append([(None, workload.TICK, ())], self.broker_now_ms)
        self.drain()

    def sweep_all(self) -> None:
        """Have every worker look for deadlines, and fold what comes of it."""
        for process in self.members:
            process.spawn("sweep", process.lanes.sweep.run_once)
        self.drain()


def make_world(plan: Plan, *, with_story: bool = False) -> World:
    """Return the deployment in which a plan will happen; `product.doubles()` must be in place."""
    product.set_limits(plan.options)
    world = World(plan)
    world.story = [str(plan.options)] if with_story else None
    return world


__all__ = ["Options", "Violation", "World", "make_world"]
