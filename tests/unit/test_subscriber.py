"""The subscription against a broker inside librdkafka: at least once, copies skipped, and every way to end."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import textwrap
import threading
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from wait_for_me import Fire, Subscription, subscribe
from wait_for_me.codec import decode_fire, encode_fire
from wait_for_me.errors import ClientClosed, ConfigurationError, ForkedClient, NotReady, WaitTimeout
from wait_for_me.subscriber import _commit, _judge, _Memory, subscribe_from_env

TOPIC = "wait-for-me.fires"
JOINS_WITHIN = 15.0  # seconds: the embedded broker lets a group wait 3 s for more members

GOLDEN = Path(__file__).parent.parent / "golden" / "wire-v1.jsonl"
RECORDED = map(json.loads, GOLDEN.read_text(encoding="utf-8").splitlines())
A_FIRE = decode_fire(next(line for line in RECORDED if line["name"] == "fire by timeout")["value"]["text"].encode())


def a_fire(number: int) -> Fire:
    return msgspec.structs.replace(A_FIRE, fire_id=f"fire_{number}", group_key="deploy-42")


class Worker:
    """Writes to the fires topic, all to one partition so that the order is known."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 0, "log_level": 0})

    def write(self, *values: bytes | Fire) -> None:
        for value in values:
            encoded = encode_fire(value) if isinstance(value, Fire) else value
            self._producer.produce(TOPIC, encoded, b"deploy-42", partition=1)
        assert self._producer.flush(10) == 0

    def committed(self, group_id: str) -> int:
        """Return the offset at which the group would begin again."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": group_id})
        offset = consumer.committed([TopicPartition(TOPIC, 1)], timeout=10)[0].offset
        consumer.close()
        return offset


@pytest.fixture
def worker(embedded_kafka: str) -> Worker:
    return Worker(embedded_kafka)


def reading(worker: Worker, **arguments: Any) -> Subscription:
    return subscribe(worker.servers, **{"group_id": "cdn", "idle_timeout": JOINS_WITHIN, **arguments})


def test_fires_come_in_order_once_each_and_are_committed_after_their_handling(worker: Worker) -> None:
    """Copies that a worker's crash made are skipped, damaged records passed over, and the place is remembered."""
    worker.write(a_fire(1), b"damaged", a_fire(2), a_fire(1), a_fire(2), a_fire(3))
    seen = []
    with reading(worker) as fires:
        for fire in fires:
            seen.append(fire)
            if len(seen) == 3:
                fires.commit()
                break
    assert seen == [a_fire(1), a_fire(2), a_fire(3)]
    assert worker.committed("cdn") == 6


def test_a_fire_whose_handling_failed_comes_again(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """In the next loop over the same subscription; and in the next process, for it was never committed."""
    worker.write(a_fire(1), a_fire(2), b"damaged", a_fire(3))
    fires = reading(worker)

    def handle(fire: Fire) -> None:
        if fire.fire_id == "fire_2":
            raise RuntimeError("handling failed")

    with pytest.raises(RuntimeError, match="handling failed"):
        deque(map(handle, fires), maxlen=0)
    assert [next(iter(fires)).fire_id, next(fires).fire_id] == ["fire_2", "fire_3"]
    fires.close()
    assert worker.committed("cdn") == 3  # fire_2 and the damaged record behind it are done, fire_3 is not
    assert "not a fire" in caplog.text


def test_a_loop_ends_when_nothing_comes_any_more(worker: Worker) -> None:
    """After `idle_timeout`, with everything handled committed and the group left."""
    worker.write(a_fire(1))
    with reading(worker, kafka={"enable.partition.eof": True}) as fires:  # an event that is no fire and no trouble
        assert fires.receive(JOINS_WITHIN).fire_id == "fire_1"
        with pytest.raises(WaitTimeout, match=r"no fire within 0\.05 s"):
            fires.receive(0.05)
        fires._idle_timeout = 0.05
        assert list(fires) == []
        with pytest.raises(StopIteration):
            next(fires)
    assert worker.committed("cdn") == 1


def test_stopping_from_another_thread_ends_the_loop(worker: Worker) -> None:
    """Without waiting for the next fire."""
    worker.write(a_fire(1))
    fires = reading(worker, idle_timeout=None)
    seen: list[str] = []
    first = threading.Event()

    def read() -> None:
        for fire in fires:
            seen.append(fire.fire_id)
            first.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert first.wait(JOINS_WITHIN)
    fires.close()  # the reader is reading, so it is the reader who lets go
    reader.join(10)
    assert not reader.is_alive()
    assert seen == ["fire_1"]
    with pytest.raises(ClientClosed, match="subscribe again"):
        fires.receive()
    with pytest.raises(ClientClosed):
        fires.commit()
    fires.close()


def test_a_signal_while_a_fire_is_handled_ends_the_loop_after_it(worker: Worker) -> None:
    """As a service does on SIGTERM: the fire in hand is finished and committed, the next one is left for others."""
    worker.write(a_fire(1), a_fire(2))
    before = signal.signal(signal.SIGUSR1, lambda *_: fires.stop())
    seen = []
    try:
        fires = reading(worker)
        for fire in fires:
            signal.raise_signal(signal.SIGUSR1)
            seen.append(fire.fire_id)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == ["fire_1"]
    assert worker.committed("cdn") == 1


def test_closing_in_a_signal_handler_while_the_loop_waits_does_not_lock_up(worker: Worker) -> None:
    """The handler runs in the very thread that reads."""
    worker.write(a_fire(1))
    fires = reading(worker, idle_timeout=None)
    before = signal.signal(signal.SIGALRM, lambda *_: fires.close())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        assert list(fires) == []
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_new_group_may_begin_with_what_comes_next(worker: Worker) -> None:
    """Instead of with seven days of history."""
    worker.write(a_fire(1))
    with reading(worker, start="latest", group_id="late") as fires:
        with pytest.raises(WaitTimeout):
            fires.receive(6)  # joins, finds the end
        worker.write(a_fire(2))
        assert fires.receive(JOINS_WITHIN).fire_id == "fire_2"


def test_the_environment_names_the_deployment(embedded_kafka: str) -> None:
    """The same variables as for the client; a stray group id in them cannot merge two services."""
    environ = {
        "WAIT_FOR_ME_BOOTSTRAP_SERVERS": embedded_kafka,
        "WAIT_FOR_ME_PREFIX": "shop",
        "WAIT_FOR_ME_KAFKA_GROUP_ID": "stray",
        "WAIT_FOR_ME_KAFKA_LINGER_MS": "5",
    }
    with subscribe_from_env(group_id="cdn", environ=environ) as fires:
        assert fires._topic == "shop.fires"


def test_a_subscription_that_crossed_a_fork_refuses_service_in_the_child(worker: Worker) -> None:
    """Two processes cannot share one place in the group; the child can end, and the parent reads on."""
    worker.write(a_fire(1))
    program = f"""
        import os, sys
        from wait_for_me import ForkedClient, subscribe
        fires = subscribe("{worker.servers}", group_id="cdn", idle_timeout=15)
        child = os.fork()
        if not child:
            try:
                next(fires)
            except ForkedClient as error:
                assert "subscribe in the child" in str(error)
                fires.close()
                del fires
                sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        print(next(fires).fire_id)
        fires.close()
    """
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (finished.returncode, finished.stdout) == (0, "fire_1\n"), finished.stderr
    assert issubclass(ForkedClient, RuntimeError)


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_kafka_out_of_reach_is_told_at_the_first_fire(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer by itself would wait for ever in silence."""
    monkeypatch.setattr("wait_for_me.subscriber._FIRST_CONTACT_SECONDS", 0.3)
    fires = subscribe("127.0.0.1:1", group_id="cdn", kafka={"log_level": 0})
    with fires, pytest.raises(NotReady, match=r"cannot be reached.*check its address"):
        next(fires)


def test_a_topic_that_does_not_exist_is_told_at_the_first_fire(embedded_kafka: str) -> None:
    """Waiting for it in silence would look like a quiet day."""
    with subscribe(embedded_kafka, group_id="cdn") as fires, pytest.raises(ConfigurationError, match="topics create"):
        next(fires)


@pytest.mark.parametrize(
    "arguments",
    [
        {"group_id": ""},
        {"kafka": {"isolation.level": "read_uncommitted"}},
        {"kafka": {"enable.auto.commit": False}},
        {"kafka": {"enable.auto.offset.store": True}},
        {"kafka": {"group.id": "other"}},
        {"kafka": {"auto.offset.reset": "latest"}},
        {"kafka": {"no.such.property": 1}},
        {"kafka": {"bootstrap.servers": "elsewhere:9092"}},
        {"kafka": {"error_cb": print}},
        {"start": "yesterday"},
        {"remember": 0},
        {"prefix": "a b"},
    ],
    ids=str,
)
def test_settings_that_would_break_a_guarantee_or_are_wrong_are_refused(arguments: dict[str, Any]) -> None:
    """When subscribing, with the remedy."""
    with pytest.raises(ConfigurationError, match=": "):
        subscribe("127.0.0.1:1", **{"group_id": "cdn", **arguments})


def test_settings_that_only_repeat_the_guarantees_are_accepted(embedded_kafka: str) -> None:
    """And those for producers are left to producers."""
    kafka = {"isolation.level": "read_committed", "metadata.broker.list": embedded_kafka, "acks": 1}
    subscribe(group_id="cdn", kafka=kafka).close()


@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        (KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), ConfigurationError, "topics create"),
        (KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), ConfigurationError, "READ"),
        (KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED), ConfigurationError, "READ"),
        (KafkaError(KafkaError._FATAL, "fenced", True), NotReady, "subscribe again"),
    ],
)
def test_what_someone_must_act_on_is_raised(error: KafkaError, kind: type[Exception], remedy: str) -> None:
    """What a broker in production says, and a broker in a test does not."""
    with pytest.raises(kind, match=remedy):
        _judge(error)


def test_what_librdkafka_repairs_by_itself_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The end of a partition is not even that."""
    caplog.set_level(logging.INFO, "wait_for_me.kafka")
    _judge(KafkaError(KafkaError._PARTITION_EOF))
    assert not caplog.text
    _judge(KafkaError(KafkaError._TRANSPORT, "cable cut"))
    assert "cable cut" in caplog.text


def test_a_fire_of_a_partition_that_has_gone_to_another_member_is_not_committed(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    """The other member will get it again; this one goes on."""
    caplog.set_level(logging.INFO, "wait_for_me.kafka")
    worker.write(a_fire(1))
    with reading(worker) as fires:
        next(fires)
        assert fires._consumer is not None
        fires._consumer.unassign()
        fires.commit()
        assert "not committed" in caplog.text
    assert worker.committed("cdn") < 0


def test_a_commit_that_kafka_does_not_confirm_is_told() -> None:
    """Whoever commits before leaving must know that the fires come again."""

    class Unreachable:
        def commit(self, *, asynchronous: bool) -> None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    with pytest.raises(NotReady, match=r"not committed.*handle them by fire_id"):
        _commit(Unreachable())  # type: ignore[arg-type]


def test_the_memory_of_fires_is_bounded() -> None:
    """The oldest is forgotten first."""
    memory = _Memory(2)
    for key in "abca":
        memory.add(key)
    assert [key in memory for key in "abc"] == [True, False, True]
    assert len(memory._keys) == 2
