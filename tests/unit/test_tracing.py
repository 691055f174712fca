"""The span of a fire links to the adds of its round, with the user's own SDK; without one nothing changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fakes import NOON_MS, TOPICS, MemoryOutlet, Refused, add, new_lane
from wait_for_me_app.lane import LaneFailure
from wait_for_me_app.tracing import LINKS, TracingOutlet, tracing_is_on

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="pip install opentelemetry-sdk")


@pytest.fixture(scope="module")
def exporter() -> object:
    """Spans that have ended, in memory; a process has one provider, so it is set once."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    assert not tracing_is_on()
    kept, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)
    return kept


@pytest.fixture
def spans(exporter: object) -> Iterator[object]:
    """The same, empty."""
    exporter.clear()  # type: ignore[attr-defined]
    yield exporter
    exporter.clear()  # type: ignore[attr-defined]


def context(number: int) -> list[tuple[str, bytes]]:
    """Return the headers of an add in a trace of its own."""
    return [("traceparent", b"00-%032x-%016x-01" % (number + 1, number + 1))]


async def fold(outlet: MemoryOutlet, count: int, *, traced: int) -> TracingOutlet:
    """Fold adds that complete a group, the last `traced` of them with a trace context."""
    tracing = TracingOutlet(outlet, TOPICS)
    lane = new_lane(outlet)
    lane.outlet = tracing
    run = [
        add(n, NOON_MS, participant=f"p{n}", of=count, headers=context(n) if n >= count - traced else ())
        for n in range(count)
    ]
    tracing.note_run(run)
    await lane.take(run)
    return tracing


async def test_a_fire_links_to_each_of_its_adds_and_carries_its_own_context(spans: object) -> None:
    """The fan-in of the messaging conventions: links, not parents."""
    outlet = MemoryOutlet()
    await fold(outlet, 3, traced=3)
    (span,) = spans.get_finished_spans()  # type: ignore[attr-defined]
    assert span.name == f"send {TOPICS.fires}"
    assert span.kind.name == "PRODUCER"
    assert [link.context.trace_id for link in span.links] == [1, 2, 3]
    assert span.attributes["waitforme.links.dropped"] == 0
    assert span.attributes["messaging.message.conversation_id"] == "g"
    (fire,) = outlet.read(TOPICS.fires)
    assert dict(fire.headers)["traceparent"].decode().split("-")[1] == f"{span.context.trace_id:032x}"


async def test_adds_without_a_context_are_counted_as_dropped_links_and_many_are_cut(spans: object) -> None:
    """The first and the latest are kept."""
    await fold(MemoryOutlet(), 3, traced=1)
    await fold(MemoryOutlet(), 300, traced=300)
    few, many = spans.get_finished_spans()  # type: ignore[attr-defined]
    assert (len(few.links), few.attributes["waitforme.links.dropped"]) == (1, 2)
    assert len(many.links) == LINKS
    assert many.attributes["waitforme.links.dropped"] == 300 - LINKS
    assert {many.links[0].context.trace_id, many.links[-1].context.trace_id} == {1, 300}


async def test_a_late_add_is_not_linked_to_the_next_round(spans: object) -> None:
    """Links belong to a round, as participants do."""
    outlet = MemoryOutlet()
    tracing = TracingOutlet(outlet, TOPICS)
    lane = new_lane(outlet)
    lane.outlet = tracing
    late = add(1, NOON_MS + 1, participant="late", of=1, headers=context(50))
    runs = [[add(0, NOON_MS, of=1)], [late], [add(2, NOON_MS + 90_000, of=1, headers=context(7))]]
    for run in runs:
        tracing.note_run(run)
        await lane.take(run)
    _first, second = spans.get_finished_spans()  # type: ignore[attr-defined]
    assert [link.context.trace_id for link in second.links] == [8]


async def test_a_fire_that_kafka_refuses_is_a_span_with_an_error(spans: object) -> None:
    """And the lane fails as it does without tracing."""
    outlet = MemoryOutlet()
    outlet.refuse(TOPICS.fires)
    with pytest.raises(LaneFailure):
        await fold(outlet, 1, traced=1)
    (span,) = spans.get_finished_spans()  # type: ignore[attr-defined]
    assert span.status.status_code.name == "ERROR"
    assert span.attributes["error.type"] == Refused.__name__
