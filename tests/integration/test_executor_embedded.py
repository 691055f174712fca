"""The executor as a whole, in this process, on the broker inside librdkafka: what it does; not what it guarantees."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

import process_callbacks
from executor_world import fire_id_of, fire_value
from logs import read_topic
from processes import wait_until
from wait_for_me.errors import ConfigurationError
from wait_for_me.fires import Fire
from wait_for_me_app.callbacks import Registry
from wait_for_me_app.executor import process as executor
from wait_for_me_app.executor.options import ExecutorOptions
from wait_for_me_app.outcomes import Finished, decode_outcome
from wait_for_me_app.settings import Settings

OPTIONS = ExecutorOptions(patience_ms=300, stop_grace_ms=3_000, commit_every_ms=50, look_again_ms=100)


class Running:
    """An executor in a thread of this process."""

    def __init__(self, servers: str, registry: Registry) -> None:
        self.settings = Settings(
            bootstrap_servers=servers, demo_broker=True, partitions=4, replication_factor=1, session_timeout_ms=6_000
        )
        self.servers = servers
        self.topics = self.settings.topics
        self.registry = registry
        self.producer = Producer({"bootstrap.servers": servers, "linger.ms": 0})
        for topic in (self.topics.fires, self.topics.outcomes, self.topics.fires_dead_letters):
            self.producer.list_topics(topic, timeout=10)
        self.stop = threading.Event()
        self.exit_code: int | None = None
        self._thread: threading.Thread | None = None

    def start(self, options: ExecutorOptions = OPTIONS) -> None:
        """Start it; fires may be there already."""

        def run() -> None:
            self.exit_code = executor.run(self.settings, [], stop=self.stop, options=options, registry=self.registry)

        self._thread = threading.Thread(target=run, name="executor")
        self._thread.start()

    def send(self, *values: bytes | None, partition: int = 0) -> list[str]:
        """Write fires; return the fire_ids of those that are some."""
        for value in values:
            self.producer.produce(self.topics.fires, partition=partition, key=b"deploy-42", value=value)
        assert self.producer.flush(10) == 0
        return [fire_id_of(value) for value in values if value and value.startswith(b"{")]

    def finals(self) -> dict[str, Finished]:
        """Return the final outcomes."""
        outcomes = [decode_outcome(one.value) for one in read_topic(self.servers, self.topics.outcomes) if one.value]
        return {outcome.fire_id: outcome for outcome in outcomes if isinstance(outcome, Finished)}

    def letters(self) -> list[dict[str, str]]:
        """Return the headers of the dead letters."""
        letters = read_topic(self.servers, self.topics.fires_dead_letters)
        return [{name: (value or b"").decode() for name, value in letter.headers} for letter in letters]

    def wait_until_final(self, fire_ids: list[str], timeout: float = 30) -> dict[str, Finished]:
        """Wait until each of these fires is final; return all final outcomes."""
        wait_until(lambda: set(fire_ids) <= self.finals().keys(), timeout, lambda: str(self.finals()))
        return self.finals()

    def finish(self) -> int | None:
        """Stop it and return its exit code."""
        self.stop.set()
        if self._thread is not None:
            self._thread.join(20)
            assert not self._thread.is_alive(), "the executor does not stop"
        return self.exit_code

    def committed(self) -> list[int]:
        """Return the group's offset of each partition."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": self.topics.executor_group})
        try:
            asked = [TopicPartition(self.topics.fires, number) for number in range(4)]
            return [partition.offset for partition in consumer.committed(asked, timeout=10)]
        finally:
            consumer.close()


@pytest.fixture
def registry() -> Registry:
    """A registry of its own."""
    return Registry()


@pytest.fixture
def running(embedded_kafka: str, registry: Registry) -> Iterator[Running]:
    """An executor that has not been started yet."""
    one = Running(embedded_kafka, registry)
    yield one
    one.finish()


def test_every_kind_of_fire_comes_to_its_end(running: Running, registry: Registry) -> None:
    """Plain, async, failing once, failing always, unknown, badly called, no fire at all: each as it deserves, none in the way."""
    seen: list[Any] = []
    failures: Counter[str] = Counter()

    @registry.callback("plain")
    def plain(distribution: str, path: str, *, fire: Fire) -> None:
        seen.append((distribution, path, fire.group_key))

    @registry.callback("async")
    async def later(*, path: str, fire: Fire) -> None:
        await asyncio.sleep(0)
        seen.append((path, fire.group_key))

    @registry.callback("fails.once", first_wait_in_seconds=0.1)
    def fails_once(fire: Fire) -> None:
        failures[fire.fire_id] += 1
        if failures[fire.fire_id] == 1:
            raise ConnectionError("not yet")

    @registry.callback("fails.always", attempts=2, first_wait_in_seconds=0.1)
    def fails_always() -> None:
        raise ValueError("never")

    fire_ids = running.send(
        b"no fire at all",
        fire_value("unknown.here"),
        fire_value("fails.always"),
        fire_value("plain", {"wrong": "parameters"}),
        fire_value("fails.once"),
        fire_value("plain", ["E1", "/*"], reason="something new"),
        fire_value("async", {"path": "/ü"}),
        None,
    )
    running.start()
    finals = running.wait_until_final(fire_ids)
    assert running.finish() == 0
    assert [(finals[one].state, finals[one].error, finals[one].attempt) for one in fire_ids] == [
        ("dead", "unknown_callback", 0),
        ("dead", "callback_failed", 2),
        ("dead", "bad_parameters", 0),
        ("done", None, 2),
        ("done", None, 1),
        ("done", None, 1),
    ]
    assert sorted(seen, key=len) == [("/ü", "deploy-42"), ("E1", "/*", "deploy-42")]
    letters = Counter(letter["wfm_error"] for letter in running.letters())
    assert letters == {"bad_fire": 2, "unknown_callback": 1, "callback_failed": 1, "bad_parameters": 1}
    assert running.committed()[0] == 8


def test_callbacks_that_hang_do_not_keep_others_waiting(running: Running, registry: Registry) -> None:
    """The plain one keeps its thread, the async one is cancelled; both are tried again, and the fires behind them run at once."""
    hang, cancelled, begun = threading.Event(), threading.Event(), Counter[str]()

    @registry.callback("hangs", timeout_in_seconds=0.3, attempts=2, first_wait_in_seconds=0.1)
    def hangs(fire: Fire) -> None:
        begun[fire.fire_id] += 1
        if begun[fire.fire_id] == 1:
            hang.wait()

    @registry.callback("hangs.async", timeout_in_seconds=0.3, attempts=1)
    async def hangs_async() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    @registry.callback("quick")
    def quick() -> None: ...

    hung = running.send(fire_value("hangs"), fire_value("hangs.async"))
    others = running.send(*(fire_value("quick") for _ in range(20)))
    running.start(ExecutorOptions(threads=2, stop_grace_ms=200))
    finals = running.wait_until_final([*hung, *others])
    assert {finals[fire_id].state for fire_id in others} == {"done"}
    assert (finals[hung[0]].state, finals[hung[0]].attempt) == ("done", 2)
    assert (finals[hung[1]].state, finals[hung[1]].error) == ("dead", "callback_timeout")
    assert cancelled.is_set()
    assert running.finish() == 0, "a thread that hangs does not hold up the stop"
    hang.set()


def test_a_callback_in_a_process_that_hangs_is_killed_and_dead_and_others_go_on(
    running: Running, registry: Registry, tmp_path: Path
) -> None:
    """Its process and what it has started are gone; the executor is the same one."""
    registry.callback("hangs", attempts=1, timeout_in_seconds=3, process=True)(process_callbacks.hang)
    registry.callback("dies", attempts=2, first_wait_in_seconds=0.1, process=True)(process_callbacks.die)
    registry.callback("ok")(lambda: None)
    fire_ids = running.send(fire_value("hangs", [str(tmp_path)]), fire_value("dies"), fire_value("ok"))
    running.start()
    finals = running.wait_until_final(fire_ids)
    errors = [(finals[one].state, finals[one].error) for one in fire_ids]
    assert errors == [("dead", "callback_timeout"), ("dead", "callback_killed_process"), ("done", None)]
    hanging = [int(path.name) for path in tmp_path.iterdir()]
    assert len(hanging) == 2
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in hanging), 10, lambda: str(hanging))


def test_a_backlog_far_larger_than_memory_allows_is_worked_off(running: Running, registry: Registry) -> None:
    """Reading pauses and resumes; every fire is run once."""
    runs: Counter[str] = Counter()
    registry.callback("count")(lambda fire: runs.update([fire.fire_id]))
    fire_ids = [
        *running.send(*(fire_value("count") for _ in range(400)), partition=1),
        *running.send(*(fire_value("count") for _ in range(400)), partition=3),
    ]
    running.start(ExecutorOptions(pending_fires=20, commit_every_ms=50))
    running.wait_until_final(fire_ids)
    assert running.finish() == 0
    assert set(runs.values()) == {1}
    assert len(runs) == 800
    assert (running.committed()[1], running.committed()[3]) == (400, 400)


def test_the_next_executor_runs_nothing_again(running: Running, registry: Registry) -> None:
    """Even if the group has lost its offsets, the outcomes know what is done."""
    runs: Counter[str] = Counter()
    registry.callback("count")(lambda fire: runs.update([fire.fire_id]))
    first = running.send(*(fire_value("count") for _ in range(10)))
    running.start()
    running.wait_until_final(first)
    assert running.finish() == 0
    again = Running(running.servers, registry)
    values = [fire_value("count", fire_id=fire_id) for fire_id in first]
    again.send(*values)  # copies, as a worker's crash makes them
    last = again.send(fire_value("count"))
    again.start()
    again.wait_until_final(last)
    assert again.finish() == 0
    assert set(runs.values()) == {1}


def test_without_a_stop_event_a_signal_stops_it_and_the_handlers_are_put_back(
    running: Running, registry: Registry
) -> None:
    """As on the command line. The signal comes from the callback, so it meets an executor that runs."""
    registry.callback("stop")(lambda: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    (fire_id,) = running.send(fire_value("stop"))
    assert executor.run(running.settings, [], options=OPTIONS, registry=registry) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert running.finals()[fire_id].state == "done"


def test_an_executor_without_callbacks_does_not_start(embedded_kafka: str) -> None:
    """It is a mistake of whoever deploys, told before Kafka is asked."""
    settings = Settings(bootstrap_servers=embedded_kafka, demo_broker=True)
    with pytest.raises(ConfigurationError, match="--callbacks"):
        executor.run(settings, [], stop=threading.Event(), registry=Registry())


def test_a_bug_in_the_executor_ends_it_with_70_and_without_a_commit(
    running: Running, registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is raised outside a callback is the end: nothing rests on a state that nobody understands."""

    def broken(*_args: object) -> None:
        raise RuntimeError("a bug")

    registry.callback("plain")(lambda: None)
    monkeypatch.setattr("wait_for_me_app.executor.schedule.Schedule.fire", broken)
    running.send(fire_value("plain"))
    with caplog.at_level(logging.CRITICAL):
        running.start()
        wait_until(lambda: running.exit_code is not None, 30)
    assert running.exit_code == 70
    assert "executor_failed" in caplog.text
    assert running.committed()[0] < 0
