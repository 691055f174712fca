"""`wait_fired` and `wait_done` against a broker inside librdkafka: what counts, what does not, and every way to end."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer

import wait_for_me
from executor_world import fire_value
from wait_for_me import AsyncWaitForMe, FinalOutcome, Fire, Receipt, WaitForMe, default_client
from wait_for_me.codec import decode_fire
from wait_for_me.errors import ClientClosed, ConfigurationError, InvalidCommand, NotReady, WaitTimeout
from wait_for_me.outcomes import decode_final_outcome
from wait_for_me.partitioner import partition_for
from wait_for_me.waiting import _is_good

FIRES, OUTCOMES = "wait-for-me.fires", "wait-for-me.outcomes"
GROUP = "deploy-42"
PARTITION = partition_for(GROUP.encode(), 4)


class Kafka:
    """Writes what worker and executor would."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 0, "log_level": 0})
        for topic in (FIRES, OUTCOMES):
            self._producer.list_topics(topic, timeout=10)

    def write(self, topic: str, value: bytes | None, age_s: float = 0.0) -> None:
        at_ms = int((time.time() - age_s) * 1000)
        self._producer.produce(topic, value, b"k", partition=PARTITION, timestamp=at_ms)
        assert self._producer.flush(10) == 0

    def fire(self, age_s: float = 0.0, **changes: Any) -> Fire:
        value = fire_value(**{"group_key": GROUP, "partition": PARTITION, **changes})
        self.write(FIRES, value, age_s)
        return decode_fire(value)

    def outcome(self, fire_id: str, age_s: float = 0.0, **changes: Any) -> None:
        fields = {
            "type": "final",
            "fire_id": fire_id,
            "group_key": GROUP,
            "callback": "ok",
            "partition": PARTITION,
            "offset": 1,
            "revision": 3,
            "attempt": 1,
            "state": "done",
            "finished_at_ms": 5,
            "took_ms": 7,
            "executor": "e",
        }
        self.write(OUTCOMES, json.dumps({**fields, **changes}).encode(), age_s)


@pytest.fixture
def inside(embedded_kafka: str) -> Kafka:
    return Kafka(embedded_kafka)


@pytest.fixture
def client(inside: Kafka) -> Iterator[WaitForMe]:
    with WaitForMe(inside.servers) as one:
        yield one


def later(act: Callable[[], object]) -> threading.Timer:
    """Do something while the test waits."""
    timer = threading.Timer(0.3, act)
    timer.start()
    return timer


# --- fires -----------------------------------------------------------------------------------------------------------


def test_a_fire_that_comes_during_the_wait_ends_it(inside: Kafka, client: WaitForMe) -> None:
    """Fires of other groups, and what is no fire, are passed over."""

    def happen() -> None:
        inside.write(FIRES, b"damaged")
        inside.fire(group_key="other")
        inside.fire(reason="complete")

    timer = later(happen)
    assert client.wait_fired(GROUP, timeout=20).reason == "complete"
    timer.join()


def test_a_fire_of_a_moment_ago_counts_and_an_old_one_does_not(inside: Kafka, client: WaitForMe) -> None:
    """It came while the add was being acknowledged."""
    inside.fire(age_s=600)
    recent = inside.fire(age_s=5)
    assert client.wait_fired(GROUP, timeout=20, lookback=60) == recent
    with pytest.raises(WaitTimeout, match=r"no fire of 'deploy-42' within 0\.3 s: wait longer"):
        client.wait_fired(GROUP, timeout=0.3, lookback=0)


def test_after_an_add_only_its_round_counts(inside: Kafka, client: WaitForMe) -> None:
    """The receipt says where the add lies; a round that was closed before it is an earlier one."""
    inside.fire(closed_offset=9)
    mine = inside.fire(closed_offset=10)
    receipt = Receipt(topic="wait-for-me.commands", partition=PARTITION, offset=10, event_id="e")
    assert client.wait_fired(GROUP, timeout=20, after=receipt) == mine


def test_a_wait_of_no_time_looks_once(inside: Kafka, client: WaitForMe) -> None:
    """For who only asks whether it has fired."""
    with pytest.raises((WaitTimeout, NotReady)):
        client.wait_fired(GROUP, timeout=0)


# --- outcomes --------------------------------------------------------------------------------------------------------


def test_the_outcome_of_a_fire_is_waited_for(inside: Kafka, client: WaitForMe) -> None:
    """Progress, and outcomes of others, are passed over."""

    def happen() -> None:
        inside.write(OUTCOMES, b'{"type":"progress","fire_id":"fire_1","group_key":"deploy-42","state":"started"}')
        inside.write(OUTCOMES, None)
        inside.outcome("fire_0", group_key="other")
        inside.outcome("fire_1")

    timer = later(happen)
    found = client.wait_done(GROUP, timeout=20)
    timer.join()
    assert found == FinalOutcome(
        fire_id="fire_1", group_key=GROUP, callback="ok", state="done", attempt=1, finished_at_ms=5, took_ms=7
    )
    assert found.is_done


def test_with_a_fire_id_only_that_fire_counts(inside: Kafka, client: WaitForMe) -> None:
    """A fire that was given up is an outcome too, and says why."""
    inside.outcome("fire_1")
    inside.outcome("fire_2", state="dead", error="callback_failed", reason="503")
    found = client.wait_done(GROUP, timeout=20, fire_id="fire_2")
    assert (found.is_done, found.error, found.reason) == (False, "callback_failed", "503")
    with pytest.raises(WaitTimeout, match="no final outcome of 'fire_3'"):
        client.wait_done(GROUP, timeout=0.3, fire_id="fire_3")


def test_an_outcome_as_the_executor_writes_it_can_be_read() -> None:
    """The two schemas belong to two packages."""
    from wait_for_me_app.outcomes import Finished, encode_outcome

    written = Finished(
        fire_id="fire_1",
        group_key=GROUP,
        callback="ok",
        partition=1,
        offset=2,
        revision=3,
        attempt=4,
        state="dead",
        finished_at_ms=5,
        executor="e",
        error="bad_parameters",
        reason="why",
    )
    read = decode_final_outcome(encode_outcome(written))
    assert read is not None
    assert (read.fire_id, read.state, read.attempt, read.error) == ("fire_1", "dead", 4, "bad_parameters")


@pytest.mark.parametrize("value", [None, b"", b"{", b"\xff", b'{"type":"final"}', b'{"type":"progress"}', b"[" * 9999])
def test_what_is_no_final_outcome_is_none(value: bytes | None) -> None:
    """Whatever lies in the topic."""
    assert decode_final_outcome(value) is None


# --- asyncio ---------------------------------------------------------------------------------------------------------


async def test_waits_can_be_awaited_many_at_once(inside: Kafka) -> None:
    """Each gets the fire; the loop goes on meanwhile."""
    async with AsyncWaitForMe(inside.servers) as one:
        waits = [asyncio.create_task(one.wait_fired(GROUP, timeout=20)) for _ in range(8)]
        await asyncio.sleep(0)
        fire = inside.fire()
        inside.outcome(fire.fire_id)
        assert await asyncio.gather(*waits) == [fire] * 8
        assert (await one.wait_done(GROUP, timeout=20, fire_id=fire.fire_id)).is_done
        with pytest.raises(WaitTimeout):
            await one.wait_fired("other", timeout=0.3)


async def test_a_cancelled_wait_ends_its_thread(inside: Kafka) -> None:
    """Soon, not at its timeout."""
    async with AsyncWaitForMe(inside.servers) as one:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one.wait_fired(GROUP, timeout=600), 0.5)
        (thread,) = [thread for thread in threading.enumerate() if thread.name == "wait-for-me-waiting"]
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()


async def test_closing_the_async_client_ends_its_waits(inside: Kafka) -> None:
    """With an error that says so."""
    one = AsyncWaitForMe(inside.servers)
    wait = asyncio.create_task(one.wait_fired(GROUP, timeout=600))
    await asyncio.sleep(0)
    await one.close()
    with pytest.raises(ClientClosed, match="make a new one"):
        await wait


# --- ends and errors -------------------------------------------------------------------------------------------------


def test_closing_the_client_ends_its_waits(inside: Kafka) -> None:
    """Of other threads; and a closed client waits for nothing."""
    one = WaitForMe(inside.servers)
    timer = later(one.close)
    with pytest.raises(ClientClosed):
        one.wait_fired(GROUP, timeout=600)
    timer.join()
    with pytest.raises(ClientClosed):
        one.wait_done(GROUP)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"group_key": None}, InvalidCommand, "^group_key is required$"),
        ({"group_key": ""}, InvalidCommand, "^group_key is required$"),
        ({"group_key": 5}, InvalidCommand, "make it a string"),
        ({"group_key": "a\n"}, InvalidCommand, "control character"),
        ({"group_key": "x" * 257}, InvalidCommand, "shorten it"),
        ({"timeout": -1}, ConfigurationError, "timeout is -1: make it a number of seconds"),
        ({"timeout": None}, ConfigurationError, "timeout is None"),
        ({"timeout": float("nan")}, ConfigurationError, "timeout is nan"),
        ({"lookback": -1}, ConfigurationError, "lookback is -1"),
        ({"lookback": "1h"}, ConfigurationError, "lookback is '1h'"),
    ],
)
@pytest.mark.parametrize("method", ["wait_fired", "wait_done"])
def test_arguments_that_make_no_sense_are_refused(
    client: WaitForMe, method: str, arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    """Before Kafka is asked."""
    with pytest.raises(error, match=said):
        getattr(client, method)(**{"group_key": GROUP, **arguments})


def test_without_kafka_it_says_so() -> None:
    """Within the time that the caller has."""
    with WaitForMe("127.0.0.1:1", timeout=0.1) as one, pytest.raises(NotReady, match="Kafka cannot be reached"):
        one.wait_fired(GROUP, timeout=0.5)


def test_a_property_that_librdkafka_refuses_is_named(inside: Kafka) -> None:
    """One for consumers, which the producer had not seen."""
    with (
        WaitForMe(inside.servers, kafka={"fetch.min.bytes": "many"}) as one,
        pytest.raises(ConfigurationError, match="librdkafka refuses a property"),
    ):
        one.wait_fired(GROUP)


def test_what_may_not_be_read_is_told_and_what_passes_is_waited_through() -> None:
    """Authorization is somebody's business; a lost connection is librdkafka's."""

    class Told:
        def __init__(self, error: KafkaError | None) -> None:
            self._error = error

        def error(self) -> KafkaError | None:
            return self._error

        def topic(self) -> str:
            return FIRES

    good: Any = Told(None)
    passing: Any = Told(KafkaError(KafkaError._TRANSPORT))
    forbidden: Any = Told(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    assert _is_good(good)
    assert not _is_good(passing)
    with pytest.raises(ConfigurationError, match="allow this user to READ"):
        _is_good(forbidden)


def test_the_functions_use_the_client_of_the_environment(inside: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """As adding and removing do."""
    monkeypatch.setenv("WAIT_FOR_ME_BOOTSTRAP_SERVERS", inside.servers)
    monkeypatch.setattr(default_client, "_client", None)
    fire = inside.fire()
    inside.outcome(fire.fire_id)
    assert wait_for_me.wait_fired(GROUP, timeout=20) == fire
    assert wait_for_me.wait_done(GROUP, timeout=20).is_done
    client = default_client._client
    assert client is not None
    client.close()
