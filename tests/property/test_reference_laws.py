"""Laws that any right fold keeps, tried on the reference: it has no other judge than these and the transcripts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from property.logs import logs, places
from scenarios.transcript import LOG_APPEND_TIME, TOPIC_ID, LogRecord, summary
from wait_for_me_app.audit.reference import fold_partition

LAWS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
HERE: dict[str, Any] = {"topic_id": TOPIC_ID, "partition": 0, "partitions": 1}


@LAWS
@given(log=logs(), place=places(), cut=st.integers(0, 40))
def test_the_future_never_changes_the_past(log: list[LogRecord], place: dict[str, Any], cut: int) -> None:
    """What has been decided up to a record does not depend on what comes after it."""
    whole, part = fold_partition(log, **place), fold_partition(log[:cut], **place)
    assert whole.fires[: len(part.fires)] == part.fires
    assert whole.verdicts[:cut] == part.verdicts
    assert whole.rejected[: len(part.rejected)] == part.rejected


@LAWS
@given(log=logs(), place=places())
def test_a_round_fires_once_and_for_a_reason_that_holds(log: list[LogRecord], place: dict[str, Any]) -> None:
    """One fire a round; complete means N or more, timeout means fewer and the deadline passed, counted in stream time."""
    outcome = fold_partition(log, **place)
    fires = [json.loads(value) for _, _, value in outcome.fires]
    assert len({fire["fire_id"] for fire in fires}) == len(fires)
    for fire in fires:
        expected, arrived = fire["number_of_participants_in_group"], fire["arrived_count"]
        assert (fire["reason"] == "complete") == (arrived >= expected)
        assert fire["reason"] == "complete" or fire["fired_at"] >= fire["deadline_at"]
        assert fire["missing_count"] == max(0, expected - arrived)
        assert fire["opened_at"] <= fire["last_add_at"] <= fire["fired_at"]
        assert [one["at"] for one in fire["arrived"]] == sorted(one["at"] for one in fire["arrived"])
        assert len({one["participant_key"] for one in fire["arrived"]}) == arrived


@LAWS
@given(log=logs(), place=places())
def test_nothing_that_is_due_stays_open(log: list[LogRecord], place: dict[str, Any]) -> None:
    """After every record each open round's deadline is after T, and each closed one lingers still."""
    outcome = fold_partition(log, **place)
    assert all(deadline > outcome.stream_time_ms for _, _, deadline in outcome.open_groups.values())
    assert not outcome.open_groups.keys() & outcome.closed.keys()


@LAWS
@given(log=logs(), place=places())
def test_every_round_that_opened_ends_once_or_is_open(log: list[LogRecord], place: dict[str, Any]) -> None:
    """Nothing is lost: a round has fired, was removed, or waits."""
    outcome = fold_partition(log, **place)
    fired = {json.loads(value)["opened_offset"] for _, _, value in outcome.fires}
    waiting = {opened for opened, _, _ in outcome.open_groups.values()}
    assert len(outcome.verdicts) == len(log)
    assert not fired & waiting
    assert outcome.verdicts.count("new") >= len(fired) + len(waiting)


@LAWS
@given(log=logs(headers=st.just(())), where=st.lists(st.none() | st.floats(0, 1), min_size=40, max_size=40))
def test_ticks_between_the_records_change_no_verdict_while_closed_groups_linger(
    log: list[LogRecord], where: list[float | None]
) -> None:
    """A tick more or less moves a fire in time, never what it says: who had arrived, and why it fired."""
    plain = [_lingering(replace(record, offset=2 * at)) for at, record in enumerate(log)]
    ticked = _with_ticks(plain, where)
    without, with_ticks = fold_partition(plain, **HERE), fold_partition(ticked, **HERE)
    assert summary(with_ticks.fires) == summary(without.fires)
    assert [
        v for v, record in zip(with_ticks.verdicts, ticked, strict=True) if record.offset % 2 == 0
    ] == without.verdicts


def _with_ticks(log: list[LogRecord], where: list[float | None]) -> list[LogRecord]:
    """Put a tick before some of the records, stamped between the stream times around it."""
    now, ticked = 0, list[LogRecord]()
    for record, share in zip(log, where, strict=False):
        after = max(now, record.timestamp_ms) if record.timestamp_type == LOG_APPEND_TIME else now
        if share is not None and now:
            ticked.append(_tick(record.offset - 1, now + round((after - now) * share)))
        ticked.append(record)
        now = after
    return ticked


def _tick(offset: int, timestamp_ms: int) -> LogRecord:
    return LogRecord(offset=offset, timestamp_ms=timestamp_ms, value=b'{"type":"tick"}')


def _lingering(record: LogRecord) -> LogRecord:
    """The same add, with a linger beyond the end of the log."""
    value = record.value
    if value is not None and value.startswith(b'{"type":"add"') and b"execute_after_waiting" in value:
        value = value[:-1] + b',"linger_in_seconds":3600}'
    return replace(record, value=value)
