"""What the API shows of fires, outcomes and dead letters. Pure: from what was read to documents."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from wait_for_me.fires import Fire
from wait_for_me_app import outcomes
from wait_for_me_app.core.fires import rfc3339
from wait_for_me_app.dlq.letters import TRUNCATED, Letter
from wait_for_me_app.web.documents import Arrived, DeadLetter, FireView, Outcome

VALUE_SHOWN_BYTES: Final = 4096
ARRIVALS_IN_A_LIST: Final = 100


def ms_of(text: str) -> int:
    """Return the milliseconds of an RFC 3339 time."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def fire_view(fire: Fire, *, offset: int, appended_ms: int, hide: bool) -> FireView:
    """Return a fire with what can be reckoned from it."""
    arrived = fire.arrived[:ARRIVALS_IN_A_LIST]
    return FireView(
        fire_id=fire.fire_id,
        group_key=fire.group_key,
        reason=fire.reason,
        number_of_participants_in_group=fire.number_of_participants_in_group,
        arrived_count=fire.arrived_count,
        missing_count=fire.missing_count,
        arrived=tuple(Arrived(participant_key=one.participant_key, at=one.at) for one in arrived),
        arrived_truncated=fire.arrived_truncated or len(arrived) < len(fire.arrived),
        conflict_count=fire.conflict_count,
        execute_after_waiting=fire.execute_after_waiting,
        execute_after_waiting_params=None if hide else msgspec.Raw(fire.params_bytes),
        payloads_hidden=hide,
        wait_time_in_seconds=fire.wait_time_in_seconds,
        opened_at=fire.opened_at,
        last_add_at=fire.last_add_at,
        deadline_at=fire.deadline_at,
        fired_at=fire.fired_at,
        appended_at=rfc3339(appended_ms),
        waited_seconds=max(0, ms_of(fire.fired_at) - ms_of(fire.opened_at)) / 1000,
        lateness_seconds=max(0, appended_ms - ms_of(fire.deadline_at)) / 1000 if fire.reason == "timeout" else None,
        partition=fire.partition,
        offset=offset,
        opened_offset=fire.opened_offset,
        closed_offset=fire.closed_offset,
    )


def outcome_view(outcome: outcomes.Outcome, at_ms: int) -> Outcome:
    """Return an outcome."""
    more: dict[str, Any] = {"error": outcome.error, "reason": outcome.reason, "executor": outcome.executor}
    if isinstance(outcome, outcomes.Finished):
        more["took_ms"] = outcome.took_ms
    elif outcome.next_attempt_at_ms is not None:
        more["next_attempt_at"] = rfc3339(outcome.next_attempt_at_ms)
    return Outcome(state=outcome.state, attempt=outcome.attempt, at=rfc3339(at_ms), **more)


def dead_letter_view(found: Letter, *, hide: bool) -> DeadLetter:
    """Return a dead letter; a part of its bytes, as text, where payloads may be seen."""
    origin = found.origin
    shown = (found.value or b"")[:VALUE_SHOWN_BYTES]
    is_whole = all(name != TRUNCATED for name, _value in found.headers)
    return DeadLetter(
        id=found.id,
        kind="command" if found.box == "commands" else "fire",
        at=rfc3339(found.at_ms),
        group_key=found.group_key or "",
        stage=origin.stage or "unknown",
        error=origin.code or "unknown",
        message=(origin.message or "")[:2000],
        origin=":".join("?" if part is None else str(part) for part in (origin.topic, origin.partition, origin.offset)),
        delivery_count=origin.deliveries or 0,
        fire_id=origin.fire_id,
        value=None if hide or found.value is None else shown.decode(errors="replace"),
        value_bytes=found.size,
        payloads_hidden=hide,
        can_retry=is_whole and origin.topic is not None and origin.code != "damaged_row",
    )
