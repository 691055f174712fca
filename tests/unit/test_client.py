"""The clients and a broker inside librdkafka: what arrives there, what is refused here, how each failure is told."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from enum import IntEnum
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

import wait_for_me
from wait_for_me import default_client, forks
from wait_for_me.aio import AsyncWaitForMe, _hand_over
from wait_for_me.client import WaitForMe
from wait_for_me.codec import decode_command
from wait_for_me.commands import Add, Remove
from wait_for_me.errors import (
    ClientClosed,
    ConfigurationError,
    DeliveryFailed,
    InvalidCommand,
    NotReady,
    WaitForMeError,
)
from wait_for_me.partitioner import partition_for
from wait_for_me.producing import Receipt, Sending
from wait_for_me.records import Record

PARTITIONS = 4  # of every topic in the embedded broker
NOBODY = "127.0.0.1:1"
GEM: dict[str, Any] = {
    "participant_key": "web-3",
    "group_key": "deploy-42",
    "number_of_participants_in_group": 6,
    "execute_after_waiting": "cloudfront.invalidate",
    "execute_after_waiting_params": ["E1", {"n": 1, "ok": True}],
    "wait_time_in_seconds": 60,
}


@pytest.fixture
def wfm(embedded_kafka: str) -> Iterator[WaitForMe]:
    with WaitForMe(embedded_kafka) as client:
        yield client


@pytest.fixture(scope="module")
def unsent() -> Iterator[WaitForMe]:
    """A client for calls that end before anything is sent."""
    client = WaitForMe(NOBODY, kafka={"log_level": 0})
    yield client
    client.close()


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Somebody who accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def stored(servers: str, receipt: Receipt) -> Message:
    """Return the record that a receipt speaks of."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "test", "log_level": 0})
    consumer.assign([TopicPartition(receipt.topic, receipt.partition, receipt.offset)])
    message = consumer.poll(10)
    consumer.close()
    assert message is not None
    assert message.error() is None
    return message


def decoded(message: Message) -> Any:
    return decode_command(message.key(), message.value(), message.headers())  # type: ignore[arg-type]


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def a_record() -> Record:
    return Record(key=b"k", value=b"v", headers=[], event_id="id-1")


# --- what arrives ----------------------------------------------------------------------------------------------------


def test_an_add_arrives_as_the_gem_would_have_said_it(wfm: WaitForMe, embedded_kafka: str) -> None:
    """Key, partition, value and receipt: another language's worker could take it from there."""
    receipt = wfm.add_participant(**GEM)
    message = stored(embedded_kafka, receipt)
    assert (message.key(), message.headers()) == (b"deploy-42", None)
    assert receipt.partition == message.partition() == partition_for(b"deploy-42", PARTITIONS)
    assert msgspec.json.decode(message.value() or b"") == {**GEM, "type": "add", "event_id": receipt.event_id}
    assert (receipt.topic, receipt.offset) == ("wait-for-me.commands", message.offset())


def test_every_group_goes_to_the_partition_that_the_worker_expects(wfm: WaitForMe) -> None:
    """Murmur2 of the key's UTF-8 bytes, not librdkafka's own CRC32."""
    for number in range(40):
        key = f"déploiement-{number}"
        receipt = wfm.add_participant(**{**GEM, "group_key": key})
        assert receipt.partition == partition_for(key.encode(), PARTITIONS)


def test_optional_arguments_arrive_too(wfm: WaitForMe, embedded_kafka: str) -> None:
    """The cap, the linger, the caller's own event_id, and headers of text or bytes."""
    receipt = wfm.add_participant(
        **GEM,
        max_wait_in_seconds=900,
        linger_in_seconds=0.5,
        event_id="mine",
        headers=[("traceparent", "00-é"), ("raw", b"\xff")],
        timeout=10,
    )
    message = stored(embedded_kafka, receipt)
    add = decoded(message)
    assert isinstance(add, Add)
    assert (add.max_wait_ms, add.linger_ms, add.event_id) == (900_000, 500, "mine")
    assert message.headers() == [("traceparent", "00-é".encode()), ("raw", b"\xff")]
    assert receipt.event_id == "mine"


def test_params_default_to_none_at_all(wfm: WaitForMe, embedded_kafka: str) -> None:
    """Both the gem's default and an explicit None mean no arguments."""
    without = {name: value for name, value in GEM.items() if name != "execute_after_waiting_params"}
    for arguments in (without, {**GEM, "execute_after_waiting_params": None}):
        assert decoded(stored(embedded_kafka, wfm.add_participant(**arguments))).params_bytes == b"[]"


class Colour(IntEnum):
    RED = 3


class SafeText(str):
    """Text of a framework, such as a template engine makes."""

    def __str__(self) -> str:
        return self


class Metres(float):
    pass


@pytest.mark.parametrize(
    ("params", "sent"),
    [
        (("a", 1), b'["a",1]'),
        ({"paths": ["/*"]}, b'{"paths":["/*"]}'),
        ("one", b'"one"'),
        (7, b"7"),
        (False, b"false"),
        ([2**64, 10**300, -0.0, None], b"[18446744073709551616,1" + b"0" * 300 + b",-0.0,null]"),
        (msgspec.Raw(b'[1.0, "as it is"]'), b'[1.0, "as it is"]'),
        ([Colour.RED, SafeText("x"), Metres(1.5), {SafeText("k"): SafeText("v")}], b'[3,"x",1.5,{"k":"v"}]'),
    ],
)
def test_params_keep_their_types(wfm: WaitForMe, embedded_kafka: str, params: Any, sent: bytes) -> None:
    """JSON's own types pass through unchanged, and so does JSON that is ready."""
    receipt = wfm.add_participant(**{**GEM, "execute_after_waiting_params": params})
    assert decoded(stored(embedded_kafka, receipt)).params_bytes == sent


def test_text_and_numbers_of_frameworks_are_taken_as_plain_ones(wfm: WaitForMe, embedded_kafka: str) -> None:
    """A subclass of str or int names a group as well as its plain value does."""
    arguments = {
        **GEM,
        "group_key": SafeText("g"),
        "participant_key": SafeText("p"),
        "execute_after_waiting": SafeText("a.b"),
        "number_of_participants_in_group": Colour.RED,
        "wait_time_in_seconds": Metres(1.5),
    }
    add = decoded(stored(embedded_kafka, wfm.add_participant(**arguments)))
    assert (add.group_key, add.number_of_participants_in_group, add.wait_ms) == ("g", 3, 1500)


def test_a_remove_arrives(wfm: WaitForMe, embedded_kafka: str) -> None:
    """With its reason, under the group's key, in the group's partition."""
    receipt = wfm.remove_wait("deploy-42", reason="rolled back", headers=[("a", "b")])
    message = stored(embedded_kafka, receipt)
    assert decoded(message) == Remove(group_key="deploy-42", reason="rolled back", event_id=receipt.event_id)
    assert (message.key(), message.headers()) == (b"deploy-42", [("a", b"b")])
    assert receipt.partition == partition_for(b"deploy-42", PARTITIONS)


def test_each_call_is_an_event_of_its_own(wfm: WaitForMe) -> None:
    """Two adds of one participant are two sends, unless the caller says that it repeats one."""
    assert wfm.add_participant(**GEM).event_id != wfm.add_participant(**GEM).event_id


def test_a_prefix_chooses_the_deployment(embedded_kafka: str) -> None:
    """Several deployments share a cluster."""
    with WaitForMe(embedded_kafka, prefix="shop") as client:
        assert client.add_participant(**GEM).topic == "shop.commands"


def test_threads_share_a_client(wfm: WaitForMe) -> None:
    """Every call gets the receipt of its own record."""
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(wfm.add_participant, **{**GEM, "event_id": f"e{n}"}) for n in range(200)]
        receipts = [call.result(30) for call in calls]
    assert [receipt.event_id for receipt in receipts] == [f"e{n}" for n in range(200)]
    assert len({(receipt.partition, receipt.offset) for receipt in receipts}) == 200


def test_from_env_reads_the_documented_variables(embedded_kafka: str) -> None:
    """Address, librdkafka's properties and the prefix."""
    environ = {
        "WAIT_FOR_ME_BOOTSTRAP_SERVERS": embedded_kafka,
        "WAIT_FOR_ME_PREFIX": "shop",
        "WAIT_FOR_ME_KAFKA_COMPRESSION_TYPE": "gzip",
        "WAIT_FOR_ME_KAFKA_SESSION_TIMEOUT_MS": "6000",
    }
    with WaitForMe.from_env(environ) as client:
        assert client.add_participant(**GEM).topic == "shop.commands"


def test_the_functions_of_the_module_use_one_client_made_from_the_environment(
    embedded_kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the gem's calls do; the environment may still be set after the import."""
    monkeypatch.setattr(default_client, "_client", None)
    monkeypatch.setenv("WAIT_FOR_ME_BOOTSTRAP_SERVERS", embedded_kafka)
    first, second = wait_for_me.add_participant(**GEM), wait_for_me.remove_wait("deploy-42")
    assert (second.partition, second.offset) == (first.partition, first.offset + 1)
    client = default_client._client
    assert client is not None
    client.close()


# --- what is refused before it is sent -------------------------------------------------------------------------------


def test_missing_arguments_are_named_as_the_gem_names_them(unsent: WaitForMe) -> None:
    """None and empty text are missing; the order is the gem's."""
    with pytest.raises(ValueError, match=r"^group_key is required, wait_time_in_seconds is required$"):
        unsent.add_participant(**{**GEM, "wait_time_in_seconds": None, "group_key": ""})
    with pytest.raises(InvalidCommand, match=r"^participant_key is required, group_key is required, number_of_"):
        unsent.add_participant()
    with pytest.raises(InvalidCommand, match=r"^group_key is required$"):
        unsent.remove_wait()


@pytest.mark.parametrize(
    ("argument", "value", "code"),
    [
        ("group_key", 42, "wrong_type"),
        ("group_key", "é" * 129, "too_long"),
        ("group_key", "a\nb", "control_character"),
        ("group_key", "\ud800", "not_utf8"),
        ("participant_key", b"web-3", "wrong_type"),
        ("participant_key", "p" * 257, "too_long"),
        ("participant_key", "\x85", "control_character"),
        ("number_of_participants_in_group", 0, "out_of_range"),
        ("number_of_participants_in_group", -1, "out_of_range"),
        ("number_of_participants_in_group", 100_001, "out_of_range"),
        ("number_of_participants_in_group", "6", "wrong_type"),
        ("number_of_participants_in_group", 6.0, "wrong_type"),
        ("number_of_participants_in_group", True, "wrong_type"),
        ("execute_after_waiting", "os.system ls", "bad_callback_name"),
        ("execute_after_waiting", "a\n", "bad_callback_name"),
        ("execute_after_waiting", "x" * 129, "bad_callback_name"),
        ("execute_after_waiting", print, "wrong_type"),
        ("wait_time_in_seconds", 0, "out_of_range"),
        ("wait_time_in_seconds", -5, "out_of_range"),
        ("wait_time_in_seconds", 2_592_001, "out_of_range"),
        ("wait_time_in_seconds", 10**400, "out_of_range"),
        ("number_of_participants_in_group", 10**400, "out_of_range"),
        ("wait_time_in_seconds", float("nan"), "out_of_range"),
        ("wait_time_in_seconds", float("inf"), "out_of_range"),
        ("wait_time_in_seconds", "60", "wrong_type"),
        ("wait_time_in_seconds", Decimal(60), "wrong_type"),
        ("max_wait_in_seconds", 0, "out_of_range"),
        ("linger_in_seconds", -1, "out_of_range"),
        ("event_id", "", "empty"),
        ("event_id", "e" * 129, "too_long"),
        ("event_id", 7, "wrong_type"),
        ("execute_after_waiting_params", [float("nan")], "out_of_range"),
        ("execute_after_waiting_params", {"a": float("inf")}, "out_of_range"),
        ("execute_after_waiting_params", {1: "a"}, "wrong_type"),
        ("execute_after_waiting_params", [{"a", "b"}], "wrong_type"),
        ("execute_after_waiting_params", b"bytes", "wrong_type"),
        ("execute_after_waiting_params", [Decimal(1)], "wrong_type"),
        ("execute_after_waiting_params", ["\ud800"], "not_json"),
        ("execute_after_waiting_params", [10**5000], "not_json"),
        ("execute_after_waiting_params", msgspec.Raw(b'1,"type":"remove"'), "not_json"),
        ("execute_after_waiting_params", msgspec.Raw(b'["\xff"]'), "not_json"),
        ("execute_after_waiting_params", ["x" * 65_536], "too_large"),
        ("headers", {"wfm_rerouted": "1:2"}, "wrong_type"),
        ("headers", {"a": 1}, "wrong_type"),
        ("headers", [(b"a", b"b")], "wrong_type"),
        ("headers", {"a": "\ud800"}, "not_utf8"),
        ("headers", {"ce_specversion": "1.0", "ce_type": "waitforme.remove.v1"}, "bad_cloudevent"),
        ("headers", {"content-type": "application/cloudevents+json"}, "bad_cloudevent"),
    ],
)
def test_what_the_worker_would_set_aside_is_not_sent(unsent: WaitForMe, argument: str, value: Any, code: str) -> None:
    """The caller learns at the call what the dead letters would have said later."""
    with pytest.raises(InvalidCommand) as caught:
        unsent.add_participant(**{**GEM, argument: value})
    assert caught.value.code == code
    assert ": " in str(caught.value)


def test_params_that_nest_without_end_are_refused(unsent: WaitForMe) -> None:
    """Both a long chain and a list that holds itself."""
    endless: list[Any] = []
    endless.append(endless)
    for params in (endless, msgspec.json.decode(b"[" * 33 + b"]" * 33)):
        with pytest.raises(InvalidCommand) as caught:
            unsent.add_participant(**{**GEM, "execute_after_waiting_params": params})
        assert caught.value.code == "too_deep"


@pytest.mark.parametrize(
    ("argument", "value"), [("reason", 7), ("reason", "r" * 1025), ("event_id", ""), ("headers", {"wfm_x": "1"})]
)
def test_a_remove_that_the_worker_would_set_aside_is_not_sent(unsent: WaitForMe, argument: str, value: Any) -> None:
    """The same checks as for an add."""
    with pytest.raises(InvalidCommand):
        unsent.remove_wait("deploy-42", **{argument: value})


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kafka",
    [
        {"partitioner": "consistent_random"},
        {"acks": 1},
        {"request.required.acks": "0"},
        {"enable.idempotence": False},
        {"delivery.report.only.error": True},
        {"transactional.id": "t"},
        {"dr_msg_cb": print},
        {"error_cb": print},
        {"logger": logging.getLogger()},
        {"on_delivery": print},
        {"no.such.property": "1"},
        {"compression.type": "none of them"},
        {"max.in.flight": 10},
        {"security.protocol": "sasl_plaintext", "sasl.mechanisms": "PLAIN"},
        {"linger.ms": None},
        {"bootstrap.servers": "elsewhere:9092"},
    ],
    ids=str,
)
def test_settings_that_would_break_a_guarantee_or_are_wrong_are_refused(kafka: dict[str, Any]) -> None:
    """When the client is made, not weeks later."""
    with pytest.raises(ConfigurationError, match=": "):
        WaitForMe(NOBODY, kafka=kafka)


@pytest.mark.parametrize(
    "arguments",
    [
        {"bootstrap_servers": ""},
        {"bootstrap_servers": " "},
        {"bootstrap_servers": 9092},
        {"prefix": "a b"},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": 901},
        {"timeout": float("nan")},
        {"timeout": "10"},
    ],
    ids=str,
)
def test_arguments_that_make_no_client_are_refused(arguments: dict[str, Any]) -> None:
    """With the remedy, as every other error."""
    with pytest.raises(ConfigurationError, match=": "):
        WaitForMe(**arguments)


def test_settings_that_only_repeat_the_guarantees_are_accepted(embedded_kafka: str) -> None:
    """A configuration file that is shared with other clients need not be edited for ours."""
    kafka = {
        "metadata.broker.list": embedded_kafka,
        "acks": "-1",
        "request.required.acks": "all",
        "enable.idempotence": "true",
        "partitioner": "murmur2",
        "message.timeout.ms": 5000,
        "group.id": "not ours",
        "client.id": "mine",
    }
    with WaitForMe(kafka=kafka) as client:
        receipt = client.add_participant(**GEM)
    assert receipt.partition == partition_for(b"deploy-42", PARTITIONS)


# --- what goes wrong on the way --------------------------------------------------------------------------------------


def test_kafka_out_of_reach_is_told_as_not_ready(caplog: pytest.LogCaptureFixture) -> None:
    """With the reason, the remedy, and the event_id to repeat the call with; within about the timeout."""
    caplog.set_level(logging.CRITICAL, "wait_for_me.kafka")
    with WaitForMe(NOBODY, timeout=0.5) as client, pytest.raises(NotReady, match=r"refused.*same event_id") as caught:
        client.add_participant(**GEM, event_id="mine")
    assert caught.value.event_id == "mine"


def test_a_timeout_of_one_call_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    """Also when the client as a whole is more patient."""
    caplog.set_level(logging.CRITICAL, "wait_for_me.kafka")
    client = WaitForMe(NOBODY, timeout=60)
    began = time.monotonic()
    with pytest.raises(NotReady):
        client.add_participant(**GEM, timeout=0.3)
    assert time.monotonic() - began < 5
    client.close(timeout=0.1)


def test_silence_is_told_as_a_failed_delivery(silent_server: str, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody is there but nothing is acknowledged: the add may or may not be stored."""
    client = WaitForMe(silent_server)
    with pytest.raises(DeliveryFailed, match=r"within 0\.2 s.*same event_id") as caught:
        client.remove_wait("deploy-42", timeout=0.2)
    assert caught.value.event_id
    client.close(timeout=0.1)
    assert "1 commands unacknowledged" in caplog.text


def test_a_full_queue_is_waited_for_and_then_told(silent_server: str) -> None:
    """The remedy names the property."""
    client = WaitForMe(silent_server, kafka={"queue.buffering.max.messages": 1})
    for expected in ("no acknowledgement", "queue.buffering.max.messages"):
        with pytest.raises(DeliveryFailed, match=expected):
            client.add_participant(**GEM, timeout=0.1)
    client.close(timeout=0.1)


def test_a_record_that_librdkafka_refuses_is_a_failed_delivery(embedded_kafka: str) -> None:
    """Such as one above `message.max.bytes`."""
    with WaitForMe(embedded_kafka, kafka={"message.max.bytes": 1000}) as client:
        with pytest.raises(DeliveryFailed, match="too large"):
            client.add_participant(**{**GEM, "execute_after_waiting_params": ["x" * 2000]})
        assert client.add_participant(**GEM).offset == 0


@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, DeliveryFailed, "topics create"),
        (KafkaError._UNKNOWN_TOPIC, DeliveryFailed, "topics create"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, DeliveryFailed, "WRITE"),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, DeliveryFailed, "WRITE"),
        (KafkaError.NOT_ENOUGH_REPLICAS, DeliveryFailed, "same event_id"),
        (KafkaError._MSG_TIMED_OUT, DeliveryFailed, "same event_id"),
        (KafkaError._PURGE_QUEUE, DeliveryFailed, "same event_id"),
    ],
)
def test_each_refusal_of_the_broker_has_its_remedy(embedded_kafka: str, code: int, kind: type, remedy: str) -> None:
    """What a broker in production says, and a broker in a test does not."""
    sending = Sending({"bootstrap.servers": embedded_kafka})
    error = sending._current().way.failure(KafkaError(code), a_record())
    sending.close(0.1)
    assert type(error) is kind
    assert remedy in str(error)
    assert error.event_id == "id-1"


def test_a_timeout_while_all_brokers_are_down_is_not_ready_and_an_acknowledgement_ends_it(embedded_kafka: str) -> None:
    """The state of the connection tells an outage from a refusal."""
    with WaitForMe(embedded_kafka) as client:
        way = client._sending._current().way
        way.hear(KafkaError(KafkaError._TRANSPORT, "cable cut"))
        way.hear(KafkaError(KafkaError._ALL_BROKERS_DOWN))
        assert "cable cut" in str(way.failure(KafkaError(KafkaError._MSG_TIMED_OUT), a_record()))
        assert isinstance(client._sending.overdue(a_record(), 1), NotReady)
        client.add_participant(**GEM)
        assert isinstance(client._sending.overdue(a_record(), 1), DeliveryFailed)


def test_a_producer_that_has_lost_count_is_replaced(wfm: WaitForMe) -> None:
    """An idempotent producer never sends again after a fatal error; the client goes on with a new one."""
    wfm.add_participant(**GEM)
    old = wfm._sending._current()
    old.way.hear(KafkaError(KafkaError._FATAL, "out of sequence", True))
    assert wfm.add_participant(**GEM).offset == 1
    assert wfm._sending._current() is not old
    until(lambda: not old._collector.is_alive())


def test_a_fatal_refusal_of_one_record_replaces_the_producer_too(wfm: WaitForMe) -> None:
    """Whichever way librdkafka tells it."""
    old = wfm._sending._current()
    old.way.failure(KafkaError(KafkaError._FATAL, "fenced", True), a_record())
    assert wfm._sending._current() is not old


# --- the end of a client ---------------------------------------------------------------------------------------------


def test_a_closed_client_refuses_calls(embedded_kafka: str) -> None:
    """And closing twice is fine."""
    client = WaitForMe(embedded_kafka)
    client.add_participant(**GEM)
    assert client.flush() == 0
    client.close()
    client.close()
    assert client.flush() == 0
    with pytest.raises(ClientClosed, match="make a new one"):
        client.add_participant(**GEM)
    assert isinstance(client._sending.overdue(a_record(), 1), DeliveryFailed)


def test_a_forgotten_client_ends_by_itself(embedded_kafka: str) -> None:
    """Its thread and its producer go with it."""
    client = WaitForMe(embedded_kafka)
    client.add_participant(**GEM)
    collector = client._sending._current()._collector
    del client
    gc.collect()
    until(lambda: not collector.is_alive())


def test_a_program_that_forgets_to_close_ends_all_the_same(embedded_kafka: str) -> None:
    """Without a hang, and with its add delivered."""
    program = f"""
        from wait_for_me import WaitForMe
        client = WaitForMe("{embedded_kafka}")
        print(client.add_participant(**{GEM!r}).offset)
    """
    assert run(program) == "0\n"


# --- forks -----------------------------------------------------------------------------------------------------------


def run(program: str) -> str:
    """Run a program in a fresh interpreter and return what it prints."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_a_forked_child_sends_over_a_connection_of_its_own(embedded_kafka: str) -> None:
    """A server that loads its application before it forks: both sides send, both end, nobody hangs."""
    program = f"""
        import os, sys
        from wait_for_me import WaitForMe
        client = WaitForMe("{embedded_kafka}")
        first = client.add_participant(**{GEM!r})
        child = os.fork()
        if not child:
            receipts = [client.add_participant(**{GEM!r}) for _ in range(3)]
            assert len({{r.offset for r in receipts}} | {{first.offset}}) == 4
            sys.exit(7)  # the whole way out, through the interpreter's clean-up
        second = client.add_participant(**{GEM!r})
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        client.close()
        print("both", first.offset, second.offset > 0)
    """
    assert run(program) == "both 0 True\n"


def test_a_forked_child_that_never_sends_can_end(embedded_kafka: str) -> None:
    """Freeing the parent's producer in the child would wait for ever for threads that are not there."""
    program = f"""
        import gc, os, sys
        from wait_for_me import WaitForMe
        client = WaitForMe("{embedded_kafka}")
        client.add_participant(**{GEM!r})
        child = os.fork()
        if not child:
            client.close()
            del client
            gc.collect()
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run(program) == "7\n"


def test_a_fork_while_other_threads_send_leaves_no_lock_behind(embedded_kafka: str) -> None:
    """The child finds the client usable whatever the parent's threads were doing."""
    program = f"""
        import os, sys, threading
        from wait_for_me import WaitForMe
        client = WaitForMe("{embedded_kafka}")
        client.add_participant(**{GEM!r})
        stop = threading.Event()
        def chatter():
            while not stop.is_set():
                client.add_participant(**{GEM!r})
        threads = [threading.Thread(target=chatter) for _ in range(4)]
        [thread.start() for thread in threads]
        for _ in range(5):
            child = os.fork()
            if not child:
                client.add_participant(**{GEM!r})
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        stop.set()
        [thread.join() for thread in threads]
        client.close()
        print("fine")
    """
    assert run(program) == "fine\n"


def test_the_functions_of_the_module_survive_a_fork(embedded_kafka: str) -> None:
    """The process's own client is a client like any other."""
    program = f"""
        import os
        os.environ["WAIT_FOR_ME_BOOTSTRAP_SERVERS"] = "{embedded_kafka}"
        import wait_for_me
        wait_for_me.add_participant(**{GEM!r})
        child = os.fork()
        if not child:
            wait_for_me.remove_wait("deploy-42")
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run(program) == "7\n"


def test_what_was_carried_over_a_fork_is_kept_alive_for_good() -> None:
    """One reference too many."""

    class Handle:
        freed = False

        def __del__(self) -> None:
            Handle.freed = True

    handle = Handle()
    forks.never_free(handle)
    del handle
    gc.collect()
    assert not Handle.freed


# --- asyncio ---------------------------------------------------------------------------------------------------------


async def test_asyncio_sends_many_at_once(embedded_kafka: str) -> None:
    """Each call gets the receipt of its own record, headers included."""
    async with AsyncWaitForMe(embedded_kafka) as client:
        calls = (client.add_participant(**{**GEM, "event_id": f"e{n}"}, headers={"n": str(n)}) for n in range(300))
        receipts = await asyncio.gather(*calls)
        assert [receipt.event_id for receipt in receipts] == [f"e{n}" for n in range(300)]
        removed = await client.remove_wait("deploy-42", reason="r")
        assert await client.flush() == 0
    message = await asyncio.to_thread(stored, embedded_kafka, receipts[299])
    assert message.headers() == [("n", b"299")]
    assert isinstance(decoded(await asyncio.to_thread(stored, embedded_kafka, removed)), Remove)


async def test_asyncio_refuses_what_the_synchronous_client_refuses(embedded_kafka: str) -> None:
    """The gem's words, before anything is sent; and nothing after the end."""
    async with AsyncWaitForMe.from_env({"WAIT_FOR_ME_BOOTSTRAP_SERVERS": embedded_kafka}) as client:
        with pytest.raises(InvalidCommand, match="group_key is required"):
            await client.add_participant()
    await client.close()
    with pytest.raises(ClientClosed):
        await client.remove_wait("deploy-42")


async def test_asyncio_tells_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    """By librdkafka's verdict, or by the call's own timeout if that is shorter."""
    caplog.set_level(logging.CRITICAL, "wait_for_me.kafka")
    async with AsyncWaitForMe(NOBODY, timeout=0.5) as client:
        with pytest.raises(NotReady):
            await client.add_participant(**GEM)
        with pytest.raises(NotReady):
            await client.add_participant(**GEM, timeout=0.05)


async def test_asyncio_waits_for_a_place_in_the_queue_without_blocking_the_loop(silent_server: str) -> None:
    """Other tasks go on meanwhile, and a call in vain is told why."""
    client = AsyncWaitForMe(silent_server, kafka={"queue.buffering.max.messages": 1})
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.005)
            beats += 1

    heart = asyncio.create_task(beat())
    calls = [client.add_participant(**GEM, timeout=0.3) for _ in range(2)]
    errors = await asyncio.gather(*calls, return_exceptions=True)
    heart.cancel()
    await client.close(timeout=0.1)
    assert sorted("queue" in str(error) for error in errors) == [False, True]
    assert all(isinstance(error, DeliveryFailed) for error in errors)
    assert beats > 10


async def test_a_cancelled_call_harms_nobody(silent_server: str, embedded_kafka: str) -> None:
    """Its outcome is dropped, whether it comes or not."""
    async with AsyncWaitForMe(embedded_kafka) as client:
        call = asyncio.create_task(client.add_participant(**GEM))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await client.add_participant(**GEM)).event_id


def test_an_outcome_for_a_loop_that_has_ended_is_dropped() -> None:
    """The collecting thread outlives loops and must not fall over one."""
    loop = asyncio.new_event_loop()
    told: Any = loop.create_future()
    loop.close()
    _hand_over(loop, told, DeliveryFailed("late"))
    assert not told.done()


def test_one_asyncio_client_serves_loops_one_after_the_other(embedded_kafka: str) -> None:
    """It is bound to no loop."""
    client = AsyncWaitForMe(embedded_kafka)
    offsets = [asyncio.run(client.add_participant(**GEM)).offset for _ in range(2)]
    asyncio.run(client.close())
    assert offsets == [0, 1]


def test_every_error_of_the_clients_is_caught_by_one_name() -> None:
    """For who wants to treat them all alike."""
    assert all(
        issubclass(kind, WaitForMeError)
        for kind in (InvalidCommand, ConfigurationError, DeliveryFailed, NotReady, ClientClosed)
    )
