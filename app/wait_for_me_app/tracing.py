"""OpenTelemetry, for whoever brings its SDK: the span of a fire links to the adds that it was waiting for.

Only the API is used, and only if it is installed and somebody has configured a provider (`opentelemetry-instrument wait-for-me worker` does);
otherwise nothing here is in anybody's way. A fan-in is what links are for: each add has a trace of its own, the fire begins where
they meet, and the fire's headers carry its context on to the executor.

Contexts are kept in memory, never in the rows: after a take-over the links to adds that came before are missing, and
`waitforme.links.dropped` counts them.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from wait_for_me.codec import decode_fire
from wait_for_me.fires import Fire
from wait_for_me.topic_names import TopicNames
from wait_for_me_app.core.effects import Record
from wait_for_me_app.lane import Appended, Message, Outlet


def _if_installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


trace, propagate = _if_installed("opentelemetry.trace"), _if_installed("opentelemetry.propagate")

GROUPS: Final = 10_000
LINKS: Final = 127
"""The SDK keeps 128 links a span; one is left for the user's own."""

Context = tuple[int, Any]
"""The offset of an add and its span's context."""


def tracing_is_on() -> bool:
    """Return whether somebody has configured OpenTelemetry in this process."""
    if trace is None:
        return False
    return type(trace.get_tracer_provider()).__name__ not in ("ProxyTracerProvider", "NoOpTracerProvider")


class TracingOutlet:
    """An outlet that gives each fire a span with links to its adds, and its context to the fire's headers."""

    def __init__(self, inner: Outlet, topics: TopicNames) -> None:
        self._inner, self._topics = inner, topics
        self._tracer = trace.get_tracer("wait_for_me_app")
        self._adds: OrderedDict[bytes, list[Context]] = OrderedDict()

    def note_run(self, records: Sequence[Record]) -> None:
        """Remember the contexts of the adds in a run."""
        for record in records:
            if record.headers and record.key and any(name == "traceparent" for name, _ in record.headers):
                self._note(record.key, record.offset, record.headers)

    def _note(self, key: bytes, offset: int, headers: Sequence[tuple[str, bytes]]) -> None:
        carrier = {name: (value or b"").decode(errors="replace") for name, value in headers}
        found = trace.get_current_span(propagate.extract(carrier)).get_span_context()
        if not found.is_valid:
            return
        known = self._adds.setdefault(key, [])
        self._adds.move_to_end(key)
        known.append((offset, found))
        if len(known) > LINKS:
            del known[LINKS // 2]  # the first and the latest say most
        while len(self._adds) > GROUPS:
            self._adds.popitem(last=False)

    async def append(self, topic: str, partition: int, units: Sequence[Sequence[Message]]) -> Appended:
        """Append; fires with a span each."""
        if topic != self._topics.fires:
            return await self._inner.append(topic, partition, units)
        spans, traced = [], []
        for ((key, value, headers),) in units:
            span = self._begin(key or b"", value or b"", partition)
            spans.append(span)
            traced.append([(key, value, [*headers, *_carried_by(span)])])
        return await self._send(spans, topic, partition, traced)

    async def _send(
        self, spans: Sequence[Any], topic: str, partition: int, units: Sequence[Sequence[Message]]
    ) -> Appended:
        try:
            appended = await self._inner.append(topic, partition, units)
        except BaseException as error:
            for span in spans:
                span.set_status(trace.StatusCode.ERROR, repr(error))
                span.set_attribute("error.type", type(error).__name__)
                span.end()
            raise
        for number, span in enumerate(spans):
            span.set_attribute("messaging.kafka.offset", appended.first_offset + number)
            span.end()
        return appended

    def _begin(self, key: bytes, value: bytes, partition: int) -> Any:
        fire = decode_fire(value)
        known = self._adds.pop(key, [])
        own = [context for offset, context in known if fire.opened_offset <= offset <= fire.closed_offset]
        return self._tracer.start_span(
            f"send {self._topics.fires}",
            kind=trace.SpanKind.PRODUCER,
            links=[trace.Link(context) for context in own],
            attributes=_attributes(fire, self._topics.fires, partition, dropped=max(0, fire.arrived_count - len(own))),
        )


def _attributes(fire: Fire, topic: str, partition: int, *, dropped: int) -> dict[str, Any]:
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(partition),
        "messaging.kafka.message.key": fire.group_key,
        "messaging.message.id": fire.fire_id,
        "messaging.message.conversation_id": fire.group_key,
        "waitforme.reason": fire.reason,
        "waitforme.callback": fire.execute_after_waiting,
        "waitforme.arrived": fire.arrived_count,
        "waitforme.missing": fire.missing_count,
        "waitforme.links.dropped": dropped,
    }


def _carried_by(span: Any) -> list[tuple[str, bytes]]:
    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span))
    return [(name, text.encode()) for name, text in carrier.items()]
