"""Executors that die, hand over, are paused and come back, at any step and in any order: what must hold whatever
happens.

The real schedule runs against Kafka in memory (`executor_world.py`). One executor owns the partition; others may still
run callbacks after an orderly hand-over, or be paused without knowing that they have lost it. At the end everything
heals, and then every fire must have come to exactly one end.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from executor_world import PARTITION, Process, World, fire_id_of, fire_value
from wait_for_me_app.callbacks import Registry
from wait_for_me_app.executor.effects import Append
from wait_for_me_app.executor.options import ExecutorOptions
from wait_for_me_app.outcomes import progress_key, uuid_of

ATTEMPTS = 4
FIRST_WAIT_MS = 1_000
LIMIT_MS = 5_000
OPTIONS = ExecutorOptions(threads=3, tasks=2, patience_ms=20_000, parked_look_ms=3_000, start_margin_ms=500)


def make_world() -> World:
    """Return a world with a plain and an async callback."""
    registry = Registry()

    async def later() -> None: ...

    for name, function in (("plain", lambda: None), ("later", later)):
        registry.callback(name, attempts=ATTEMPTS, timeout_in_seconds=LIMIT_MS / 1000, first_wait_in_seconds=1)(
            function
        )
    return World(registry, OPTIONS)


class Executors(RuleBasedStateMachine):
    """Everything that can happen to a partition's executors."""

    fires = Bundle("fires")

    @initialize()
    def begin(self) -> None:
        self.world = make_world()
        self.names = 0
        self.checked = 0
        self.others: list[Process] = []
        self.late: list[Append] = []
        self.paused: list[Process] = []
        self.overlapped: set[str] = set()
        self.is_disordered = False
        """Whether a record has arrived after its tenure: compaction leaves both for a while, and so for the length of a test."""
        self.owner = self.new_process()

    def new_process(self) -> Process:
        self.world.wall_ms += 1  # a rebalance takes longer than that
        self.world.is_compacted &= not self.is_disordered
        self.names += 1
        return Process(self.world, f"e{self.names}")

    # -- what services and callbacks do

    @rule(target=fires, callback=st.sampled_from(["plain", "plain", "later", "not.registered"]))
    def write_fire(self, callback: str) -> bytes:
        value = fire_value(callback)
        self.world.write_fire(value)
        return value

    @rule(value=fires)
    def write_a_copy(self, value: bytes) -> None:
        self.world.write_fire(value)

    @rule(value=st.sampled_from([None, b"junk", fire_value("plain", ["a parameter too many"])]))
    def write_a_bad_one(self, value: bytes | None) -> None:
        self.world.write_fire(value)

    @rule(is_owner=st.booleans(), which=st.integers(0, 5), ok=st.booleans())
    def a_callback_ends(self, is_owner: bool, which: int, ok: bool) -> None:
        processes = [self.owner] if is_owner else self.others
        running = [(process, token) for process in processes for token in process.running]
        if running:
            process, token = running[which % len(running)]
            process.end(token, None if ok else ValueError("no"))

    # -- what the owner does

    @rule(at_most=st.integers(1, 3))
    def read(self, at_most: int) -> None:
        self.owner.read(at_most)

    @rule(at_most=st.integers(1, 4))
    def deliver(self, at_most: int) -> None:
        self.owner.deliver(at_most)

    @rule()
    def work(self) -> None:
        self.owner.read(2)
        self.owner.deliver()
        self.owner.tick()
        self.owner.deliver()

    @rule(ms=st.sampled_from([1, 400, 1_000, 3_000, 6_000, 20_000]))
    def time_passes(self, ms: int) -> None:
        self.world.wall_ms += ms
        for process in (self.owner, *self.others):
            process.tick()

    @rule()
    def read_outcomes_again(self) -> None:
        self.owner.tick()
        before = set(self.owner.tenure.elsewhere)
        self.owner.answer_reads()
        self.note_overlaps(before - set(self.owner.tenure.elsewhere))

    @rule()
    def commit(self) -> None:
        self.owner.commit()

    # -- what goes wrong

    @rule(arrived=st.integers(0, 4), late=st.integers(0, 4), is_compacted=st.booleans())
    def crash(self, arrived: int, late: int, is_compacted: bool) -> None:
        """The owner dies; some of what it had sent arrives, some arrives when its successor has taken over."""
        self.late += list(self.owner.in_flight)[arrived:][:late]
        self.owner.crash(arrived)
        self.world.is_compacted = is_compacted
        self.owner = self.new_process()

    @rule(arrived=st.integers(0, 4))
    def hand_over(self, arrived: int) -> None:
        """An orderly rebalance: what runs is finished by the old one, whose last records arrive when they arrive."""
        self.owner.deliver(arrived)
        self.owner.hand_over()
        self.others.append(self.owner)
        self.owner = self.new_process()

    @rule()
    def something_arrives_late(self) -> None:
        if self.late:
            self.is_disordered = True
            self.world.store(self.late.pop(0))

    @rule()
    def take_part_after_hand_over(self) -> None:
        for process in self.others:
            self.is_disordered |= process.deliver() > 0

    @rule()
    def pause(self) -> None:
        """The owner is frozen past its session timeout, without knowing."""
        self.paused.append(self.owner)
        self.overlapped |= {attempt.entry.progress.fire_id for attempt in self.owner.attempts()}
        self.overlapped |= {one.progress.fire_id for one in self.owner.tenure.entries.values()}
        self.owner = self.new_process()

    @rule(arrived=st.integers(0, 4))
    def wake_up(self, arrived: int) -> None:
        """A frozen one comes back: what its client had queued is sent, then it learns that it has lost the partition."""
        if self.paused:
            process = self.paused.pop()
            for append in list(process.in_flight)[:arrived]:
                self.is_disordered = True
                self.world.store(append)
            process.in_flight.clear()
            process.lose()
            for token in list(process.running):
                process.end(token)
            assert not process.in_flight, "a process that has lost its partition writes nothing"

    # -- what must hold at every step

    @invariant()
    def no_attempt_begins_without_its_start_in_kafka(self) -> None:
        """D3, and the poison pill: the start is known before the callback can do anything."""
        for one in self.world.begun[self.checked :]:
            starts = [step for step in self.world.progress(one.fire_id) if step.state == "started"]
            assert (one.attempt, one.process) in [(step.attempt, step.executor) for step in starts]

    @invariant()
    def no_attempt_begins_after_the_end(self) -> None:
        """D1 and P4: what is done is never run again; unless two run at once because one outlived its limit or was frozen."""
        for one in self.world.begun[self.checked :]:
            if one.fire_id not in self.overlapped:
                assert self.world.finals(one.fire_id) == []
                others = [process for process in self.others if process.name != one.process]
                rivals = [process.name for process in others if one.fire_id in _running(process)]
                assert rivals == [], "two attempts of one fire at the same time"

    @invariant()
    def numbers_rise(self) -> None:
        """D4: no attempt number is used twice."""
        for one in self.world.begun[self.checked :]:
            if one.fire_id not in self.overlapped:
                earlier = [
                    other.attempt for other in self.world.begun if other.fire_id == one.fire_id and other is not one
                ]
                assert all(number < one.attempt for number in earlier)
            assert one.attempt <= ATTEMPTS
        self.checked = len(self.world.begun)

    @invariant()
    def the_committed_offset_never_passes_a_fire_that_kafka_does_not_know(self) -> None:
        """D7: behind it everything is accepted, final or set aside."""
        known = {record.key for record in self.world.outcomes}
        letters = {dict(letter.headers).get("__dlq.errors.offset") for letter in self.world.dead_letters}
        for fire in self.world.fires[: self.world.committed]:
            if fire.value is None or b"fire_id" not in fire.value:
                assert str(fire.offset).encode() in letters
            else:
                assert progress_key(fire_id_of(fire.value)) in known

    def note_overlaps(self, given_up: set[bytes]) -> None:
        """Remember which attempts were given up while they still ran: a hang, which may overlap."""
        for process in self.others:
            self.overlapped |= {fire_id for fire_id in _running(process) if uuid_of(fire_id) in given_up}
            self.overlapped |= {
                entry.progress.fire_id for entry in process.tenure.entries.values() if entry.uuid in given_up
            }

    # -- what must hold at the end

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.heal()
        ledger = self.world.ledger()
        assert ledger.pending == {}, "D9: a fire without an end"
        for value in {fire.value for fire in self.world.fires if fire.value and b"fire_id" in fire.value}:
            self.check_end(fire_id_of(value))
        assert self.owner.schedule.positions() == {PARTITION: len(self.world.fires)}

    def heal(self) -> None:
        """No more faults: the old ones finish, the owner works until nothing is left."""
        while self.late:
            self.something_arrives_late()
        while self.paused:
            self.wake_up(99)
        for process in self.others:
            process.read()
            process.settle()
        for _ in range(60):
            self.owner.read()
            self.owner.settle()
            self.world.wall_ms += 2_000
        self.owner.settle()

    def check_end(self, fire_id: str) -> None:
        states = {final.state for final in self.world.finals(fire_id)}
        begun = [one for one in self.world.begun if one.fire_id == fire_id]
        assert states, f"D1: {fire_id} has no end"
        if fire_id not in self.overlapped:
            assert len(states) == 1, "D1: two different ends"
            assert ("dead" in states) == bool(self.world.letters(fire_id)), "D6: dead is what has a dead letter"
            assert self.world.succeeded.count(fire_id) <= 1 + self.outcomes_lost(fire_id), "D2: too many successes"
        assert "dead" in states or fire_id in self.world.succeeded, "D1: done without a witness"
        self.check_waits(fire_id)
        assert len(begun) <= ATTEMPTS + len(self.paused) or fire_id in self.overlapped

    def outcomes_lost(self, fire_id: str) -> int:
        """Return how many attempts ended without a trace: X3, and results that came after the limit."""
        return sum(
            step.error in ("callback_killed_process", "callback_timeout") for step in self.world.progress(fire_id)
        )

    def check_waits(self, fire_id: str) -> None:
        """D5: after a failure the next attempt begins no earlier than was written down; what came late does not count."""
        latest = 0
        for step in self.world.progress(fire_id):
            is_late, latest = step.tenure < latest, max(latest, step.tenure)
            if step.state == "failed" and step.next_attempt_at_ms is not None and not is_late:
                later = [
                    one.at_ms
                    for one in self.world.begun
                    if one.fire_id == fire_id and one.attempt == step.attempt + 1 and fire_id not in self.overlapped
                ]
                assert all(at_ms >= step.next_attempt_at_ms for at_ms in later)


def _running(process: Process) -> set[str]:
    """Return the fires whose attempts run in a process and are not judged yet."""
    return {attempt.entry.progress.fire_id for attempt in process.attempts() if not attempt.is_judged}


TestExecutors = Executors.TestCase
TestExecutors.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
