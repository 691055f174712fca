"""Counts what a lane appends to its changelog when every add is a run of its own: the real lane, with nothing behind it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.load import Load
from wait_for_me.topic_names import TopicNames
from wait_for_me_app.core.effects import Identity
from wait_for_me_app.core.fold import LOG_APPEND_TIME
from wait_for_me_app.faust_lanes.intake import FetchedRecord
from wait_for_me_app.lane import Lane, Message
from wait_for_me_app.storage.store import MemoryStore

_TOPICS: Final = TopicNames("written")


@dataclass(kw_only=True)
class _Confirmed:
    first_offset: int
    last_offset: int
    appended_at_ms: int


class CountingOutlet:
    """Implements `lane.Outlet`: confirms everything and counts the bytes of the changelog's records."""

    def __init__(self) -> None:
        self.changelog_bytes = 0
        self._ends: dict[str, int] = {}

    async def append(self, topic: str, partition: int, units: Sequence[Sequence[Message]]) -> _Confirmed:
        """Count and confirm."""
        messages = [message for unit in units for message in unit]
        if topic == _TOPICS.changelog:
            self.changelog_bytes += sum(map(_payload_bytes, messages))
        first = self._ends.get(topic, 0)
        self._ends[topic] = first + len(messages)
        return _Confirmed(first_offset=first, last_offset=first + len(messages) - 1, appended_at_ms=0)


def _payload_bytes(message: Message) -> int:
    key, value, headers = message
    return len(key or b"") + len(value or b"") + sum(len(name) + len(data) for name, data in headers)


async def bytes_per_add(size: int, adds: int) -> float:
    """Return the changelog bytes per add of groups with `size` participants, add by add."""
    outlet = CountingOutlet()
    identity = Identity(topic_id=uuid.UUID(int=1), partition=0, partitions=1)
    lane = Lane(identity=identity, topics=_TOPICS, store=MemoryStore(), outlet=outlet, changelog_end=0)
    load = Load(name="size", groups=max(1, adds // size), participants=size)
    for offset, (key, value) in enumerate(load.backlog()):
        await lane.take([FetchedRecord(offset, 1_800_000_000_000 + offset, LOG_APPEND_TIME, key, value, ())])
    return outlet.changelog_bytes / load.adds
