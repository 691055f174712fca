"""A group's history: its partition's log, read from the round's first add and judged again by the worker's own fold.

So the history says what the worker made of each command, not what a viewer guesses. Nothing is kept: it is read when it is asked for, with
an end to how much, and it says when it was cut.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Final

from wait_for_me.codec import decode_command, decode_fire
from wait_for_me.commands import Add, Remove
from wait_for_me.errors import InvalidRecord
from wait_for_me_app.core.deadlines import Deadlines
from wait_for_me_app.core.effects import Identity
from wait_for_me_app.core.fires import rfc3339
from wait_for_me_app.core.fold import Fold
from wait_for_me_app.core.rows import OpenRound
from wait_for_me_app.settings import Settings
from wait_for_me_app.storage.store import MemoryStore
from wait_for_me_app.storage.working_set import WorkingSet
from wait_for_me_app.web.documents import Event, FireView, History
from wait_for_me_app.web.fire_views import fire_view
from wait_for_me_app.web.log_reader import SeenRecord, bounds, new_consumer, read_range
from wait_for_me_app.web.waiting import seconds

RECORDS_AT_MOST: Final = 200_000
RECORDS_LOOKED_BACK: Final = 20_000
SECONDS_AT_MOST: Final = 8.0
EVENTS_AT_MOST: Final = 2_000


class Judge:
    """Feeds a log to a fold that sees one group, and notes what it makes of it."""

    def __init__(self, identity: Identity, group_key: str, *, hide: bool) -> None:
        self._key, self._hide = group_key.encode(), hide
        self._fold = Fold(identity, WorkingSet(MemoryStore()), Deadlines())
        self.events: list[Event] = []
        self.fires: list[FireView] = []

    def take(self, record: SeenRecord) -> None:
        """Judge the next record of the partition."""
        before = self._closed()
        while self._fold.advance(record, 100):
            pass
        self._note_close(record, before)
        if record.key == self._key:
            self._take_own(record)

    def _take_own(self, record: SeenRecord) -> None:
        counts, before = self._fold.counts, self._closed()
        then = (counts.opened, counts.joined, counts.refreshed, counts.duplicates, counts.late, counts.conflicts)
        self._fold.apply(record)
        now = (counts.opened, counts.joined, counts.refreshed, counts.duplicates, counts.late, counts.conflicts)
        names = ("opened", "joined", "refreshed", "duplicate", "late")
        effect = next((name for name, old, new in zip(names, then, now, strict=False) if new > old), "nothing")
        self._note_command(record, effect, changed_settings=now[5] > then[5])
        self._note_close(record, before)

    def _closed(self) -> dict[str, int]:
        return dict(self._fold.counts.closed)

    def _note_close(self, record: SeenRecord, before: dict[str, int]) -> None:
        for reason, count in self._fold.counts.closed.items():
            if count > before[reason]:
                self.events.append(self._event(record, "close", reason))
        for _key, value in self._fold.take_effects().fires:
            self.fires.append(
                fire_view(decode_fire(value), offset=-1, appended_ms=self._fold.stream_time_ms, hide=self._hide)
            )

    def _note_command(self, record: SeenRecord, effect: str, *, changed_settings: bool) -> None:
        try:
            command = decode_command(record.key, record.value, record.headers)
        except InvalidRecord as error:
            self.events.append(self._event(record, "invalid", "set aside", reason=f"{error.code}: {error.message}"))
            return
        if isinstance(command, Add):
            row = self._fold.rows.get(self._key)
            self.events.append(
                self._event(
                    record,
                    "add",
                    effect,
                    participant_key=command.participant_key,
                    event_id=command.event_id,
                    number_of_participants_in_group=command.number_of_participants_in_group,
                    wait_time_in_seconds=seconds(command.wait_ms),
                    execute_after_waiting=command.execute_after_waiting,
                    deadline_at=rfc3339(row.deadline_ms) if isinstance(row, OpenRound) else None,
                    changed_settings=changed_settings,
                )
            )
        elif isinstance(command, Remove):
            removed = self._fold.counts.closed["removed"] > sum(1 for event in self.events if event.effect == "removed")
            self.events.append(
                self._event(
                    record,
                    "remove",
                    "ends the wait" if removed else "nothing",
                    event_id=command.event_id,
                    reason=command.reason,
                )
            )

    def _event(self, record: SeenRecord, kind: str, effect: str, **more: object) -> Event:
        return Event(
            kind=kind,  # type: ignore[arg-type]
            effect=effect,
            at=rfc3339(self._fold.stream_time_ms),
            at_ms=self._fold.stream_time_ms,
            partition=record.partition,
            offset=record.offset,
            traceparent=record.header("traceparent") if kind == "add" else None,
            **more,  # type: ignore[arg-type]
        )


def judged(records: Iterable[SeenRecord], identity: Identity, group_key: str, *, hide: bool = False) -> Judge:
    """Judge a whole log; pure, so that a downloaded history can be judged again."""
    judge = Judge(identity, group_key, hide=hide)
    for record in records:
        judge.take(record)
    return judge


def read_history(settings: Settings, identity: Identity, group_key: str, opened_offset: int | None) -> History:
    """Read and judge a group's log. Blocking: call it in a thread."""
    topic, partition = settings.topics.commands, identity.partition
    give_up_at = time.monotonic() + SECONDS_AT_MOST
    judge = Judge(identity, group_key, hide=settings.web_hide_payloads)
    with closing(new_consumer(settings)) as consumer:
        low, high = bounds(consumer, topic, partition)
        start = max(low, high - RECORDS_LOOKED_BACK) if opened_offset is None else max(low, opened_offset)
        read, last = 0, start - 1
        for record in _bounded(
            read_range(consumer, topic, partition, start, high, go_on=lambda: time.monotonic() < give_up_at)
        ):
            judge.take(record)
            read, last = read + 1, record.offset
            if len(judge.events) >= EVENTS_AT_MOST:
                break
    from_the_start = opened_offset == start or (opened_offset is None and start == low)
    return History(
        group_key=group_key,
        partition=partition,
        events=tuple(judge.events),
        fires=tuple(judge.fires),
        first_offset=start,
        last_offset=last,
        records_read=read,
        is_complete=from_the_start and last >= high - 2,  # the last one may be a transaction's marker
    )


def _bounded(records: Iterator[SeenRecord]) -> Iterator[SeenRecord]:
    for number, record in enumerate(records):
        if number >= RECORDS_AT_MOST:
            return
        yield record
