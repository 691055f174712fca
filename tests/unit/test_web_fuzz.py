"""Requests that nobody would write by hand: made from the description, judged by it. No answer is a 500, none is undescribed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.errors import Unsatisfiable

from wait_for_me_app.demo.broker import EmbeddedBroker
from web_world import WebWorld, port_of, web_settings

schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")

UNBOUNDED = 1e9
WITHOUT_END = {"/api/v1/stream"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A web on a thread of its own, with a group and the embedded broker, without limits on how often it is asked."""
    broker = EmbeddedBroker()
    world = WebWorld(web_settings(bootstrap_servers=broker.address, demo_broker=True, unsafe=False))
    names = world.settings.topics
    broker.make_topics(
        (names.commands, names.fires, names.outcomes, names.commands_dead_letters, names.fires_dead_letters)
    )
    world.web._allowance._burst = world.web._allowance._rate = UNBOUNDED
    loop, begun = asyncio.new_event_loop(), threading.Event()

    async def begin() -> None:
        await world.add("g", "p")
        await world.web.start()
        begun.set()

    def run() -> None:
        loop.run_until_complete(begin())
        loop.run_forever()
        loop.run_until_complete(world.web.stop())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(20)
    yield f"http://127.0.0.1:{port_of(world)}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_every_operation_keeps_to_its_description_whatever_it_is_asked(url: str) -> None:
    """Statuses, content types and bodies are those that openapi.json promises, for legal requests and for illegal ones."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path in WITHOUT_END:
            continue
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            with suppress(Unsatisfiable):  # an operation without parameters cannot be asked wrongly
                _try(operation, mode, url)
                tried += 1
    assert tried >= 30


def _try(operation: object, mode: object, url: str) -> None:
    strategy = operation.as_strategy(generation_mode=mode)  # type: ignore[attr-defined]

    @seed(7)
    @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=strategy)
    def judge(case: object) -> None:
        answer = case.call(base_url=url, timeout=20)  # type: ignore[attr-defined]
        case.validate_response(answer, checks=_checks())  # type: ignore[attr-defined]
        assert answer.status_code != 500

    judge()


def _checks() -> list[object]:
    """Return what is judged; a 503 may be an honest answer, a 500 never is."""
    checks = schemathesis.checks
    return [checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance]
