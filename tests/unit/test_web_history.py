"""A group's history is what the fold makes of its log."""

from __future__ import annotations

import json
from typing import Any

from fakes import NOON_MS, TOPIC_ID
from wait_for_me_app.core.effects import Identity
from wait_for_me_app.web.history import judged
from wait_for_me_app.web.log_reader import SeenRecord

IDENTITY = Identity(topic_id=TOPIC_ID, partition=0, partitions=1)


def seen(offset: int, at_s: float, value: Any, key: str | None = "g", **headers: bytes) -> SeenRecord:
    """Return a record as a viewer reads it."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return SeenRecord(
        topic="t.commands", partition=0, offset=offset, timestamp=NOON_MS + round(at_s * 1000), timestamp_type=1,
        key=None if key is None else key.encode(), value=raw, headers=tuple(headers.items()),
    )  # fmt: skip


def add(participant: str, *, of: int = 3, wait: float = 10, group: str = "g", **more: Any) -> dict[str, Any]:
    """Return an add's value."""
    own = {"type": "add", "group_key": group, "participant_key": participant, "number_of_participants_in_group": of}
    return {**own, "execute_after_waiting": "c", "wait_time_in_seconds": wait, **more}


def told(*records: SeenRecord) -> list[tuple[str, str]]:
    """Return kind and effect of each event."""
    return [(event.kind, event.effect) for event in judged(records, IDENTITY, "g").events]


def test_each_command_is_told_with_what_it_did() -> None:
    """Opened, joined, refreshed, duplicate, complete, late."""
    assert told(
        seen(0, 0, add("a", event_id="1")),
        seen(1, 1, add("a", event_id="1")),
        seen(2, 2, add("a", event_id="2")),
        seen(3, 3, add("b")),
        seen(4, 4, add("c")),
        seen(5, 5, add("d")),
    ) == [
        ("add", "opened"), ("add", "duplicate"), ("add", "refreshed"), ("add", "joined"), ("add", "joined"),
        ("close", "complete"), ("add", "late"),
    ]  # fmt: skip


def test_a_timeout_is_told_at_the_record_that_shows_it_with_the_fire() -> None:
    """Other groups' records move time; they are not told."""
    judge = judged([seen(0, 0, add("a")), seen(1, 10.2, add("x", group="other"), key="other")], IDENTITY, "g")
    assert [(event.kind, event.effect, event.offset) for event in judge.events] == [
        ("add", "opened", 0),
        ("close", "timeout", 1),
    ]
    assert [(fire.reason, fire.missing_count, fire.waited_seconds) for fire in judge.fires] == [("timeout", 2, 10.2)]


def test_a_remove_ends_the_wait_and_a_second_does_nothing() -> None:
    """Both are told, with their reasons."""
    remove = {"type": "remove", "group_key": "g", "reason": "rolled back"}
    judge = judged([seen(0, 0, add("a")), seen(1, 1, remove), seen(2, 2, remove)], IDENTITY, "g")
    assert [(event.kind, event.effect, event.reason) for event in judge.events] == [
        ("add", "opened", None), ("remove", "ends the wait", "rolled back"), ("close", "removed", None), ("remove", "nothing", "rolled back"),
    ]  # fmt: skip
    assert judge.fires == []


def test_what_was_set_aside_and_what_changed_the_settings_is_told() -> None:
    """Bad input under the group's key, a conflict, a trace context."""
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    judge = judged(
        [seen(0, 0, add("a"), traceparent=trace), seen(1, 1, b"{"), seen(2, 2, add("b", of=5))], IDENTITY, "g"
    )
    first, bad, changed = judge.events
    assert first.traceparent == trace.decode()
    assert bad.kind == "invalid"
    assert (bad.reason or "").startswith("not_json")
    assert changed.changed_settings
