"""Rules of the fold that a transcript does not show: what rows remember, what a replay skips, and what time does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes import NOON_MS, TOPIC_ID, add, record, remove, tick
from wait_for_me_app.core.deadlines import NEVER_MS, Deadlines
from wait_for_me_app.core.effects import Effects, Identity
from wait_for_me_app.core.fold import LOOKS_AT_ONCE, Fold, rerouted_source
from wait_for_me_app.core.rows import INLINE_ARRIVALS, RULES_VERSION, ClosedRound, OpenRound
from wait_for_me_app.storage.store import MemoryStore
from wait_for_me_app.storage.working_set import WorkingSet

ALL = 1 << 30


def new_fold(**identity: Any) -> Fold:
    """A fold of a topic with one partition, over empty rows."""
    one = Identity(**{"topic_id": TOPIC_ID, "partition": 0, "partitions": 1, **identity})
    return Fold(one, WorkingSet(MemoryStore()), Deadlines())


def take(fold: Fold, *records: Any) -> Effects:
    """Read records; return all that they want to be sent."""
    for one in records:
        fold.advance(one, ALL)
        fold.apply(one)
    return fold.take_effects()


def fires(effects: Effects) -> list[dict[str, Any]]:
    """Return the fires, read."""
    return [json.loads(value) for _, value in effects.fires]


def settle(fold: Fold) -> None:
    """End a run: everything is in the store."""
    rows: Any = fold.rows
    rows.settle([change for unit in rows.pack() for change in unit], 0)


# -- time


def test_time_is_the_largest_broker_timestamp_so_far() -> None:
    """A broker clock that steps back does not turn time back, and no record is refused for it."""
    fold = new_fold()
    take(fold, tick(0, NOON_MS), tick(1, NOON_MS - 5_000), tick(2, NOON_MS + 1), tick(3, NOON_MS))
    assert fold.stream_time_ms == NOON_MS + 1


@pytest.mark.parametrize(("trusted", "expected"), [(False, NOON_MS), (True, NOON_MS + 10**9)])
def test_a_timestamp_that_a_producer_wrote_counts_in_the_demo_only(trusted: bool, expected: int) -> None:
    """One client with a fast clock would end everybody's wait."""
    fold = new_fold(trust_create_time=trusted)
    take(fold, tick(0, NOON_MS), record(1, NOON_MS + 10**9, b'{"type":"tick"}', None, timestamp_type=0))
    assert fold.stream_time_ms == expected


@pytest.mark.parametrize("value", [b"not json", None, b'{"type":"remove","group_key":"other"}'])
def test_a_record_that_is_set_aside_moves_time_and_closes_what_is_due(value: bytes | None) -> None:
    """Whatever is wrong with it, the broker stamped it."""
    fold = new_fold()
    effects = take(fold, add(0, NOON_MS), record(1, NOON_MS + 60_000, value))
    assert [fire["reason"] for fire in fires(effects)] == ["timeout"]
    assert len(effects.rejected) == 1


def test_timeouts_of_one_moment_come_by_deadline_and_then_by_key_bytes() -> None:
    """Not by the order in which they opened; two workers must write the same log of fires."""
    fold = new_fold()
    waits = {"b": 5, "ä": 5, "a": 5, "c": 4, "B": 5}
    adds = [
        add(offset, NOON_MS, group, wait_time_in_seconds=wait) for offset, (group, wait) in enumerate(waits.items())
    ]
    take(fold, *adds)
    effects = take(fold, tick(9, NOON_MS + 10_000))
    assert [fire["group_key"] for fire in fires(effects)] == ["c", "B", "a", "b", "ä"]


def test_a_deadline_that_slid_closes_in_its_true_place() -> None:
    """Its old entry comes up first and is put back behind those that are due before it."""
    fold = new_fold()
    take(fold, add(0, NOON_MS, "slid"), add(1, NOON_MS + 1_000, "next"), add(2, NOON_MS + 2_000, "slid"))
    effects = take(fold, tick(3, NOON_MS + 100_000))
    assert [fire["group_key"] for fire in fires(effects)] == ["next", "slid"]


def test_a_deadline_that_moved_forward_is_noticed() -> None:
    """The newest add's wait is shorter than what was left."""
    fold = new_fold()
    take(
        fold, add(0, NOON_MS, wait_time_in_seconds=600), add(1, NOON_MS, participant="q", of=9, wait_time_in_seconds=1)
    )
    assert fires(take(fold, tick(2, NOON_MS + 999))) == []
    assert len(fires(take(fold, tick(3, NOON_MS + 1_000)))) == 1


@pytest.mark.parametrize("allowed", [1, 2, 3, 7])
def test_closing_in_portions_is_closing_at_once(allowed: int) -> None:
    """The lane commits between them; the fires and their order are the same."""
    whole, cut = new_fold(), new_fold()
    adds = [add(offset, NOON_MS + offset % 3, f"g{offset}") for offset in range(7)]
    for fold in (whole, cut):
        take(fold, *adds)
    last = tick(9, NOON_MS + 70_000)
    portions = [cut.advance(last, allowed)]
    while portions[-1] == allowed:
        portions.append(cut.advance(last, allowed))
    cut.apply(last)
    assert sum(portions) == 7
    assert cut.take_effects().fires == take(whole, last).fires


def test_nothing_due_costs_one_comparison() -> None:
    """`advance` does not look at rows then: this is every record."""
    fold = new_fold()
    take(fold, add(0, NOON_MS))
    fold.rows = None  # type: ignore[assignment]  # whoever asks for a row now fails
    assert fold.advance(tick(1, NOON_MS + 59_999), ALL) == 0


# -- what the sweep asks


def test_the_sweep_sees_a_round_that_is_overdue_by_the_brokers_clock() -> None:
    """Although the log does not know it yet; asking decides nothing."""
    fold = new_fold()
    take(fold, add(0, NOON_MS))
    assert [fold.has_due(NOON_MS + 59_999), fold.has_due(NOON_MS + 60_000)] == [False, True]
    assert fold.stream_time_ms == NOON_MS
    assert len(fires(take(fold, tick(1, NOON_MS + 60_000)))) == 1


def test_asking_loses_no_deadline() -> None:
    """Entries that are looked at are put back: stale ones where they belong."""
    fold = new_fold()
    take(fold, *(add(offset, NOON_MS, f"g{offset}") for offset in range(5)))
    take(fold, add(5, NOON_MS + 30_000, "g0"), remove(6, NOON_MS + 30_000, "g1"))
    for now_ms in range(NOON_MS, NOON_MS + 95_000, 5_000):
        fold.has_due(now_ms)
    late = fires(take(fold, tick(7, NOON_MS + 95_000)))
    assert {fire["group_key"] for fire in late} == {"g0", "g2", "g3", "g4"}


def test_groups_that_only_linger_ask_for_nothing_and_are_looked_at_a_few_at_a_time() -> None:
    """A million of them must neither tick for ever nor hold up the loop."""
    fold = new_fold()
    count = LOOKS_AT_ONCE + 50
    take(fold, *(add(offset, NOON_MS, f"g{offset}", of=1) for offset in range(count)))
    take(fold, add(count, NOON_MS + 1, "open"))
    due_ms = NOON_MS + 60_001
    looks = 0
    while not fold.has_due(due_ms) and looks < 10:
        looks += 1
    assert 1 <= looks < 10


# -- rows


def test_a_round_is_stamped_with_the_rules_that_it_began_under() -> None:
    """And keeps the stamp when it closes: a deploy never re-judges it."""
    fold = new_fold()
    take(fold, add(0, NOON_MS))
    row = fold.rows.get(b"g")
    assert row is not None
    row.rules_version = 99
    take(fold, add(1, NOON_MS, participant="q"))
    row = fold.rows.get(b"g")
    assert isinstance(row, ClosedRound)
    assert (row.rules_version, RULES_VERSION) == (99, 1)


def test_a_timeout_marks_its_row_as_changed_just_before_the_record_that_showed_it() -> None:
    """A run may be cut there: the record's own command must not be skipped, and nothing before it may be folded again."""
    fold = new_fold()
    take(fold, add(3, NOON_MS), tick(7, NOON_MS + 60_000))
    row = fold.rows.get(b"g")
    assert isinstance(row, ClosedRound)
    assert (row.changed_offset, row.closed_offset, row.closed_at_ms) == (6, 7, NOON_MS + 60_000)


def test_the_record_that_shows_a_timeout_may_be_late_for_it_or_open_the_next_round() -> None:
    """Both happen at the same offset, in this order."""
    fold = new_fold()
    effects = take(fold, add(0, NOON_MS, linger_in_seconds=0), add(1, NOON_MS + 60_000, participant="q"))
    row = fold.rows.get(b"g")
    assert len(effects.fires) == 1
    assert isinstance(row, OpenRound)
    assert (row.opened_offset, row.arrived_count) == (1, 1)
    lingering = new_fold()
    take(lingering, add(0, NOON_MS), add(1, NOON_MS + 60_000, participant="q"))
    late = lingering.rows.get(b"g")
    assert isinstance(late, ClosedRound)
    assert (late.late_count, late.changed_offset) == (1, 1)


@pytest.mark.parametrize("end", ["complete", "removed"])
def test_a_row_goes_when_its_linger_has_passed_however_long_its_wait_was(end: str) -> None:
    """A wait of weeks that ended within a minute must not keep its row for weeks."""
    fold = new_fold()
    settings_of_it = {"wait_time_in_seconds": 2_000_000, "linger_in_seconds": 1}
    last = add(1, NOON_MS, participant="q", **settings_of_it) if end == "complete" else remove(1, NOON_MS)
    take(fold, add(0, NOON_MS, **settings_of_it), last)
    assert fold.deadlines.earliest_ms <= NOON_MS + 1_000
    settle(fold)
    take(fold, tick(2, NOON_MS + 1_000))
    settle(fold)
    settle(fold)
    assert fold.rows.get(b"g") is None


@pytest.mark.interpreted
def test_a_row_that_the_next_round_follows_is_handed_on_for_deletion() -> None:
    """Its participants' rows belong to the old round; nobody else would find them."""
    discarded: list[Any] = []

    class Watched(WorkingSet):
        def discard(self, group_key: bytes, row: ClosedRound) -> None:
            discarded.append((group_key, row.opened_offset))
            super().discard(group_key, row)

    fold = Fold(Identity(topic_id=TOPIC_ID, partition=0, partitions=1), Watched(MemoryStore()), Deadlines())
    take(fold, add(0, NOON_MS, of=1, linger_in_seconds=0), add(1, NOON_MS, of=1))
    assert set(discarded) == {(b"g", 0)}


@pytest.mark.parametrize("count", [INLINE_ARRIVALS - 1, INLINE_ARRIVALS, INLINE_ARRIVALS + 1, 40])
def test_a_group_counts_alike_on_both_sides_of_the_size_at_which_rows_split(count: int) -> None:
    """Names, order, duplicates and refreshes: the split is nobody's business."""
    fold = new_fold()
    for number in range(count):
        take(fold, add(number, NOON_MS + number, participant=f"p{number}", of=count + 1, event_id=f"e{number}"))
        settle(fold)
    again = [
        add(100 + number, NOON_MS, participant=f"p{number}", of=count + 1, event_id=f"e{number}")
        for number in range(count)
    ]
    assert take(fold, *again).fires == []
    assert fold.counts.duplicates == count
    take(fold, add(300, NOON_MS, participant=f"p{count - 1}", of=count + 1, event_id="new"))
    take(fold, add(301, NOON_MS, participant=f"p{count - 1}", of=count + 1, event_id="new"))
    assert (fold.counts.refreshed, fold.counts.duplicates) == (1, count + 1)
    (fire,) = fires(take(fold, add(302, NOON_MS, participant="last", of=count + 1)))
    assert [one["participant_key"] for one in fire["arrived"]] == [*(f"p{number}" for number in range(count)), "last"]


def test_an_add_without_an_event_id_leaves_the_latest_as_it_is() -> None:
    """So a retry of the send before it is still recognised, in a small group and in a large one."""
    for others in (1, INLINE_ARRIVALS + 3):
        fold = new_fold()
        take(fold, *(add(number, NOON_MS, participant=f"o{number}", of=99) for number in range(others)))
        take(
            fold, add(50, NOON_MS, of=99, event_id="e"), add(51, NOON_MS, of=99), add(52, NOON_MS, of=99, event_id="e")
        )
        assert (fold.counts.refreshed, fold.counts.duplicates) == (1, 1)


def test_a_duplicate_of_an_add_with_other_settings_changes_nothing() -> None:
    """It is the same send: what it says the second time does not count."""
    fold = new_fold()
    take(fold, add(0, NOON_MS, event_id="e", of=5))
    row = fold.rows.get(b"g")
    before = repr(row)
    take(fold, add(1, NOON_MS + 1, event_id="e", of=1, wait_time_in_seconds=1))
    assert repr(fold.rows.get(b"g")) == before
    assert fold.counts.conflicts == 0


@pytest.mark.parametrize(
    "change",
    [
        {"of": 3},
        {"execute_after_waiting": "d"},
        {"execute_after_waiting_params": [1]},
        {"wait_time_in_seconds": 61},
        {"max_wait_in_seconds": 60},
        {"linger_in_seconds": 61},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_difference_in_any_setting_is_one_conflict_and_the_newest_counts(change: dict[str, Any]) -> None:
    """Set back, it is another one."""
    fold = new_fold()
    take(fold, add(0, NOON_MS, of=9))
    take(fold, add(1, NOON_MS, participant="q", **{"of": 9, **change}), add(2, NOON_MS, participant="r", of=9))
    row = fold.rows.get(b"g")
    assert isinstance(row, OpenRound)
    assert row.conflict_count == 2


def test_a_default_that_is_spelled_out_is_no_conflict() -> None:
    """Linger equal to the wait, empty params, no cap."""
    fold = new_fold()
    spelled = {"linger_in_seconds": 60, "execute_after_waiting_params": [], "max_wait_in_seconds": None}
    take(fold, add(0, NOON_MS, of=9), add(1, NOON_MS, participant="q", of=9, **spelled))
    assert fold.counts.conflicts == 0


# -- replays


def replayed(fold: Fold, records: Sequence[Any]) -> Effects:
    """Read records again, over rows that know them, as a successor without their watermark does."""
    settle(fold)
    rows: Any = fold.rows
    again = Fold(fold.identity, WorkingSet(rows._store), Deadlines(), stream_time_ms=records[0].timestamp)
    effects = take(again, *records)
    assert again.counts.replayed > 0
    return effects


def test_a_record_that_a_row_knows_is_skipped() -> None:
    """Adds to an open round, the one that closed it, late ones, and the remove."""
    for records in (
        [add(0, NOON_MS, of=9), add(1, NOON_MS, participant="q", of=9)],
        [add(0, NOON_MS), add(1, NOON_MS, participant="q"), add(2, NOON_MS, participant="late")],
        [add(0, NOON_MS), remove(1, NOON_MS), add(2, NOON_MS, participant="late")],
    ):
        fold = new_fold()
        take(fold, *records)
        before = repr(fold.rows.get(b"g"))
        effects = replayed(fold, records)
        assert (effects.fires, effects.rejected) == ([], [])
        store: Any = fold.rows
        assert repr(WorkingSet(store._store).get(b"g")) == before


def test_a_freed_row_still_skips_the_records_that_it_knows() -> None:
    """Free for new adds, not for those that it has counted: they would open a ghost."""
    records = [add(0, NOON_MS, of=1, linger_in_seconds=0)]
    fold = new_fold()
    take(fold, *records)
    assert replayed(fold, records).fires == []


def test_a_freed_row_is_not_discarded_by_a_record_that_it_knows() -> None:
    """Deleted, it would forget what is still to be read again; it is looked at once more a moment later."""
    fold = new_fold()
    take(fold, add(0, NOON_MS, "other"), add(5, NOON_MS, of=1, linger_in_seconds=0))
    settle(fold)
    rows: Any = fold.rows
    row = rows.get(b"g")
    again = Fold(
        fold.identity,
        WorkingSet(rows._store),
        Deadlines([row.due_ms.to_bytes(8, "big") + b"g"]),
        stream_time_ms=NOON_MS,
    )
    take(again, tick(3, NOON_MS))
    settle(again)
    settle(again)
    assert again.rows.get(b"g") == row
    take(again, tick(6, NOON_MS + 1))
    settle(again)
    settle(again)
    assert again.rows.get(b"g") is None
    assert again.deadlines.earliest_ms == NEVER_MS


# -- misplaced commands and odd headers


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"0:7", (0, 7)),
        (b"11:123456789012345", (11, 123456789012345)),
        (b"7", None),
        (b":7", None),
        (b"7:", None),
        (b"-1:7", None),
        (b"1:7:9", None),
        (b" 1:7", None),
        (b"", None),
        (None, None),
        (b"1:" + b"9" * 60, None),
        ("1:٣".encode(), None),
    ],
)
def test_an_origin_is_two_plain_numbers_or_it_is_none(value: Any, expected: Any) -> None:
    """Whoever may send commands may write this header."""
    assert rerouted_source([("other", b"1:1"), ("wfm_rerouted", value)]) == expected


def test_an_origin_that_no_worker_can_have_written_hides_nothing() -> None:
    """A source partition that does not exist is not remembered: its offsets would be compared with nobody's."""
    fold = new_fold()
    headers = [("wfm_rerouted", b"5:100")]
    take(fold, add(0, NOON_MS, of=9, headers=headers), add(1, NOON_MS, participant="q", of=9, headers=headers))
    row = fold.rows.get(b"g")
    assert isinstance(row, OpenRound)
    assert (row.arrived_count, fold.rerouted_from) == (2, {})


odd_headers = st.lists(
    st.tuples(
        st.sampled_from(
            ["wfm_rerouted", "wfm_event_id", "ce_specversion", "ce_type", "ce_id", "content-type", "traceparent", ""]
        ),
        st.sampled_from(
            [None, b"", b"\xff", b"1.0", b"0:1", b"waitforme.add.v1", b"application/cloudevents+json", b"e"]
        ),
    ),
    max_size=4,
)
values = st.sampled_from([add(0, 0).value, remove(0, 0).value, tick(0, 0).value, b"{}", b"", None])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=values, key=st.sampled_from([b"g", b"", None, b"\xff"]), headers=odd_headers, partition=st.integers(0, 2))
def test_no_header_makes_the_fold_raise(value: Any, key: Any, headers: Any, partition: int) -> None:
    """Kafka allows a header without a value, or twice: such a record is obeyed, re-sent, or set aside with a reason."""
    fold = new_fold(partition=partition, partitions=3)
    effects = take(fold, record(0, NOON_MS, value, key, headers=headers))
    verdicts = len(effects.rejected) + len(effects.rerouted) + fold.counts.opened + fold.counts.ticks
    assert verdicts + fold.counts.duplicates <= 1


def test_the_counts_are_told_apart() -> None:
    """For metrics; each record has one verdict."""
    fold = new_fold()
    take(
        fold,
        add(0, NOON_MS, event_id="e"),
        add(1, NOON_MS, event_id="e"),
        add(2, NOON_MS, of=3),
        add(3, NOON_MS, participant="q"),
        add(4, NOON_MS, participant="r"),
        remove(5, NOON_MS),
        tick(6, NOON_MS + 60_000),
    )
    counts = fold.counts
    found = (counts.opened, counts.joined, counts.refreshed, counts.duplicates, counts.late, counts.ticks)
    assert found == (1, 1, 1, 1, 1, 1)
    assert counts.closed == {"complete": 1, "timeout": 0, "removed": 0}


def test_a_tick_is_no_copy_whatever_its_headers_say() -> None:
    """Whoever may write ticks could else have genuine re-sent commands taken for copies."""
    fold = new_fold(partitions=3)
    take(fold, record(0, NOON_MS, b'{"type":"tick"}', None, headers=[("wfm_rerouted", b"1:100")]))
    assert (fold.rerouted_from, fold.counts.ticks, fold.counts.duplicates) == ({}, 1, 0)
