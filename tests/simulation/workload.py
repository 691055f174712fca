"""What producers send: few groups, few participants, every kind of command, from one vocabulary for all seeds.

One vocabulary, because the reference reads every record by hand and slowly: what it has read once it remembers. Times are small
and round so that deadlines, lingers and adds meet; a few waits outlast the compaction of the changelog.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

from wait_for_me.partitioner import partition_for

TICK: Final = b'{"type":"tick"}'
RAISES: Final = b'{"type":"tick","raises":true}'
"""A command at which the simulation lets the fold raise."""

GROUPS: Final = ("a", "b", "c", "d", "é", "f" * 20, "g", "h")
PARTICIPANTS: Final = ("p", "q", "r", "s", "t", "ü", "v", "w", "x", "y", "z", "p" * 30)
EVENTS: Final = (None, "e1", "e2", "e3", "e4", "e5")
PROFILES: Final[tuple[dict[str, Any], ...]] = (
    {"n": 2, "wait": 1},
    {"n": 3, "wait": 0.05},
    {"n": 3, "wait": 0.05, "linger": 0},
    {"n": 2, "wait": 0.1, "linger": 0},
    {"n": 1, "wait": 5},
    {"n": 4, "wait": 0.02, "max": 0.05, "params": '{"k":1}'},
    {"n": 4, "wait": 72_000, "linger": 100_000},
    {"n": 2, "wait": 72_000, "linger": 0},
    {"n": 3, "wait": 10_000, "linger": 200_000},
    {"n": 12, "wait": 1, "linger": 0.01},
    {"n": 10, "wait": 72_000, "linger": 0.05, "callback": "other"},
    {"n": 3, "wait": 0.01, "linger": 1, "max": 0.01},
    {"n": 2, "wait": 3, "max": 4, "params": "[ 1, 2 ]"},
    {"n": 5, "wait": 0.001, "linger": 0.001},
)
POISON: Final[tuple[bytes | None, ...]] = (
    None,
    b"",
    b"\xff\xfe",
    b"[]",
    b'{"type":"add"}',
    b'{"type":"what"}',
    b'{"type":"tick","x":NaN}',
    (
        b'{"type":"add","group_key":"a","participant_key":"p","number_of_participants_in_group":0,'
        b'"execute_after_waiting":"c","wait_time_in_seconds":1}'
    ),
    b"[" * 40 + b"]" * 40,
)

Command = tuple[bytes, bytes]


@cache
def add(group: str, participant: str, event: str | None, profile: int) -> Command:
    """Return key and value of an add."""
    one = PROFILES[profile]
    members: dict[str, Any] = {
        "type": "add",
        "group_key": group,
        "participant_key": participant,
        "number_of_participants_in_group": one["n"],
        "execute_after_waiting": one.get("callback", "c"),
        "wait_time_in_seconds": one["wait"],
    }
    members |= {"event_id": event} if event else {}
    members |= {"linger_in_seconds": one["linger"]} if "linger" in one else {}
    members |= {"max_wait_in_seconds": one["max"]} if "max" in one else {}
    text = json.dumps(members, ensure_ascii=False)
    if "params" in one:
        text = f'{text[:-1]}, "execute_after_waiting_params": {one["params"]}}}'
    return group.encode(), text.encode()


@cache
def remove(group: str, event: str | None) -> Command:
    """Return key and value of a remove."""
    members = {"type": "remove", "group_key": group} | ({"event_id": event} if event else {})
    return group.encode(), json.dumps(members, ensure_ascii=False).encode()


@cache
def home(group_key: bytes, partitions: int) -> int:
    """Return the partition where a group lives."""
    return partition_for(group_key, partitions)
