"""The fires topic of one partition, as it is: which fires there are, how often, and in how many versions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from .wire import Record

_USUAL = re.compile(rb'\{"type":"fire","fire_id":"(fire_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})",')
_FIRE_ID = re.compile(r"fire_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Seen(NamedTuple):
    """A fire as it was first read; of its bytes only a fingerprint is kept."""

    print: int
    offset: int
    at_ms: int
    is_timed: bool
    key: bytes | None


@dataclass(kw_only=True)
class Fires:
    """All fires of a partition by their id."""

    by_id: dict[str, Seen] = field(default_factory=dict)
    others: dict[str, list[Seen]] = field(default_factory=dict)  # further versions of a fire, with other bytes
    copies: int = 0
    oldest_ms: int = 1 << 62  # when the first record that is still there was appended
    unreadable: list[tuple[int, str]] = field(default_factory=list)
    distinct: int = 0


def read_fires(records: Iterable[Record], *, trust_create_time: bool = False) -> Fires:
    """Read the fires of one partition."""
    fires = Fires()
    for record in records:
        fires.oldest_ms = min(fires.oldest_ms, record.timestamp_ms)
        fire_id = _fire_id(record.value or b"")
        if fire_id is None:
            fires.unreadable.append((record.offset, "it is no fire: only workers may write to this topic"))
            continue
        is_timed = trust_create_time or record.timestamp_type == 1
        one = Seen(hash((record.key, record.value)), record.offset, record.timestamp_ms, is_timed, record.key)
        first = fires.by_id.setdefault(fire_id, one)
        if first is one:
            continue
        versions = [first, *fires.others.get(fire_id, ())]
        if any(version.print == one.print for version in versions):
            fires.copies += 1
        else:
            fires.others.setdefault(fire_id, []).append(one)
    fires.distinct = len(fires.by_id)
    return fires


def _fire_id(value: bytes) -> str | None:
    usual = _USUAL.match(value)
    if usual:
        return usual[1].decode()
    try:
        fire_id = json.loads(value)["fire_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return fire_id if isinstance(fire_id, str) and _FIRE_ID.fullmatch(fire_id) else None
