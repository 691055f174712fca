"""OpenTelemetry, for whoever brings its SDK: a span for each attempt, in the trace that the fire carries.

Only the API is used, and only if it is installed and somebody has configured a provider; otherwise nothing here is in
anybody's way. A callback in a thread or on the loop runs inside its span, so what it does belongs to it; a child process
knows nothing of it.
"""

from __future__ import annotations

import importlib
from typing import Any

from msgspec.structs import replace

from wait_for_me_app.callbacks import Call
from wait_for_me_app.executor.effects import Start
from wait_for_me_app.executor.tenure import Attempt


def _if_installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


trace, propagate = _if_installed("opentelemetry.trace"), _if_installed("opentelemetry.propagate")
_NONE = ("ProxyTracerProvider", "NoOpTracerProvider")


def is_on() -> bool:
    """Return whether somebody has configured OpenTelemetry in this process."""
    return trace is not None and type(trace.get_tracer_provider()).__name__ not in _NONE


class Spans:
    """The spans of the attempts that run; without a provider it does nothing."""

    def __init__(self, fires: str, group: str) -> None:
        self._fires, self._group = fires, group
        self._tracer = trace.get_tracer("wait_for_me_app.executor") if is_on() else None
        self._open: dict[int, Any] = {}

    def begin(self, start: Start, attempt: Attempt) -> Start:
        """Open the span of an attempt; return the start with a call that runs inside it."""
        if self._tracer is None:
            return start
        headers = attempt.entry.progress.headers
        carrier = {name: (value or b"").decode(errors="replace") for name, value in headers}
        span = self._tracer.start_span(
            f"process {self._fires}",
            context=propagate.extract(carrier),
            kind=trace.SpanKind.CONSUMER,
            attributes=self._attributes(attempt),
        )
        self._open[start.token] = span
        return start if start.kind == "process" else replace(start, call=_inside(span, start.call, start.is_async))

    def end(self, token: int, code: str | None, error: BaseException | None) -> None:
        """Close the span of an attempt; `code` says why it has failed, if it has."""
        span = self._open.pop(token, None)
        if span is None:
            return
        if code is not None:
            span.set_attribute("error.type", code)
            span.set_status(trace.StatusCode.ERROR, code)
        if error is not None:
            span.record_exception(error)
        span.end()

    def _attributes(self, attempt: Attempt) -> dict[str, Any]:
        progress = attempt.entry.progress
        return {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": self._fires,
            "messaging.destination.partition.id": str(progress.partition),
            "messaging.consumer.group.name": self._group,
            "messaging.kafka.offset": progress.offset,
            "messaging.message.id": progress.fire_id,
            "messaging.message.conversation_id": progress.group_key,
            "waitforme.callback": progress.callback,
            "waitforme.attempt": attempt.number,
        }


def _inside(span: Any, call: Call, is_async: bool) -> Call:
    """Return a call that makes the span the current one while it runs; what it raises is told of later."""

    def use() -> Any:
        return trace.use_span(span, record_exception=False, set_status_on_exception=False)

    def plain() -> Any:
        with use():
            return call()

    async def later() -> Any:
        with use():
            return await call()

    return Call(function=later if is_async else plain, args=(), kwargs={})
