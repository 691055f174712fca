"""What has become of the fires of one partition: the executor's outcomes, and its dead letters.

A fire that has died may be sent once more by a person; then it lies further on in the fires topic and may end anew. Without that, a fire
ends once: a second end that says something else is an effect too many.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .letters import origin_of
from .wire import Record

_KEY = re.compile(rb"(fire_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(/progress(?:@[0-9]+)?)?")
_TIMES = ("accepted_at_ms", "started_at_ms", "next_attempt_at_ms", "parked_since_ms")


@dataclass(kw_only=True)
class Endings:
    """Outcomes by fire_id."""

    final: dict[str, tuple[str, int, int]] = field(default_factory=dict)  # state, own offset, appended at
    state: dict[str, str] = field(default_factory=dict)  # of those that are not final
    alive_ms: dict[str, int] = field(default_factory=dict)  # the last time that something happened, or is to happen
    first_offset: dict[str, int] = field(default_factory=dict)
    double: list[tuple[int, str, str]] = field(default_factory=list)  # offset, fire_id, what differs
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    letters: set[str] = field(default_factory=set)  # fire_ids
    letter_origins: list[tuple[int, int]] = field(default_factory=list)  # own offset, offset of the fire
    letter_count: int = 0
    oldest_ms: int = 1 << 62
    oldest_letter_ms: int = 1 << 62
    count: int = 0


def read_endings(outcomes: Iterable[Record], letters: Iterable[Record], fires_topic: str) -> Endings:
    """Read the outcomes and the dead letters of the fires of one partition."""
    endings = Endings()
    ends: dict[str, tuple[int, int]] = {}  # fingerprint of the last end, and where its fire lay
    for record in outcomes:
        endings.count += 1
        endings.oldest_ms = min(endings.oldest_ms, record.timestamp_ms)
        named = _KEY.fullmatch(record.key or b"")
        value = _object(record.value)
        if named is None or (value is None and record.value is not None):
            endings.unreadable.append((record.offset, "it is no outcome: only executors may write to this topic"))
            continue
        fire_id = named[1].decode()
        if value is not None:
            endings.first_offset.setdefault(fire_id, record.offset)
            if named[2]:
                _take_progress(endings, fire_id, value, record.timestamp_ms)
            else:
                _take_end(endings, ends, fire_id, value, record)
    for record in letters:
        _take_letter(endings, record, fires_topic)
    return endings


def _object(value: bytes | None) -> dict[str, Any] | None:
    try:
        found = json.loads(value or b"null")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("state"), str) else None


def _take_progress(endings: Endings, fire_id: str, value: dict[str, Any], at_ms: int) -> None:
    if fire_id in endings.final:
        return
    limit = value.get("time_limit_ms")
    times = [time for name in _TIMES if isinstance(time := value.get(name), int)]
    busy_until = (value.get("started_at_ms") or 0) + limit if isinstance(limit, int) else 0
    endings.alive_ms[fire_id] = max(at_ms, busy_until, *times)
    endings.state[fire_id] = value["state"]


def _take_end(
    endings: Endings, ends: dict[str, tuple[int, int]], fire_id: str, value: dict[str, Any], record: Record
) -> None:
    state, lies_at = value["state"], value.get("offset")
    this = hash(record.value), lies_at if isinstance(lies_at, int) else -1
    before = endings.final.get(fire_id)
    if before and this[0] != ends[fire_id][0]:
        was_sent_again = before[0] == "dead" and this[1] > ends[fire_id][1]
        if not was_sent_again and "done" in (before[0], state):
            detail = f"it ended as {before[0]} (offset {before[1]}), and again as {state}"
            endings.double.append((record.offset, fire_id, detail))
    ends[fire_id] = this
    endings.final[fire_id] = state, record.offset, record.timestamp_ms
    endings.alive_ms.pop(fire_id, None)
    endings.state.pop(fire_id, None)


def _take_letter(endings: Endings, record: Record, fires_topic: str) -> None:
    headers = {name: value for name, value in record.headers if value is not None}
    endings.oldest_letter_ms = min(endings.oldest_letter_ms, record.timestamp_ms)
    if "wfm_handled" in headers:
        return
    endings.letter_count += 1
    if fire_id := headers.get("wfm_fire_id"):
        endings.letters.add(fire_id.decode(errors="replace"))
    origin = origin_of(headers)
    if origin is not None and origin.topic == fires_topic:
        endings.letter_origins.append((record.offset, origin.offset))
