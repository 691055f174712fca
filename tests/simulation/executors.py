"""Executors on one fires topic: the real `Executor`, turn by turn, with crashes at every point, lost leases and callbacks that misbehave.

An executor talks to Kafka from one thread, so a step is one turn of its loop; a crash may come at a named point inside a turn, and
between any two turns with any part of what it has sent on the way.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from random import Random
from types import SimpleNamespace
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError

from simulation.executor_doubles import GroupConsumer, OutcomesProducer, Reader, Runner, RunningCall
from simulation.kafka import Partition
from simulation.plan import Action
from simulation.tasks import Killed
from simulation.world import START_MS, Violation
from wait_for_me.topic_names import TopicNames
from wait_for_me_app.callbacks import Registry
from wait_for_me_app.core.fires import FireIds
from wait_for_me_app.executor import outbox as executor_outbox
from wait_for_me_app.executor import process as executor
from wait_for_me_app.executor.effects import Now, Start
from wait_for_me_app.executor.options import ExecutorOptions
from wait_for_me_app.executor.outbox import ExecutorFailure
from wait_for_me_app.outcomes import Finished, decode_outcome, parse_key

POINTS: Final = ("X1", "X2", "X3", "X4", "X5")
TOPICS: Final = TopicNames("t")
ATTEMPTS: Final = 3
TIME_LIMIT_MS: Final = 1_000
STARTS_WITHOUT_END: Final = 3
SESSION_MS: Final = 10_000

STEPS: Final = {"turn": 40, "arrive": 30, "answer": 8, "fire": 10, "time": 10}
FAULTS: Final = {
    "kill": 2,
    "arm": 6,
    "restart": 5,
    "move": 2,
    "lose": 2,
    "refuse": 1,
    "compact": 1,
    "stop": 1,
    "copy": 3,
    "garbage": 1,
    "pause": 1,
}
ALWAYS: Final = frozenset({"restart"})

OPTIONS: Final = ExecutorOptions(
    threads=2, tasks=2, patience_ms=600, parked_look_ms=200, starts_without_end=STARTS_WITHOUT_END, start_margin_ms=200,
    look_again_ms=100, commit_every_ms=50, pending_fires=20, stop_grace_ms=500,
)  # fmt: skip


def make_actions(seed: int, most: int = 160) -> tuple[Action, ...]:
    """Return the schedule of a seed."""
    random = Random(f"wait-for-me executors {seed}")
    weights = dict(STEPS)
    for name, weight in FAULTS.items():
        if name in ALWAYS or random.random() < 0.6:
            weights[name] = weight * random.choice((1, 1, 3))
    names = random.choices(list(weights), list(weights.values()), k=random.randint(most // 3, most))
    bits = random.getrandbits
    return tuple((name, bits(24), bits(24)) for name in names)


def _plain(*_args: Any, fire: Any = None) -> None:
    """Callbacks do nothing themselves: how one ends is the schedule's choice."""


async def _async(*_args: Any, fire: Any = None) -> None:
    """As above, for an async one."""


def registry() -> Registry:
    """Return the callbacks that every executor knows."""
    known = Registry()
    limits: dict[str, Any] = {
        "attempts": ATTEMPTS,
        "timeout_in_seconds": TIME_LIMIT_MS // 1000,
        "first_wait_in_seconds": 0.1,
        "longest_wait_in_seconds": 1,
    }
    known.callback("plain", **limits)(_plain)
    known.callback("async", **limits)(_async)
    known.callback("killer", **limits)(_plain)
    return known


class CallFailed(Exception):
    """A callback that failed."""


class Process:
    """One life of an executor."""

    def __init__(self, world: Executors, number: int) -> None:
        self.world, self.number = world, number
        self.is_dead = False
        self.is_refused = False
        self.held: set[int] = set()
        self.clock_ahead_ms = world.roll(3) * 40
        self.crash_at: str | None = None
        self.crash_after = 0
        self.consumer, self.producer, self.reader, self.runner = (
            GroupConsumer(self),
            OutcomesProducer(self),
            Reader(self),
            Runner(self),
        )
        _Doubles.process = self
        settings: Any = SimpleNamespace(
            topics=TOPICS,
            worker_id=f"x{number}",
            session_timeout_ms=SESSION_MS,
            log_format="text",
            log_level="info",
            executor_metrics_port=0,
        )
        self.executor = executor.Executor(settings, registry(), OPTIONS, self.clock)
        self.executor._begin()

    def clock(self) -> Now:
        """This machine's clocks."""
        return Now(wall_ms=int(self.world.now) + self.clock_ahead_ms, steady_ms=int(self.world.now) - START_MS)

    def passes(self, point: str) -> None:
        """Come by a named crash point."""
        if self.crash_at == point:
            self.crash_after -= 1
            if self.crash_after <= 0:
                self.world.hits[point] += 1
                self.world.kill(self)
                raise Killed


class _Doubles:
    process: Any = None


def doubles() -> list[tuple[Any, str, Any]]:
    """Return what is put into the executor's modules while a simulation runs."""
    return [
        (executor, "make_consumer", lambda *_: _Doubles.process.consumer),
        (executor, "make_producer", lambda *_: _Doubles.process.producer),
        (executor, "make_reader", lambda *_: None),
        (executor, "OutcomesReader", lambda *_: _Doubles.process.reader),
        (executor, "os", SimpleNamespace(getpid=lambda: _Doubles.process.number)),
        (executor, "Runner", lambda **_: _Doubles.process.runner),
        (executor, "crash_point", lambda point: _Doubles.process.passes(point)),
        (executor_outbox, "crash_point", lambda point: _Doubles.process.passes(point)),
    ]


class Executors:
    """All executors, the topics they share, and what has become of every callback."""

    def __init__(self, seed: int, actions: tuple[Action, ...]) -> None:
        self.seed, self.actions = seed, actions
        random = Random(f"wait-for-me executors' world {seed}")
        self.now: float = START_MS
        self.fires = [Partition() for _ in range(random.choice((1, 2)))]
        self.outcomes = [Partition() for _ in self.fires]
        self.letters = [Partition() for _ in self.fires]
        self.committed = [0 for _ in self.fires]
        self.owner: dict[int, Process] = {}
        self.wanted: dict[int, Process] = {}
        self.lease: Counter[int] = Counter()
        self.slots: list[Process | None] = [None] * random.choice((1, 2, 2, 3))
        self.luck = seed & 0x7FFFFFFF
        self.is_healing = False
        self.sent: list[tuple[int, bytes, bytes]] = []
        self.expected: dict[str, tuple[int, str]] = {}
        self.garbage: set[tuple[int, int]] = set()
        self.finals: dict[str, list[Finished]] = {}
        self.progress: dict[bytes, None] = {}
        self.starts: Counter[str] = Counter()
        self.successes: Counter[str] = Counter()
        self.too_late: Counter[str] = Counter()
        self.interruptions: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        self.words: Counter[str] = Counter()
        self.story: list[str] | None = None

    # -- the plan

    def run(self) -> None:
        """Apply the whole plan, then heal and judge."""
        for number in range(len(self.slots)):
            self._start(number)
        self._assign_all()
        for name, a, b in self.actions:
            self.luck = a ^ (b << 7)
            self.tell(f"{name} {a} {b}")
            getattr(self, f"_do_{name}")(a, b)
        self._heal()

    def roll(self, sides: int) -> int:
        """Return a number below `sides` that depends on the plan alone."""
        self.luck = luck = (self.luck * 1103515245 + 12345) & 0x7FFFFFFF
        return (luck >> 8) % sides

    def chance(self, one_in: int) -> bool:
        """Return True once in so many calls."""
        return self.roll(one_in) == 0

    def count(self, what: str) -> None:
        """Count a fault."""
        self.counts[what] += 1
        self.tell(f"* {what}")

    def tell(self, text: str) -> None:
        """Note something for the reader of a failing schedule."""
        if self.story is not None:
            self.story.append(f"{self.now - START_MS:8.0f} {text}")

    def history(self) -> str:
        """Return a fingerprint of everything that has been written, in which order and when."""
        digest = hashlib.blake2b(digest_size=16)
        for log in (*self.fires, *self.outcomes, *self.letters):
            for record in log.records:
                digest.update(f"{record.offset} {record.timestamp} {record.key!r} {record.value!r}\n".encode())
        digest.update(repr(sorted((self.counts + self.hits).items())).encode())
        return digest.hexdigest()

    # -- what the doubles call

    def pass_time(self, _process: Process, seconds: float) -> None:
        """A process waits."""
        self.now += min(10.0, max(1.0, seconds * 1000))  # others wait at the same time, so waits do not add up

    def append(self, topic: str, partition: int, message: Any) -> None:
        """A record of an executor arrives."""
        logs = self.outcomes if topic == TOPICS.outcomes else self.letters
        logs[partition].append([message], int(self.now))
        if topic == TOPICS.outcomes:
            self._note_outcome(message[0], message[1])
        if self.story is not None:
            self.tell(f"-> {topic} {partition}: {message[0]!r} {(message[1] or b'deleted')[:260]!r}")

    def _note_outcome(self, key: bytes, value: bytes | None) -> None:
        parsed = parse_key(key)
        assert parsed is not None
        if not parsed[1]:
            outcome = decode_outcome(value or b"")
            assert isinstance(outcome, Finished)
            self.finals.setdefault(outcome.fire_id, []).append(outcome)
        elif value is None:
            self.progress.pop(key, None)
        else:
            self.progress[key] = None

    def released(self, partition: int, lease: int) -> None:
        """A process has let a partition go."""
        if self.lease[partition] == lease:
            self.owner.pop(partition, None)

    def begin_call(self, process: Process, start: Start) -> RunningCall:
        """A callback starts; how it will end is decided now."""
        fire = start.call.kwargs.get("fire") or next(iter(start.call.args), None)
        fire_id = fire.fire_id
        self.tell(f"x{process.number} runs {fire.execute_after_waiting} for {fire_id}")
        if fire_id not in self.expected:
            raise Violation("GHOST", f"a callback runs for {fire_id}, which nobody has sent")
        self.starts[fire_id] += 1
        if fire.execute_after_waiting == "killer" and (self.is_healing or not self.chance(4)):
            self.count("killed_by_callback")
            self.kill(process)
            raise Killed
        how = 0 if self.is_healing and self.chance(2) else self.roll(8)
        lasts_ms = (5, 5, 20, 300, 1_500, 6_000, 20, 5)[how]
        error = CallFailed("it failed") if how in (1, 6) else None
        return RunningCall(start=start, ends_at_ms=self.now + lasts_ms, lasts_ms=lasts_ms, error=error)

    def end_call(self, _process: Process, call: RunningCall) -> BaseException | None:
        """A callback ends; if it was not stopped and did not fail, its effect has happened."""
        fire = call.start.call.kwargs.get("fire") or next(iter(call.start.call.args), None)
        if call.is_cancelled:
            return CallFailed("cancelled")
        if call.error is None:
            self.successes[fire.fire_id] += 1
            self.too_late[fire.fire_id] += call.lasts_ms > TIME_LIMIT_MS
        return call.error

    # -- processes

    def _start(self, number: int) -> None:
        self.slots[number] = Process(self, number)
        self.tell(f"x{number} starts")

    def kill(self, process: Process) -> None:
        """End a process between two instructions; the first records that it has sent may still arrive."""
        process.is_dead = True
        self.tell(f"x{process.number} dies")
        self.slots[process.number] = None
        for _ in range(self.roll(1 + len(process.producer.waiting))):
            process.producer.failure = None
            process.producer.arrive()
        for partition in process.held:
            self._interrupt(partition)
            if self.owner.get(partition) is process:
                del self.owner[partition]
        for call in process.runner.running.values():
            if call.error is None and self.chance(2):
                self.end_call(process, call)

    def _interrupt(self, partition: int) -> None:
        """Whatever is not final on this partition may have been done without anybody knowing."""
        unfinished = [one for one, (where, _) in self.expected.items() if where == partition and one not in self.finals]
        self.interruptions.update(unfinished)

    def _alive(self, a: int) -> Process | None:
        alive = [process for process in self.slots if process is not None]
        return alive[a % len(alive)] if alive else None

    def _turn(self, process: Process) -> None:
        _Doubles.process = process
        try:
            process.executor._turn()
        except Killed:
            pass
        except ExecutorFailure as error:
            if not process.is_refused:
                raise Violation("CRASHED", f"x{process.number}: {error!r}") from error
            self.kill(process)
        except Violation:
            raise
        except Exception as error:
            raise Violation("CRASHED", f"x{process.number}: {error!r}") from error
        self._hand_out()

    def _assign_all(self) -> None:
        """Decide whose the partitions are to be; one that is held is asked for first (cooperative rebalancing)."""
        alive = [process for process in self.slots if process is not None]
        if not alive:
            return
        for partition in range(len(self.fires)):
            self.wanted[partition] = alive[(partition + self.roll(len(alive))) % len(alive)]
            owner = self.owner.get(partition)
            if owner is not None and owner is not self.wanted[partition]:
                owner.consumer.orders.append(("revoke", partition, self.lease[partition]))
        self._hand_out()

    def _hand_out(self) -> None:
        for partition, process in list(self.wanted.items()):
            if process.is_dead:
                del self.wanted[partition]
            elif partition not in self.owner:
                del self.wanted[partition]
                self.owner[partition] = process
                process.held.add(partition)
                self.tell(f"x{process.number} is assigned {partition}")
                self.lease[partition] += 1
                process.consumer.orders.append(("assign", partition, self.lease[partition]))
            elif self.owner[partition] is process:
                del self.wanted[partition]

    # -- actions

    def _do_turn(self, a: int, b: int) -> None:
        for index in range(1 + b % 4):
            process = self._alive(a + index)
            if process is not None:
                self._turn(process)

    def _do_arrive(self, a: int, b: int) -> None:
        process = self._alive(a)
        if process is not None:
            for _ in range(1 + b % 6):
                if process.producer.waiting:
                    process.producer.arrive()

    def _do_answer(self, a: int, _b: int) -> None:
        process = self._alive(a)
        if process is not None:
            process.reader.answer()

    def _do_fire(self, a: int, b: int) -> None:
        for _ in range(1 + b % 3):
            partition = self.roll(len(self.fires))
            name = _NAMES[self.roll(len(_NAMES))]
            params: Any = [] if self.roll(9) else {"no_such_parameter": 1}
            fire_id = FireIds(_TOPIC_ID, partition)(len(self.sent))
            value = _fire(fire_id, name, params, partition, len(self.sent))
            self.sent.append((partition, fire_id.encode(), value))
            self.expected[fire_id] = (partition, "dead" if params or name == "unknown" else "")
            self.fires[partition].append([(b"g", value, ())], int(self.now))
            self.tell(f"fire {name} {params} {fire_id} -> {partition}")

    def _do_copy(self, a: int, _b: int) -> None:
        if self.sent:
            partition, _, value = self.sent[a % len(self.sent)]
            self.count("fire_copied")
            self.fires[partition].append([(b"g", value, ())], int(self.now))

    def _do_garbage(self, a: int, b: int) -> None:
        partition = a % len(self.fires)
        self.count("garbage")
        offset = self.fires[partition].append(
            [(b"g", (None, b"", b"[]", b'{"type":"fire"}')[b % 4], ())], int(self.now)
        )
        self.garbage.add((partition, offset))

    def _do_time(self, a: int, b: int) -> None:
        self.now += a % (5, 60, 400, 2_000)[b % 4]

    def _do_pause(self, a: int, _b: int) -> None:
        """Everybody stands still for longer than half a session."""
        self.count("standstill")
        self.now += SESSION_MS // 2 + a % SESSION_MS

    def _do_kill(self, a: int, _b: int) -> None:
        process = self._alive(a)
        if process is not None:
            self.count("kill")
            self.kill(process)

    def _do_arm(self, a: int, b: int) -> None:
        process = self._alive(a)
        if process is not None:
            process.crash_at, process.crash_after = POINTS[b % 5], 1 + (b >> 8) % 3

    def _do_restart(self, a: int, _b: int) -> None:
        empty = [number for number, process in enumerate(self.slots) if process is None]
        if empty:
            self._start(empty[a % len(empty)])
            self._assign_all()

    def _do_move(self, _a: int, _b: int) -> None:
        self.count("rebalance")
        self._assign_all()

    def _do_lose(self, a: int, _b: int) -> None:
        """The group gives a partition away; who held it hears of it later, and goes on meanwhile."""
        held = list(self.owner.items())
        alive = [process for process in self.slots if process is not None]
        if not held or len(alive) < 2:
            return
        partition, process = held[a % len(held)]
        self.count("lease_lost")
        self._interrupt(partition)
        del self.owner[partition]
        self.wanted[partition] = alive[(alive.index(process) + 1) % len(alive)]
        process.consumer.orders.append(("lost", partition, self.lease[partition]))
        self._hand_out()

    def _do_refuse(self, a: int, _b: int) -> None:
        process = self._alive(a)
        if process is not None and process.producer.waiting:
            self.count("request_failed")
            process.is_refused = True
            process.producer.failure = _REFUSED

    def _do_compact(self, a: int, b: int) -> None:
        log = self.outcomes[a % len(self.outcomes)]
        if log.records:
            self.count("compaction")
            log.compact(int(self.now) + 10_000_000, log.end if b % 3 else b % log.end)

    def _do_stop(self, a: int, _b: int) -> None:
        process = self._alive(a)
        if process is None:
            return
        self.count("stopped")
        _Doubles.process = process
        try:
            process.executor._wind_down()
        except (Killed, ExecutorFailure):
            pass
        except Exception as error:
            raise Violation("CRASHED", f"x{process.number}: {error!r}") from error
        if not process.is_dead:
            process.executor._close()
            self.kill(process)

    # -- peace

    def _heal(self) -> None:
        self.is_healing = True
        for number, process in enumerate(self.slots):
            if process is None:
                self._start(number)
        for process in [one for one in self.slots if one is not None]:
            process.crash_at = None
            process.producer.failure = None
        self._assign_all()
        for _ in range(3_000):
            for number, process in enumerate(self.slots):
                if process is None:
                    self._start(number)
                    self._assign_all()
            if len(self.owner) < len(self.fires):
                self._assign_all()
            for process in [one for one in self.slots if one is not None]:
                self._turn(process)
                while process.producer.waiting:
                    process.producer.arrive()
                process.reader.answer()
            self.now += 60
            if self._is_done():
                break
        self._judge()

    def _is_done(self) -> bool:
        if any(self.committed[partition] < log.end for partition, log in enumerate(self.fires)):
            return False
        return not self._leftovers() and self.finals.keys() >= self.expected.keys()

    def _leftovers(self) -> list[bytes]:
        """Return progress that stands; after a crash it may, until the next take-over deletes it."""
        return [key for key in self.progress if not self.interruptions[key.removesuffix(b"/progress").decode()]]

    def _judge(self) -> None:
        for fire_id, (partition, must_be) in self.expected.items():
            finals = self.finals.get(fire_id)
            if not finals:
                raise Violation("UNFINISHED", f"{fire_id} on partition {partition} has no outcome")
            self._judge_fire(fire_id, must_be, finals)
        for partition, log in enumerate(self.fires):
            if self.committed[partition] < log.end:
                raise Violation(
                    "STUCK",
                    f"fires of partition {partition} are committed up to {self.committed[partition]} of {log.end}",
                )
        self._judge_letters()
        if left := self._leftovers():
            raise Violation("LEFT", f"progress of final fires: {left}")

    def _judge_fire(self, fire_id: str, must_be: str, finals: list[Finished]) -> None:
        breaks = self.interruptions[fire_id] + self.too_late[fire_id]
        states = {one.state for one in finals}
        self.words.update(states)
        if must_be and states != {must_be}:
            raise Violation("WRONG", f"{fire_id} is {states}, not {must_be}")
        if "done" in states and not self.successes[fire_id]:
            raise Violation("UNDONE", f"{fire_id} is done, but its callback has never returned")
        if self.successes[fire_id] > 1 + breaks:
            raise Violation(
                "DOUBLED", f"{fire_id} was done {self.successes[fire_id]} times with {breaks} crashes and lost leases"
            )
        if self.starts[fire_id] > ATTEMPTS + breaks:
            raise Violation(
                "ATTEMPTS", f"{fire_id} was started {self.starts[fire_id]} times with {breaks} crashes and lost leases"
            )
        if len(states) > 1 and not breaks:
            raise Violation("TORN", f"{fire_id} is {states}")

    def _judge_letters(self) -> None:
        found = [dict(record.headers) for log in self.letters for record in log.records]
        named = {headers["wfm_fire_id"].decode() for headers in found if "wfm_fire_id" in headers}
        dead = {fire_id for fire_id in self.expected if any(one.state == "dead" for one in self.finals[fire_id])}
        if missing := dead - named:
            raise Violation("LETTERS", f"dead, and not set aside: {missing}")
        origins = {
            (int(one["__dlq.errors.partition"]), int(one["__dlq.errors.offset"]))
            for one in found
            if "wfm_fire_id" not in one
        }
        if origins != self.garbage:
            raise Violation("LETTERS", f"garbage {self.garbage}, set aside {origins}")


_TOPIC_ID: Final = uuid.UUID(int=7)
_NAMES: Final = ("plain", "async", "plain", "unknown", "plain", "async", "plain", "async", "plain", "async", "killer")
_REFUSED: Final = KafkaError(KafkaError._MSG_TIMED_OUT)
_TIME: Final = "2026-11-24T06:00:00.000Z"


def _fire(fire_id: str, callback: str, params: Any, partition: int, number: int) -> bytes:
    members = {
        "type": "fire", "fire_id": fire_id, "group_key": "g", "reason": "complete", "number_of_participants_in_group": 1,
        "arrived_count": 1, "missing_count": 0, "arrived": [{"participant_key": "p", "at": _TIME}], "arrived_truncated": False,
        "conflict_count": 0, "execute_after_waiting": callback, "execute_after_waiting_params": params, "wait_time_in_seconds": 1,
        "opened_at": _TIME, "last_add_at": _TIME, "deadline_at": _TIME, "fired_at": _TIME, "partition": partition,
        "opened_offset": number, "closed_offset": number, "version": 1,
    }  # fmt: skip
    return msgspec.json.encode(members)


def play_executors(
    seed: int, *, with_story: bool = False, actions: tuple[Action, ...] | None = None
) -> tuple[Executors, Violation | None]:
    """Play one schedule of executors; `product.doubles()` must be in place."""
    world = Executors(seed, make_actions(seed) if actions is None else actions)
    world.story = [] if with_story else None
    try:
        world.run()
    except Violation as violation:
        return world, violation
    return world, None
