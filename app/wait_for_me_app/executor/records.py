"""What is written at each step of a fire, as values. Pure: records in, records out, time passed in.

The rule: each step of progress is one more than the last (`revision`), so that whoever reads them knows which is the
latest.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Raw
from msgspec.structs import replace

from wait_for_me.codec import decode_fire
from wait_for_me.errors import STAGE_OF_CODE, InvalidFire
from wait_for_me.fires import Fire
from wait_for_me.topic_names import TopicNames
from wait_for_me_app.callbacks import Callback
from wait_for_me_app.dead_letters import dead_letter
from wait_for_me_app.executor.effects import Append, FireRecord, Headers, Now, Ticket, UnreadableFire, UnreadableOutcome
from wait_for_me_app.executor.ledger import Damaged
from wait_for_me_app.executor.tenure import Entry
from wait_for_me_app.outcomes import (
    ACCEPTED,
    DEAD,
    DONE,
    FAILED,
    PARKED,
    STARTED,
    Finished,
    FinishedState,
    Progress,
    uuid_of,
)

MAX_FIRE_BYTES: Final = 1024 * 1024
"""Largest fire that is accepted, key and headers included; a worker's own have less than half of it."""
MAX_REASON_CHARACTERS: Final = 1_000
_MAX_ORIGIN_BYTES: Final = 256 * 1024


def read_fire(record: FireRecord) -> tuple[Fire, bytes]:
    """Return the fire and the 16 bytes of its id, or raise InvalidFire."""
    size = len(record.value or b"") + _origin_bytes(record)
    if size > MAX_FIRE_BYTES:
        raise InvalidFire("bad_fire", f"the record has {size} bytes: only workers may write to the fires topic")
    fire = decode_fire(record.value)
    uuid = uuid_of(fire.fire_id)
    if uuid is None:
        raise InvalidFire(
            "bad_fire", f"fire_id {fire.fire_id[:60]!r} is none: only workers may write to the fires topic"
        )
    return fire, uuid


def _origin_bytes(record: FireRecord) -> int:
    return len(record.key or b"") + sum(len(name) + len(value or b"") for name, value in record.headers)


# --- progress --------------------------------------------------------------------------------------------------------


def accepted(record: FireRecord, fire: Fire, now: Now) -> Progress:
    """The fire has been read and is taken on."""
    return Progress(
        fire_id=fire.fire_id,
        group_key=fire.group_key,
        callback=fire.execute_after_waiting,
        partition=record.partition,
        offset=record.offset,
        revision=1,
        attempt=0,
        state=ACCEPTED,
        accepted_at_ms=now.wall_ms,
        next_attempt_at_ms=now.wall_ms,
        key=record.key,
        headers=record.headers,
        fire=Raw(record.value or b""),
    )


def parked(progress: Progress, now: Now) -> Progress:
    """Nobody here knows the callback; the patience begins."""
    return replace(progress, state=PARKED, revision=progress.revision + 1, parked_since_ms=now.wall_ms)


def started(progress: Progress, callback: Callback, executor: str, now: Now) -> Progress:
    """The next attempt begins, as soon as this is safe."""
    return replace(
        progress,
        state=STARTED,
        revision=progress.revision + 1,
        attempt=progress.attempt + 1,
        next_attempt_at_ms=None,
        started_at_ms=now.wall_ms,
        time_limit_ms=callback.time_limit_ms,
        executor=executor,
        parked_since_ms=None,
    )


def stamped_again(progress: Progress, now: Now) -> Progress:
    """The same start with a fresh time: it took too long until the first one was safe."""
    return replace(progress, revision=progress.revision + 1, started_at_ms=now.wall_ms)


def taken_back(progress: Progress, before: Progress) -> Progress:
    """The start did not happen: back to what was before it."""
    return replace(before, revision=progress.revision + 1)


def failed(progress: Progress, *, code: str, reason: str, next_at_ms: int | None, lost_start: bool = False) -> Progress:
    """The attempt has ended badly; `next_at_ms` None means that there is no other."""
    return replace(
        progress,
        state=FAILED,
        revision=progress.revision + 1,
        next_attempt_at_ms=next_at_ms,
        started_at_ms=None,
        time_limit_ms=None,
        starts_without_end=progress.starts_without_end + lost_start,
        error=code,
        reason=clean(reason),
    )


# --- the end ---------------------------------------------------------------------------------------------------------


def done(progress: Progress, took_ms: int, now: Now) -> Finished:
    """The callback has returned."""
    return _finished(progress, DONE, now, took_ms=took_ms)


def dead(progress: Progress, code: str, reason: str, now: Now) -> Finished:
    """The fire has been set aside; its dead letter is safe."""
    return _finished(progress, DEAD, now, error=code, reason=clean(reason))


def _finished(progress: Progress, state: FinishedState, now: Now, **more: Any) -> Finished:
    return Finished(
        fire_id=progress.fire_id,
        group_key=progress.group_key,
        callback=progress.callback,
        partition=progress.partition,
        offset=progress.offset,
        revision=progress.revision + 1,
        attempt=progress.attempt,
        state=state,
        finished_at_ms=now.wall_ms,
        executor=progress.executor,
        **more,
    )


# --- dead letters ----------------------------------------------------------------------------------------------------


def dead_letter_of_fire(topics: TopicNames, entry: Entry, code: str, reason: str) -> Append:
    """The fire as it was read, with why it is given up."""
    progress = entry.progress
    key, value, headers = dead_letter(
        topic=topics.fires,
        partition=progress.partition,
        offset=progress.offset,
        key=progress.key,
        value=progress.fire_bytes,
        headers=progress.headers,  # type: ignore[arg-type]  # a header of ours has a value, a stranger's may have none
        group=topics.executor_group,
        stage=STAGE_OF_CODE[code],
        code=code,
        message=clean(reason),
        delivery_count=max(1, progress.attempt),
        fire_id=progress.fire_id,
    )
    return _letter(topics, progress.partition, key, value, tuple(headers), entry)


def dead_letter_of_record(topics: TopicNames, record: FireRecord, error: InvalidFire, ticket: UnreadableFire) -> Append:
    """A record that is no fire, as it came; origin and reason in its headers."""
    key, value, headers = dead_letter(
        topic=topics.fires,
        partition=record.partition,
        offset=record.offset,
        key=(record.key or b"")[:_MAX_ORIGIN_BYTES] if record.key is not None else None,
        value=record.value,
        # A stranger's headers can be as large as Kafka allows; a letter with them would be refused, and end the executor.
        headers=record.headers if _origin_bytes(record) <= _MAX_ORIGIN_BYTES else (),  # type: ignore[arg-type]
        group=topics.executor_group,
        stage=error.stage,
        code=error.code,
        message=clean(error.message),
        delivery_count=1,
    )
    return _letter(topics, record.partition, key, value, tuple(headers), ticket)


def dead_letter_of_damage(
    topics: TopicNames, partition: int, damaged: Damaged, ticket: UnreadableOutcome | None
) -> Append:
    """A record of the outcomes topic that cannot be read."""
    key, value, headers = dead_letter(
        topic=topics.outcomes,
        partition=partition,
        offset=damaged.offset,
        key=damaged.key,
        value=damaged.value,
        headers=(),
        group=topics.executor_group,
        stage=STAGE_OF_CODE["damaged_row"],
        code="damaged_row",
        message=clean(damaged.reason),
        delivery_count=1,
    )
    return _letter(topics, partition, key, value, tuple(headers), ticket)


def _letter(
    topics: TopicNames,
    partition: int,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    ticket: Ticket | None,
) -> Append:
    return Append(
        step="dead_letter",
        topic=topics.fires_dead_letters,
        partition=partition,
        key=key,
        value=value,
        headers=headers,
        ticket=ticket,
    )


def clean(text: str) -> str:
    """Return text of unknown origin so that it can be written: valid Unicode, not too long."""
    return text[:MAX_REASON_CHARACTERS].encode(errors="replace").decode()
