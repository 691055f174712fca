"""What an executor shows over HTTP: whether it is alive and ready, and its numbers; and its spans, where somebody traces."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

import wait_for_me_app.executor.watch as module
from executor_world import World, fire_value
from processes import wait_until
from wait_for_me.errors import ConfigurationError
from wait_for_me_app.callbacks import Call, Registry
from wait_for_me_app.executor import process as executor
from wait_for_me_app.executor import spans as spans_module
from wait_for_me_app.executor.effects import Start
from wait_for_me_app.executor.spans import Spans
from wait_for_me_app.executor.tally import Tally
from wait_for_me_app.executor.watch import NAMES, Reading, Watch
from wait_for_me_app.exposition import family_of
from wait_for_me_app.settings import Settings


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def ask(port: int, path: str) -> tuple[int, str]:
    """Return status and text of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.fixture
def watch() -> Iterator[Watch]:
    """A watch of an executor that has counted something of everything."""
    tally = Tally()
    tally.attempt("a", "done", 12)
    tally.attempt("a", "callback_failed", 3)
    tally.fire_to_start_ms(7)
    tally.dead("callback_failed")
    watch = Watch(tally, free_port())
    yield watch
    watch.close()


READY = Reading(is_ready=True, partitions=2, in_flight={"task": 3}, pending=5, retries=1, lags={0: 0, 3: 8})


def test_it_is_alive_from_the_start_and_ready_when_it_says_so(watch: Watch) -> None:
    """Not ready says why."""
    assert ask(watch.port, "/livez") == (200, "alive\n")
    status, text = ask(watch.port, "/readyz")
    assert (status, text) == (503, "not ready: it has just been started\n")
    watch.show(READY)
    assert ask(watch.port, "/readyz?verbose") == (200, "ready\n")
    assert ask(watch.port, "/")[0] == 404


def test_an_executor_that_makes_no_turns_is_neither(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread hangs, or its machine does; its callbacks may hang as they like."""
    watch.show(READY)
    monkeypatch.setattr(module, "ALIVE_SECONDS", 0.0)
    assert ask(watch.port, "/livez")[0] == 503
    assert ask(watch.port, "/readyz") == (503, "not ready: it hangs\n")


def test_a_reading_is_wanted_once_a_second(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every turn beats, few are read."""
    assert watch.beat()
    watch.show(READY)
    assert not watch.beat()
    monkeypatch.setattr(module, "READ_EVERY_SECONDS", 0.0)
    assert watch.beat()


def test_every_name_is_exported_with_help_and_type_and_nothing_else_is(watch: Watch) -> None:
    """As Prometheus' own parser reads it."""
    watch.show(READY)
    text = ask(watch.port, "/metrics")[1]
    families = {one.name: one for one in text_string_to_metric_families(text)}
    read = {f"{name}_total" if family.type == "counter" else name: family for name, family in families.items()}
    assert {name: (family.type, family.documentation) for name, family in read.items()} == dict(NAMES)
    values = {(s.name, *sorted(s.labels.items())): s.value for family in families.values() for s in family.samples}
    assert values["wait_for_me_executor_attempts_total", ("callback", "a"), ("outcome", "done")] == 1
    assert values["wait_for_me_executor_in_flight", ("kind", "task")] == 3
    assert values["wait_for_me_executor_lag_records", ("partition", "3")] == 8
    assert all(family_of(name[0], NAMES) in NAMES for name in values)


def test_a_port_that_is_taken_is_refused_with_the_remedy(watch: Watch) -> None:
    """At start, not at the first probe."""
    with pytest.raises(ConfigurationError, match=r"--metrics-port.*Choose another"):
        Watch(Tally(), watch.port)


def test_a_running_executor_shows_what_it_does(embedded_kafka: str, tmp_path: Path) -> None:
    """From not ready to ready, and a callback that is counted; the log says so too."""
    settings = Settings(bootstrap_servers=embedded_kafka, demo_broker=True, executor_metrics_port=free_port())
    registry, stop = Registry(), threading.Event()
    registry.callback("ok")(lambda: None)
    producer = producer_of(settings)
    producer.produce(settings.topics.fires, partition=0, key=b"g", value=fire_value("ok"))
    producer.flush(10)
    thread = threading.Thread(
        target=executor.run, args=(settings, []), kwargs={"stop": stop, "registry": registry}, daemon=True
    )
    thread.start()
    try:
        done = 'wait_for_me_executor_attempts_total{callback="ok",outcome="done"} 1'
        idle = 'wait_for_me_executor_lag_records{partition="0"} 0'
        wait_until(lambda: done in _metrics(settings), 30, lambda: _metrics(settings))
        wait_until(lambda: ask(settings.executor_metrics_port, "/readyz")[0] == 200, 10)
        # The count moves at once, the lag with the next reading.
        wait_until(lambda: idle in _metrics(settings), 10, lambda: _metrics(settings))
    finally:
        stop.set()
        thread.join(30)
    with pytest.raises(OSError, match="refused"):
        ask(settings.executor_metrics_port, "/livez")


def producer_of(settings: Settings) -> Producer:
    """Return a producer; the embedded broker makes a topic when it is asked for."""
    producer = Producer({"bootstrap.servers": settings.bootstrap_servers})
    for topic in (settings.topics.fires, settings.topics.outcomes, settings.topics.fires_dead_letters):
        producer.list_topics(topic, timeout=10)
    return producer


def _metrics(settings: Settings) -> str:
    try:
        return ask(settings.executor_metrics_port, "/metrics")[1]
    except OSError as error:
        return str(error)


def test_done_lines_in_the_log_are_few_however_many_fires_there_are(
    embedded_kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is left out is counted in the next line that is written."""
    caplog.set_level(logging.INFO)
    settings = Settings(bootstrap_servers=embedded_kafka, demo_broker=True, prefix="lines")
    registry, stop = Registry(), threading.Event()
    seen: list[int] = []
    registry.callback("ok")(lambda: seen.append(1))
    producer = producer_of(settings)
    for _ in range(400):
        producer.produce(settings.topics.fires, partition=0, key=b"g", value=fire_value("ok"))
    producer.flush(10)
    thread = threading.Thread(
        target=executor.run, args=(settings, []), kwargs={"stop": stop, "registry": registry}, daemon=True
    )
    thread.start()
    try:
        wait_until(lambda: len(seen) >= 400, 30, lambda: f"{len(seen)} have run")
    finally:
        stop.set()
        thread.join(30)
    lines = [record for record in caplog.records if record.getMessage() == "fire_done"]
    assert 100 <= len(lines) < 400


# --- spans -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Spans that have ended, of a provider that only this test knows."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="pip install opentelemetry-sdk")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(spans_module, "is_on", lambda: True)
    monkeypatch.setattr(spans_module.trace, "get_tracer", provider.get_tracer)
    return kept


def attempt_of(headers: Any, function: Any) -> tuple[Any, Start]:
    """Return an attempt that runs, of a fire with these headers, and what starts it."""
    registry = Registry()
    registry.callback("ok")(function)
    world = World(registry)
    world.write_fire(fire_value("ok"), headers=headers)
    from executor_world import Process

    process = Process(world)
    process.read()
    for _ in range(3):
        process.tick()
        process.deliver()
    return process.schedule.attempts[process.only_token], process.running[process.only_token]


PARENT = ("traceparent", b"00-%032x-%016x-01" % (0xABC, 0xDEF))


def test_an_attempt_is_a_span_in_the_trace_of_its_fire_and_the_callback_runs_inside_it(exporter: Any) -> None:
    """Fire, attempt, and what the callback does: one trace."""
    from opentelemetry import trace

    inside: list[int] = []
    attempt, start = attempt_of((PARENT,), lambda: inside.append(trace.get_current_span().get_span_context().span_id))
    spans = Spans("t.fires", "t-executor")
    started = spans.begin(start, attempt)
    started.call()
    spans.end(start.token, None, None)
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind.name) == ("process t.fires", "CONSUMER")
    assert (span.context.trace_id, span.parent.span_id) == (0xABC, 0xDEF)
    assert inside == [span.context.span_id]
    assert span.attributes["waitforme.attempt"] == 1
    assert span.attributes["messaging.consumer.group.name"] == "t-executor"
    assert span.status.is_ok or span.status.status_code.name == "UNSET"


async def test_an_async_callback_runs_inside_its_span_too(exporter: Any) -> None:
    """On the loop."""
    from opentelemetry import trace

    inside: list[int] = []

    async def later() -> None:
        inside.append(trace.get_current_span().get_span_context().span_id)

    attempt, start = attempt_of((), later)
    spans = Spans("t.fires", "t-executor")
    await spans.begin(start, attempt).call()
    spans.end(start.token, "ValueError", ValueError("no"))
    (span,) = exporter.get_finished_spans()
    assert inside == [span.context.span_id]
    assert span.parent is None
    assert span.attributes["error.type"] == "ValueError"
    assert [event.name for event in span.events] == ["exception"]


def test_without_a_provider_nothing_is_wrapped() -> None:
    """No hard dependency, and no cost."""
    spans = Spans("t.fires", "t-executor")
    start = Start(token=1, call=Call(function=print, args=(), kwargs={}), kind="thread")
    attempt: Any = None
    assert spans.begin(start, attempt) is start
    spans.end(1, None, None)
