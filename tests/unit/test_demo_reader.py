"""The demo's reader turns records of the topics into what the board folds, and is not stopped by bad ones."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Producer

from wait_for_me.topic_names import TopicNames
from wait_for_me_app.demo.board import Arrived, Fired, Outcome, Removed, Seen, SetAside, Ticked
from wait_for_me_app.demo.reader import Reader
from wait_for_me_app.outcomes import Finished, encode_outcome

TOPICS = TopicNames()
ADD = {
    "type": "add",
    "group_key": "deploy-1",
    "participant_key": "web-1",
    "number_of_participants_in_group": 2,
    "execute_after_waiting": "cloudfront.invalidate",
    "wait_time_in_seconds": 0.25,
}
FIRE = {
    "type": "fire",
    "fire_id": "fire_1",
    "group_key": "deploy-1",
    "reason": "timeout",
    "number_of_participants_in_group": 2,
    "arrived_count": 1,
    "missing_count": 1,
    "arrived": [],
    "arrived_truncated": False,
    "conflict_count": 0,
    "execute_after_waiting": "cloudfront.invalidate",
    "execute_after_waiting_params": [],
    "wait_time_in_seconds": 0.25,
    **dict.fromkeys(("opened_at", "last_add_at", "deadline_at", "fired_at"), "2026-11-24T02:10:00.120Z"),
    **dict.fromkeys(("partition", "opened_offset", "closed_offset"), 0),
}
DONE = Finished(
    fire_id="fire_1",
    group_key="deploy-1",
    callback="cloudfront.invalidate",
    partition=0,
    offset=0,
    revision=3,
    attempt=1,
    state="done",
    finished_at_ms=1,
    took_ms=38,
)


class Wire:
    """Writes records to the embedded broker and reads what the reader makes of them."""

    def __init__(self, address: str) -> None:
        self._producer = Producer({"bootstrap.servers": address, "linger.ms": 0, "log_level": 0})
        for topic in (TOPICS.commands, TOPICS.fires, TOPICS.outcomes, TOPICS.commands_dead_letters):
            self._producer.list_topics(topic, timeout=10)
        self._producer.list_topics(TOPICS.fires_dead_letters, timeout=10)
        self.reader = Reader(address, TOPICS, 4)

    def write(self, topic: str, value: Any, key: str = "deploy-1", **headers: str) -> None:
        raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        self._producer.produce(
            topic, raw, key.encode(), partition=1, headers={k: v.encode() for k, v in headers.items()}
        )
        assert self._producer.flush(10) == 0

    def read(self, count: int) -> list[Seen]:
        seen: list[Seen] = []
        give_up_at = time.monotonic() + 20
        while len(seen) < count and time.monotonic() < give_up_at:
            seen += self.reader.read(0.1)
        return seen


@pytest.fixture
def wire(embedded_kafka: str) -> Iterator[Wire]:
    """A wire to a broker of this test's own."""
    one = Wire(embedded_kafka)
    with closing(one.reader):
        yield one


def test_commands_become_arrivals_removals_and_ticks(wire: Wire) -> None:
    """What a producer wrote is what the board is told, with its place in the log."""
    wire.write(TOPICS.commands, ADD)
    wire.write(TOPICS.commands, {"type": "remove", "group_key": "deploy-1", "reason": "rolled back"})
    wire.write(TOPICS.commands, {"type": "tick"})
    arrived, removed, ticked = wire.read(3)
    assert isinstance(arrived, Arrived)
    assert (arrived.participant_key, arrived.number_of_participants, arrived.wait_ms) == ("web-1", 2, 250)
    assert (arrived.place.topic, arrived.place.partition, arrived.place.offset) == ("commands", 1, 0)
    assert isinstance(removed, Removed)
    assert removed.reason == "rolled back"
    assert isinstance(ticked, Ticked)


def test_a_bad_command_is_shown_as_the_dead_letter_that_it_becomes(wire: Wire) -> None:
    """The reader passes over it in the commands, and shows it where the worker has set it aside."""
    wire.write(TOPICS.commands, b"{")
    wire.write(TOPICS.commands_dead_letters, b"{", **{"wfm_error": "not_json", "__dlq.errors.message": "not JSON"})
    (only,) = wire.read(1)
    assert isinstance(only, SetAside)
    assert (only.group_key, only.error) == ("deploy-1", "not_json: not JSON")


def test_fires_and_outcomes_are_joined_by_their_fire_id(wire: Wire) -> None:
    """A fire and its final outcome carry one name; the deletion of an earlier step says nothing."""
    wire.write(TOPICS.fires, FIRE)
    wire.write(TOPICS.outcomes, encode_outcome(DONE), key="fire_1")
    wire.write(TOPICS.outcomes, None, key="fire_1/progress")
    wire.write(TOPICS.commands, {"type": "tick"})
    seen = wire.read(3)
    fired = next(one for one in seen if isinstance(one, Fired))
    outcome = next(one for one in seen if isinstance(one, Outcome))
    assert (fired.fire_id, fired.reason, fired.missing_count) == ("fire_1", "timeout", 1)
    assert (outcome.fire_id, outcome.state, outcome.took_ms, outcome.is_final) == ("fire_1", "done", 38, True)
    assert len(seen) == 3
