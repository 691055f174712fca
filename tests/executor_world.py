"""Kafka, callbacks and time as the executor's schedule sees them, in memory; and an executor process that can die at
any step.

Nothing happens by itself: a test delivers records, ends attempts and lets time pass. So it can stop between any two
steps.
"""

from __future__ import annotations

import json
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from wait_for_me.topic_names import TopicNames
from wait_for_me_app.callbacks import Registry
from wait_for_me_app.executor.effects import Append, Cancel, Effect, FireRecord, Now, ReadAgain, Report, Start
from wait_for_me_app.executor.ledger import Ledger
from wait_for_me_app.executor.options import ExecutorOptions
from wait_for_me_app.executor.schedule import Schedule
from wait_for_me_app.executor.tenure import Attempt, Entry, Hold, Tenure
from wait_for_me_app.outcomes import Finished, Progress, decode_outcome, final_key, progress_key

TOPICS = TopicNames()
PARTITION = 2


def fire_value(callback: str = "ok", params: Any = (), **changes: Any) -> bytes:
    """Return the bytes of a fire as a worker writes them."""
    fire = {
        "type": "fire",
        "fire_id": f"fire_{uuid.uuid4()}",
        "group_key": "deploy-42",
        "reason": "timeout",
        "number_of_participants_in_group": 2,
        "arrived_count": 1,
        "missing_count": 1,
        "arrived": [{"participant_key": "web-1", "at": "2026-11-24T02:10:00.120Z"}],
        "arrived_truncated": False,
        "conflict_count": 0,
        "execute_after_waiting": callback,
        "execute_after_waiting_params": params,
        "wait_time_in_seconds": 60,
        "opened_at": "2026-11-24T02:10:00.120Z",
        "last_add_at": "2026-11-24T02:10:00.120Z",
        "deadline_at": "2026-11-24T02:11:00.120Z",
        "fired_at": "2026-11-24T02:11:00.130Z",
        "partition": PARTITION,
        "opened_offset": 1812,
        "closed_offset": 1977,
        "version": 1,
    }
    return json.dumps({**fire, **changes}, separators=(",", ":")).encode()


def fire_id_of(value: bytes) -> str:
    """Return the fire_id in a fire's bytes."""
    return str(json.loads(value)["fire_id"])


@dataclass(frozen=True)
class Stored:
    """A record that Kafka has."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    at_ms: int


@dataclass(frozen=True)
class Witness:
    """A callback that was begun: what an outside observer knows."""

    fire_id: str
    attempt: int
    process: str
    at_ms: int


class World:
    """What outlives every process: one partition of each topic, the group's offset, the clock, and what callbacks have done."""

    def __init__(self, registry: Registry, options: ExecutorOptions | None = None) -> None:
        self.registry = registry
        self.options = options or ExecutorOptions()
        self.wall_ms = 1_800_000_000_000
        self.fires: list[FireRecord] = []
        self.outcomes: list[Stored] = []
        self.dead_letters: list[Stored] = []
        self.committed = 0
        self.is_compacted = False
        self.begun: list[Witness] = []
        self.succeeded: list[str] = []

    @property
    def now(self) -> Now:
        return Now(wall_ms=self.wall_ms, steady_ms=self.wall_ms - 1_799_999_000_000)

    def write_fire(self, value: bytes | None, key: bytes | None = b"deploy-42", headers: Any = ()) -> FireRecord:
        """Append a record to the fires."""
        record = FireRecord(partition=PARTITION, offset=len(self.fires), key=key, value=value, headers=headers)
        self.fires.append(record)
        return record

    def store(self, append: Append) -> None:
        """Append a record that a process has sent."""
        assert append.partition == PARTITION, "a group has the same partition number in each topic"
        log = self.outcomes if append.topic == TOPICS.outcomes else self.dead_letters
        assert append.topic in (TOPICS.outcomes, TOPICS.fires_dead_letters)
        log.append(Stored(append.key, append.value, append.headers, self.wall_ms))

    def ledger(self) -> Ledger:
        """Fold the outcomes, as whoever takes over does; or what a full compaction leaves of them."""
        ledger = Ledger()
        last = {record.key: offset for offset, record in enumerate(self.outcomes)}
        for offset, record in enumerate(self.outcomes):
            if not self.is_compacted or last[record.key] == offset:
                ledger.fold(offset, record.key, record.value, record.at_ms)
        ledger.end_offset = len(self.outcomes)
        return ledger

    def finals(self, fire_id: str) -> list[Finished]:
        """Return the final outcomes of a fire."""
        found = [decode_outcome(one.value) for one in self.outcomes if one.key == final_key(fire_id) and one.value]
        return [outcome for outcome in found if isinstance(outcome, Finished)]

    def progress(self, fire_id: str) -> list[Progress]:
        """Return all steps of a fire."""
        begin = progress_key(fire_id)  # that of a fire which was sent once more goes on with a number
        found = [decode_outcome(one.value) for one in self.outcomes if (one.key or b"").startswith(begin) and one.value]
        return [outcome for outcome in found if isinstance(outcome, Progress)]

    def states(self, fire_id: str) -> list[str]:
        """Return the names of all steps of a fire, the final one last."""
        return [*(step.state for step in self.progress(fire_id)), *(one.state for one in self.finals(fire_id))]

    def letters(self, fire_id: str) -> list[dict[str, str]]:
        """Return the headers of the dead letters of a fire."""
        headers = [{name: (value or b"").decode() for name, value in letter.headers} for letter in self.dead_letters]
        return [one for one in headers if one.get("wfm_fire_id") == fire_id]


@dataclass(eq=False)
class Process:
    """One executor process that holds the partition: the real schedule, and a shell that waits to be told what happens."""

    world: World
    name: str = "e1"
    tenure: Tenure = field(init=False)
    in_flight: deque[Append] = field(default_factory=deque)
    running: dict[int, Start] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)
    reads: deque[ReadAgain] = field(default_factory=deque)
    reports: list[Report] = field(default_factory=list)
    next_offset: int = 0

    def __post_init__(self) -> None:
        world = self.world
        self.schedule = Schedule(topics=TOPICS, find=world.registry.find, options=world.options, executor=self.name)
        self.take_partition()

    def take_partition(self) -> None:
        """Be assigned the partition, restore it and go on where the group has committed."""
        self.next_offset = self.world.committed
        self.tenure = self.schedule.assigned(PARTITION)
        self.schedule.restored(self.tenure, self.world.ledger(), self.next_offset, self.world.now)
        self._carry_out()

    # -- what a test lets happen

    def read(self, at_most: int = 1_000_000) -> int:
        """Read fires that nobody has read in this tenure; return how many."""
        records = self.world.fires[self.next_offset :][:at_most]
        for record in records:
            self.schedule.fire(record, self.world.now)
        self.next_offset += len(records)
        self._carry_out()
        return len(records)

    def deliver(self, at_most: int = 1_000_000) -> int:
        """Let Kafka take the next records and acknowledge them; return how many."""
        count = 0
        while self.in_flight and count < at_most:
            append = self.in_flight.popleft()
            self.world.store(append)
            if append.ticket is not None:
                self.schedule.acked(append.ticket, self.world.now)
            self._carry_out()
            count += 1
        return count

    def tick(self) -> None:
        """Let the schedule look at the clock."""
        self.schedule.tick(self.world.now)
        self._carry_out()

    def pass_time(self, ms: int) -> None:
        """Move the clock on and look at it."""
        self.world.wall_ms += ms
        self.tick()

    def end(self, token: int, error: BaseException | None = None) -> None:
        """Let a callback return, or raise."""
        del self.running[token]
        attempt = self.schedule.attempts[token]
        if error is None:
            self.world.succeeded.append(attempt.entry.progress.fire_id)
        self.schedule.ended(token, error, self.world.now)
        self._carry_out()

    def answer_reads(self) -> int:
        """Let outcomes be read on; return how many answers there were."""
        count = len(self.reads)
        while self.reads:
            asked = self.reads.popleft()
            read = [(one.key, one.value, one.at_ms) for one in self.world.outcomes[asked.from_offset :]]
            end = len(self.world.outcomes)
            self.schedule.read_again(asked.tenure, read, end, asked.asked_steady_ms, self.world.now)
            self._carry_out()
        return count

    def commit(self) -> None:
        """Commit what may be committed."""
        self.world.committed = self.schedule.to_commit().get(PARTITION, self.world.committed)

    def hand_over(self) -> None:
        """Lose the partition in order, as at a graceful rebalance."""
        self.commit()
        self.schedule.revoked(PARTITION)
        self._carry_out()

    def lose(self) -> None:
        """Learn that another process has the partition."""
        self.schedule.lost(PARTITION)
        self._carry_out()

    def crash(self, arrived: int = 0) -> None:
        """Die; the first `arrived` of the records under way reach Kafka all the same."""
        for append in list(self.in_flight)[:arrived]:
            self.world.store(append)
        self.in_flight.clear()
        self.running.clear()

    def settle(self, error: BaseException | None = None) -> None:
        """Go on until nothing happens without the clock; callbacks return at once, or raise `error`."""
        while True:
            self.tick()
            happened = self.deliver() + self.answer_reads()
            for token in list(self.running):
                self.end(token, error)
                happened += 1
            if not happened and not self.in_flight:
                return

    # -- what a test asks

    def attempts(self) -> Iterator[Attempt]:
        """Return the attempts that run here."""
        return (self.schedule.attempts[token] for token in self.running)

    def events(self) -> list[str]:
        """Return the names of what was reported."""
        return [report.event for report in self.reports]

    @property
    def only_token(self) -> int:
        """The token of the one attempt that runs."""
        (token,) = self.running
        return token

    def _carry_out(self) -> None:
        while effects := self.schedule.take_effects():
            for effect in effects:
                self._carry_out_one(effect)

    def _carry_out_one(self, effect: Effect) -> None:
        match effect:
            case Append(ticket=Entry() as entry) if entry.tenure.hold is Hold.LOST:
                pass
            case Append():
                self.in_flight.append(effect)
            case Start():
                self._begin(effect)
            case Cancel():
                self.cancelled.add(effect.token)
            case ReadAgain():
                self.reads.append(effect)
            case Report():
                self.reports.append(effect)

    def _begin(self, start: Start) -> None:
        attempt = self.schedule.attempts[start.token]
        witness = Witness(attempt.entry.progress.fire_id, attempt.number, self.name, self.world.wall_ms)
        self.world.begun.append(witness)
        self.running[start.token] = start
