"""Executors that are killed, stopped, paused and replaced, on a real Kafka; a witness file outside Kafka says what was really done."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

import executor_child
import witness_callbacks
from executor_world import fire_id_of, fire_value
from logs import read_topic
from processes import Running, wait_until
from wait_for_me_app.outcomes import Finished, Outcome, Progress, decode_outcome
from witness_callbacks import Line

OPTIONS = {"start_margin_ms": 300, "look_again_ms": 200, "commit_every_ms": 100, "stop_grace_ms": 3_000}
SESSION_MS = "3000"
TAKEN = "partition_taken"


class Stage:
    """One deployment, the executors on it, and what is known of its fires from both sides."""

    def __init__(self, deployment: Any) -> None:
        self.deployment = deployment
        self.topics = deployment.settings.topics
        self.servers = deployment.settings.bootstrap_servers
        self.witness = deployment.directory / "witness"
        self.hits = deployment.directory / "hits"
        self.producer = Producer({"bootstrap.servers": self.servers, "linger.ms": 0})

    def environment(self, **extra: str) -> dict[str, str]:
        """Return what a child needs to find callbacks and witness."""
        path = os.pathsep.join([str(Path(executor_child.__file__).parent), os.environ.get("PYTHONPATH", "")])
        return {
            "PYTHONPATH": path,
            "WAIT_FOR_ME_SESSION_TIMEOUT_MS": SESSION_MS,
            "WAIT_FOR_ME_TEST_OPTIONS": json.dumps(OPTIONS),
            witness_callbacks.WITNESS: str(self.witness),
            **extra,
        }

    def start(self, **extra: str) -> Running:
        """Start an executor with the limits of these tests."""
        command = [sys.executable, executor_child.__file__, witness_callbacks.__name__]
        log = self.deployment.directory / f"executor-{len(self.deployment.processes)}.log"
        process = Running(command, log=log, env=self.deployment.environment(**self.environment(**extra)))
        self.deployment.processes.append(process)
        return process

    def start_armed(self, point: str) -> Running:
        """Start an executor that dies at a named point."""
        crash = {"WAIT_FOR_ME_TEST_CRASH_AT": point, "WAIT_FOR_ME_TEST_CRASH_LOG": str(self.hits)}
        return self.start(WAIT_FOR_ME_TEST_BUILD="1", **crash)

    def send(self, callback: str, params: Any = (), count: int = 1, *, partition: int | None = None) -> list[str]:
        """Write fires, one a partition in turn, and return their fire_ids."""
        values = [fire_value(callback, params) for _ in range(count)]
        for number, value in enumerate(values):
            where = number % 4 if partition is None else partition
            self.producer.produce(self.topics.fires, partition=where, key=b"deploy-42", value=value)
        assert self.producer.flush(10) == 0
        return [fire_id_of(value) for value in values]

    def lines(self, what: str) -> list[Line]:
        """Return what callbacks have begun or ended."""
        return [line for line in witness_callbacks.read(self.witness) if line.what == what]

    def times(self, what: str) -> Counter[str]:
        """Return how often each fire's callback has begun or ended."""
        return Counter(line.fire_id for line in self.lines(what))

    def outcomes(self) -> list[Outcome]:
        """Return all outcomes in the topic."""
        return [decode_outcome(one.value) for one in read_topic(self.servers, self.topics.outcomes) if one.value]

    def finals(self) -> dict[str, Finished]:
        """Return the final outcomes; a fire has one state only."""
        found: dict[str, Finished] = {}
        for outcome in self.outcomes():
            if isinstance(outcome, Finished):
                assert found.setdefault(outcome.fire_id, outcome).state == outcome.state
        return found

    def letters(self) -> list[dict[str, str]]:
        """Return the headers of all dead letters."""
        letters = read_topic(self.servers, self.topics.fires_dead_letters)
        return [{name: (value or b"").decode() for name, value in letter.headers} for letter in letters]

    def wait_until_final(self, fire_ids: list[str], timeout: float = 25) -> dict[str, Finished]:
        """Wait until each of these fires has a final outcome; return them all."""
        wait_until(lambda: set(fire_ids) <= self.finals().keys(), timeout, self.explain)
        return self.finals()

    def explain(self) -> str:
        """Say where things stand, for a test that waited in vain."""
        return f"finals: {[(one.fire_id, one.state) for one in self.finals().values()]}, begun: {self.times('begin')}"

    def committed(self) -> int:
        """Return how many fires the group has behind it, over all partitions."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": self.topics.executor_group})
        try:
            asked = [TopicPartition(self.topics.fires, number) for number in range(4)]
            return sum(max(0, partition.offset) for partition in consumer.committed(asked, timeout=10))
        finally:
            consumer.close()


@pytest.fixture
def stage(deployment: Any) -> Stage:
    """A deployment with a witness file."""
    return Stage(deployment)


# --- killed ----------------------------------------------------------------------------------------------------------


def test_an_executor_killed_while_callbacks_run_loses_none_and_repeats_only_those(stage: Stage) -> None:
    """SIGKILL amid 40 callbacks: all end done, those that were done are not run again, the others have the same fire_id."""
    first = stage.start()
    first.wait_for_output(TAKEN)
    fire_ids = [*stage.send("slow", [0.3], 20), *stage.send("slow.async", [0.3], 20)]
    wait_until(
        lambda: len(stage.lines("end")) >= 4 and len(stage.lines("begin")) > len(stage.lines("end")), 20, first.tail
    )
    first.kill()
    done_before = {fire_id for fire_id, outcome in stage.finals().items() if outcome.state == "done"}
    running = set(stage.times("begin")) - set(stage.times("end"))
    second = stage.start()
    finals = stage.wait_until_final(fire_ids)
    assert {outcome.state for outcome in finals.values()} == {"done"}, second.tail()
    begun, ended = stage.times("begin"), stage.times("end")
    assert set(ended) == set(fire_ids)
    assert {begun[fire_id] for fire_id in done_before} <= {1}
    assert all(begun[fire_id] <= 2 for fire_id in fire_ids)
    assert running, "the kill must have hit callbacks that ran"
    assert stage.letters() == []


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("point", "begun"),
    [
        pytest.param("X1", 1, id="X1 before the start is written"),
        pytest.param("X2", 1, id="X2 written and not begun"),
        pytest.param("X3", 2, id="X3 done and not written"),
    ],
)
def test_a_kill_at_a_named_point_repeats_a_callback_only_when_it_was_done_and_not_written(
    stage: Stage, point: str, begun: int
) -> None:
    """At X3 the fire is run again with the same fire_id; before that its callback has not begun at all."""
    (fire_id,) = stage.send("slow", [0])
    armed = stage.start_armed(f"{point}:1")
    assert armed.wait(25) == -signal.SIGKILL, armed.tail()
    assert stage.hits.read_text().split()[0] == point
    last = stage.start()
    assert stage.wait_until_final([fire_id])[fire_id].state == "done", last.tail()
    assert stage.times("begin") == {fire_id: begun}


@pytest.mark.chaos
def test_what_is_done_is_never_run_again_though_its_offset_was_not_committed(stage: Stage) -> None:
    """X4: the successor reads the fires again, and knows them."""
    stage.send("slow", [0], 8)
    armed = stage.start_armed("X4:1")
    assert armed.wait(25) == -signal.SIGKILL, armed.tail()
    assert stage.committed() == 0
    done = {fire_id for fire_id, outcome in stage.finals().items() if outcome.state == "done"}
    last = stage.start()
    fire_ids = stage.send("slow", [0], 8)
    stage.wait_until_final(fire_ids)
    wait_until(lambda: stage.committed() == 16, 10, last.tail)
    times = stage.times("begin")
    assert len(times) == 16
    assert {times[fire_id] for fire_id in done} <= {1}
    assert len(stage.finals()) == 16


@pytest.mark.chaos
def test_a_kill_while_a_failure_is_written_costs_no_attempt_too_many(stage: Stage) -> None:
    """X5: whether the record arrived or not, the fire goes on and is done at last."""
    (fire_id,) = stage.send("fails", [1])
    armed = stage.start_armed("X5:1")
    assert armed.wait(25) == -signal.SIGKILL, armed.tail()
    stage.start()
    finals = stage.wait_until_final([fire_id])
    assert finals[fire_id].state == "done"
    assert stage.times("begin")[fire_id] == 2


@pytest.mark.chaos
@pytest.mark.timeout(90)
def test_a_callback_that_kills_its_process_is_dead_after_three_starts_and_others_go_on(stage: Stage) -> None:
    """The poison pill is set aside; it does not crash executors for ever."""
    (poison,) = stage.send("kills.its.process", partition=0)
    for _ in range(3):
        process = stage.start()
        assert process.wait(25) == 86, process.tail()
    good = stage.send("slow", [0], 4)
    survivor = stage.start()
    finals = stage.wait_until_final([poison, *good])
    assert finals[poison].state == "dead", survivor.tail()
    assert finals[poison].error == "callback_killed_process"
    assert stage.times("begin")[poison] == 3
    assert {finals[fire_id].state for fire_id in good} == {"done"}
    (letter,) = stage.letters()
    assert (letter["wfm_fire_id"], letter["wfm_error"]) == (poison, "callback_killed_process")
    assert survivor.exit_code is None


def test_a_retry_survives_the_death_of_the_executor(stage: Stage) -> None:
    """Its offset is committed and its executor dead: the second attempt comes all the same, not before its time."""
    first = stage.start()
    first.wait_for_output(TAKEN)
    (fire_id,) = stage.send("fails", [1])
    wait_until(lambda: "attempt_failed" in first.output() and stage.committed() == 1, 20, first.tail)
    wait_until(lambda: any(outcome.state == "failed" for outcome in stage.outcomes()), 10)
    first.kill()
    (failure,) = [
        outcome for outcome in stage.outcomes() if isinstance(outcome, Progress) and outcome.state == "failed"
    ]
    stage.start()
    stage.wait_until_final([fire_id])
    begun = stage.lines("begin")
    assert [line.fire_id for line in begun] == [fire_id] * 2
    assert begun[0].process != begun[1].process
    assert begun[1].at_ms >= (failure.next_attempt_at_ms or 0)


# --- stopped and replaced --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_what_runs_commits_and_exits_with_0(stage: Stage, number: signal.Signals) -> None:
    """Nothing is run again by the next one."""
    first = stage.start()
    first.wait_for_output(TAKEN)
    fire_ids = [*stage.send("slow", [1], 2), *stage.send("slow.async", [1], 2)]
    wait_until(lambda: len(stage.lines("begin")) == 4, 20, first.tail)
    first.signal(number)
    assert first.wait(15) == 0, first.tail()
    assert {outcome.state for outcome in stage.finals().values()} == {"done"}
    assert stage.committed() == 4
    second = stage.start()
    last = stage.send("slow", [0], 4)
    stage.wait_until_final(last)
    assert set(stage.times("begin").values()) == {1}
    assert second.stop() == 0
    assert set(stage.finals()) == {*fire_ids, *last}


def test_a_stop_does_not_wait_for_ever_and_its_attempt_is_made_again(stage: Stage) -> None:
    """A callback that outlasts the grace is a failed attempt, not a lost one, and not one that killed its process."""
    first = stage.start(WAIT_FOR_ME_TEST_OPTIONS=json.dumps({**OPTIONS, "stop_grace_ms": 200}))
    first.wait_for_output(TAKEN)
    (fire_id,) = stage.send("slow", [1.5])
    wait_until(lambda: len(stage.lines("begin")) == 1, 20, first.tail)
    assert first.stop() == 0, first.tail()
    assert stage.lines("end") == []
    stage.start()
    final = stage.wait_until_final([fire_id])[fire_id]
    assert (final.state, final.attempt) == ("done", 2)
    failed = [outcome for outcome in stage.outcomes() if outcome.state == "failed"]
    assert [outcome.error for outcome in failed] == ["callback_failed"]


def test_executors_that_come_and_go_in_order_run_every_callback_once(stage: Stage) -> None:
    """A second one joins and the first one leaves, amid callbacks: cooperative hand-overs, nothing twice, nothing lost."""
    first = stage.start()
    first.wait_for_output(TAKEN)
    fire_ids = stage.send("slow", [0.2], 24)
    wait_until(lambda: len(stage.lines("begin")) >= 4, 20, first.tail)
    second = stage.start()
    second.wait_for_output(TAKEN)
    fire_ids += stage.send("slow.async", [0.2], 24)
    assert first.stop() == 0, first.tail()
    fire_ids += stage.send("slow", [0.1], 8)
    finals = stage.wait_until_final(fire_ids)
    assert {outcome.state for outcome in finals.values()} == {"done"}
    assert set(stage.times("begin").values()) == {1}
    assert len({line.process for line in stage.lines("begin")}) == 2


@pytest.mark.chaos
def test_an_executor_that_wakes_up_after_it_was_replaced_writes_and_starts_nothing(stage: Stage) -> None:
    """SIGSTOP past the session timeout: its successor makes the attempt again; the old one notices before it acts."""
    zombie = stage.start()
    zombie.wait_for_output(TAKEN)
    fire_ids = stage.send("slow", [1], 4)
    wait_until(lambda: len(stage.lines("begin")) == 4, 20, zombie.tail)
    zombie.signal(signal.SIGSTOP)
    successor = stage.start()
    behind = stage.send("slow", [0], 4)
    finals = stage.wait_until_final([*fire_ids, *behind])
    assert {outcome.executor for outcome in finals.values()} == {f"w1:{successor.pid}"}
    zombie.signal(signal.SIGCONT)
    zombie.wait_for_output("attempt_orphaned")
    begun_by_zombie = [line for line in stage.lines("begin") if line.process == zombie.pid]
    time.sleep(0.5)  # long enough to do harm, if it were going to
    assert [line for line in stage.lines("begin") if line.process == zombie.pid] == begun_by_zombie
    written = [outcome for outcome in stage.outcomes() if outcome.executor == f"w1:{zombie.pid}"]
    assert {outcome.state for outcome in written} <= {"started", "failed"}
    assert stage.finals() == finals


# --- what ends it ----------------------------------------------------------------------------------------------------


def test_a_record_that_kafka_refuses_ends_the_executor_with_70_and_without_a_commit(stage: Stage) -> None:
    """It does not know any more what Kafka has; the fire is read again by the next one, and done."""
    first = stage.start()
    first.wait_for_output(TAKEN)
    limit_bytes(stage, 200)
    (fire_id,) = stage.send("slow", [0])
    assert first.wait(25) == 70, first.tail()
    assert "executor_failed" in first.output()
    assert stage.committed() == 0
    assert stage.lines("begin") == []
    limit_bytes(stage, 4_194_304)
    stage.start()
    assert stage.wait_until_final([fire_id])[fire_id].state == "done"


def limit_bytes(stage: Stage, largest: int) -> None:
    """Let the outcomes topic take records up to that size."""
    entry = ConfigEntry("max.message.bytes", str(largest), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, stage.topics.outcomes, incremental_configs=[entry])
    for answer in stage.deployment.admin.incremental_alter_configs([resource]).values():
        answer.result(timeout=10)


def test_an_outcome_of_a_later_release_stops_the_executor_with_78(stage: Stage) -> None:
    """A restart would not help; running that release does, and the message says so."""
    value = b'{"type":"progress","version":99}'
    key = b"fire_6f1de2cb-7b3a-5a3b-8a51-0d4a4ac2b9d0/progress"
    stage.producer.produce(stage.topics.outcomes, partition=1, key=key, value=value)
    stage.producer.flush(10)
    process = stage.deployment.start_executor("wait_for_me_app.demo.callbacks")
    assert process.wait(25) == 78, process.tail()
    assert "run the release that wrote it" in process.output()


def test_the_command_line_runs_the_operators_callbacks(stage: Stage) -> None:
    """`wait-for-me executor --callbacks witness_callbacks`, as an operator types it."""
    process = stage.deployment.start_executor(witness_callbacks.__name__, **stage.environment())
    (fire_id,) = stage.send("slow", [0])
    assert stage.wait_until_final([fire_id])[fire_id].state == "done"
    assert process.stop() == 0, process.tail()
