"""A lane: the order of its effects, its failures, and what a successor makes of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from fakes import (
    NOON_MS,
    TOPIC_ID,
    TOPICS,
    Killed,
    MemoryOutlet,
    RecordedStore,
    Refused,
    add,
    gap_of,
    new_lane,
    record,
    remove,
    restore,
    restored_until,
    run_header,
    take_over,
    tick,
)
from wait_for_me.codec import decode_command
from wait_for_me.errors import InvalidCommand
from wait_for_me.partitioner import partition_for
from wait_for_me_app import lane as lane_module
from wait_for_me_app.core import fold as fold_module
from wait_for_me_app.core.rows import Arrival, ClosedRound, OpenRound, Watermark
from wait_for_me_app.lane import CLOSINGS_A_SLICE, Lane, LaneFailure
from wait_for_me_app.storage import keys
from wait_for_me_app.storage.row_codec import decode_round, decode_strike, decode_watermark, encode_other, encode_round
from wait_for_me_app.storage.store import MemoryStore, Store
from wait_for_me_app.topics import COMMANDS_MAX_BYTES

EVERYTHING = [
    add(0, NOON_MS, "g", "p", of=1),
    record(1, NOON_MS, b"not json"),
    add(2, NOON_MS, "h", "p"),
]
"""A run with a fire, a dead letter and a row."""


def changes(outlet: MemoryOutlet) -> list[tuple[bytes | None, bytes | None]]:
    """Return what is in the changelog."""
    return [(one.key, one.value) for one in outlet.read(TOPICS.changelog)]


def watermark_in(outlet: MemoryOutlet) -> Watermark | None:
    """Return the last watermark in the changelog."""
    values = [value for key, value in changes(outlet) if key == keys.WATERMARK_KEY and value]
    return decode_watermark(keys.WATERMARK_KEY, values[-1]) if values else None


def row_in(store: Store, group: str = "g") -> Any:
    """Return a group's row in a store."""
    value = store.get(keys.group_row_key(group.encode()))
    return None if value is None else decode_round(b"", value)


def fires_in(outlet: MemoryOutlet, partition: int = 0) -> list[dict[str, Any]]:
    """Return the fires."""
    return [json.loads(one.value or b"") for one in outlet.read(TOPICS.fires, partition)]


def letters_in(outlet: MemoryOutlet, partition: int = 0) -> list[dict[str, str]]:
    """Return the headers of the dead letters."""
    records = outlet.read(TOPICS.commands_dead_letters, partition)
    return [{name: value.decode(errors="replace") for name, value in one.headers} for one in records]


async def no_keys(_partition: int, _start: int) -> tuple[Sequence[bytes], int]:
    """Stands for a read that nobody should ask for."""
    raise AssertionError("nothing was to be read")


def reader(outlet: MemoryOutlet) -> Any:
    """Return what reads the changelog's keys."""
    return lambda partition, start: gap_of(outlet, partition, start)


# -- the order of effects


async def test_rows_are_appended_after_fires_and_dead_letters_and_stored_after_that() -> None:
    """The one order that loses nothing, as it was carried out."""
    outlet = MemoryOutlet()
    lane = new_lane(outlet, RecordedStore(outlet.journal))
    await lane.take(EVERYTHING)
    assert {f"ack {TOPICS.commands_dead_letters}", f"ack {TOPICS.fires}"} <= set(outlet.journal[:4])
    assert outlet.journal[4:] == [f"begin {TOPICS.changelog}", f"ack {TOPICS.changelog}", "store written"]


@pytest.mark.parametrize("held", [TOPICS.fires, TOPICS.commands_dead_letters])
async def test_no_row_is_appended_while_a_fire_or_a_dead_letter_is_not_safe(held: str) -> None:
    """The acknowledgement is awaited, however long it takes."""
    outlet, store = MemoryOutlet(), MemoryStore()
    outlet.hold(held)
    taking = asyncio.create_task(new_lane(outlet, store).take(EVERYTHING))
    await outlet.begun(held)
    await let_it_run()
    assert (changes(outlet), store.rows) == ([], {})
    outlet.release(held)
    await taking
    assert changes(outlet)


async def test_the_store_is_not_written_while_the_rows_are_not_safe() -> None:
    """A cache that was ahead of Kafka would hide what Kafka has lost."""
    outlet, store = MemoryOutlet(), MemoryStore()
    outlet.hold(TOPICS.changelog)
    taking = asyncio.create_task(new_lane(outlet, store).take(EVERYTHING))
    await outlet.begun(TOPICS.changelog)
    await let_it_run()
    assert store.rows == {}
    assert not taking.done()
    outlet.release(TOPICS.changelog)
    await taking
    assert store.rows


async def let_it_run() -> None:
    """Give everything that could run the turns to do it."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_watermark_is_the_last_record_of_a_run() -> None:
    """It vouches for all that stands before it."""
    outlet = MemoryOutlet()
    await new_lane(outlet).take(EVERYTHING)
    assert [key for key, _ in changes(outlet)][-1] == keys.WATERMARK_KEY
    assert [key for key, _ in changes(outlet)].count(keys.WATERMARK_KEY) == 1


async def test_a_watermark_says_what_a_successor_needs() -> None:
    """Offset, stream time, and of which topic."""
    outlet = MemoryOutlet()
    await new_lane(outlet).take([add(5, NOON_MS + 7), tick(9, NOON_MS + 3)])
    assert watermark_in(outlet) == Watermark(
        offset=9, stream_time_ms=NOON_MS + 7, topic_id=str(TOPIC_ID), partitions=1, rerouted={}
    )


async def test_every_changelog_record_names_the_end_of_its_run() -> None:
    """By which a zombie's record is known; tombstones carry it too."""
    outlet = MemoryOutlet()
    lane = new_lane(outlet)
    await lane.take([add(0, NOON_MS, of=1, linger_in_seconds=0), add(1, NOON_MS, "h")])
    await lane.take([tick(2, NOON_MS + 60_000)])
    await lane.take([tick(4, NOON_MS + 60_001)])
    ends = {one.headers for one in outlet.read(TOPICS.changelog)}
    assert ends == {(run_header(1),), (run_header(2),), (run_header(4),)}
    assert [one.headers for one in outlet.read(TOPICS.changelog) if one.value is None] == [(run_header(2),)]


async def test_participants_stand_before_their_group() -> None:
    """A participant newer than its group has not been counted yet; the other way round somebody would be missing."""
    outlet = MemoryOutlet()
    await new_lane(outlet).take([add(number, NOON_MS, participant=f"p{number}", of=99) for number in range(12)])
    kinds = [(key or b"")[:1] for key, _ in changes(outlet)]
    assert kinds == [b"P", b"A"] * 4 + [b"G", b"W"]


async def test_the_store_reaches_as_far_as_the_changelog() -> None:
    """So that a restart reads nothing twice."""
    outlet, store = MemoryOutlet(), MemoryStore()
    lane = new_lane(outlet, store)
    await lane.take(EVERYTHING)
    assert store.changelog_offset == outlet.end(TOPICS.changelog) - 1 == lane.changelog_end - 1


async def test_a_run_that_changes_nothing_still_moves_the_watermark() -> None:
    """A tick too early, or a hole in the offsets: the successor need not read it again."""
    outlet = MemoryOutlet()
    lane = new_lane(outlet)
    await lane.take([tick(3, NOON_MS)])
    assert [key for key, _ in changes(outlet)] == [keys.WATERMARK_KEY]
    assert lane.watermark == 3


async def test_an_empty_run_does_nothing() -> None:
    """Nothing to decide, nothing to write."""
    outlet = MemoryOutlet()
    await new_lane(outlet).take([])
    assert outlet.calls == 0


async def test_runs_of_one_lane_wait_for_each_other() -> None:
    """Two at once would decide on rows that are not settled."""
    outlet = MemoryOutlet()
    lane = new_lane(outlet)
    outlet.hold(TOPICS.changelog)
    first = asyncio.create_task(lane.take([add(0, NOON_MS)]))
    await outlet.begun(TOPICS.changelog)
    second = asyncio.create_task(lane.take([add(1, NOON_MS, participant="q")]))
    await let_it_run()
    assert outlet.calls == 1
    outlet.release(TOPICS.changelog)
    await asyncio.gather(first, second)
    assert [fire["reason"] for fire in fires_in(outlet)] == ["complete"]


async def test_a_lane_counts_what_it_does() -> None:
    """For metrics and logs."""
    lane = new_lane(MemoryOutlet())
    await lane.take(EVERYTHING)
    counts = lane.counts
    assert (counts.runs, counts.records, counts.fires, counts.rejected, counts.last_run_records) == (1, 3, 1, 1, 3)


async def test_a_lane_knows_how_many_rounds_wait() -> None:
    """Those that it found, those that opened, less those that ended, before and after a takeover."""
    outlet = MemoryOutlet()
    lane = new_lane(outlet)
    await lane.take([add(0, NOON_MS), add(1, NOON_MS, "h"), add(2, NOON_MS, "i", of=1)])
    assert lane.waiting == 2
    successor = take_over(outlet)
    assert successor.waiting == 2
    await successor.take([add(3, NOON_MS, "j"), remove(4, NOON_MS, "h"), tick(5, NOON_MS + 60_000)])
    assert successor.waiting == 0


async def test_a_row_that_cannot_be_read_counts_as_overdue() -> None:
    """Then a tick is sent, the fold meets the row, and it is set aside; the sweep must not end the worker over it."""
    outlet, store = MemoryOutlet(), MemoryStore()
    await new_lane(outlet, store).take([add(0, NOON_MS)])
    value = store.get(keys.group_row_key(b"g")) or b""
    damage(store, keys.group_row_key(b"g"), value[:9] + b"\xc1")
    lane = new_lane(outlet, store)
    assert [lane.has_due(NOON_MS + 59_999), lane.has_due(NOON_MS + 60_000)] == [False, True]
    assert lane.earliest_due_ms == NOON_MS + 60_000


# -- failures


@pytest.mark.parametrize("topic", [TOPICS.fires, TOPICS.commands_dead_letters, TOPICS.changelog])
async def test_an_append_that_is_refused_ends_the_lane(topic: str) -> None:
    """LaneFailure with the cause; the watermark in Kafka has not moved, so nothing of the run counts as done."""
    outlet, store = MemoryOutlet(), MemoryStore()
    outlet.refuse(topic)
    with pytest.raises(LaneFailure, match="takes nothing") as caught:
        await new_lane(outlet, store).take(EVERYTHING)
    assert isinstance(caught.value.__cause__, Refused)
    assert watermark_in(outlet) is None
    assert store.rows == {}


async def test_a_re_send_that_is_refused_ends_the_lane() -> None:
    """A misplaced command that is neither applied nor re-sent would be lost."""
    outlet, store = MemoryOutlet(), MemoryStore()
    outlet.refuse(TOPICS.commands)
    with pytest.raises(LaneFailure):
        await misplacing_lane(outlet, store).take([add(0, NOON_MS, ELSEWHERE)])
    assert (watermark_in(outlet), store.rows) == (None, {})


async def test_a_store_that_cannot_be_written_ends_the_lane() -> None:
    """The rows are in Kafka, so nothing is lost; a successor restores them."""
    outlet, store = MemoryOutlet(), RecordedStore()
    store.refuses = OSError("no space left")
    with pytest.raises(LaneFailure, match="no space left"):
        await new_lane(outlet, store).take(EVERYTHING)
    successor = take_over(outlet)
    assert successor.watermark == 2


@pytest.mark.parametrize("topic", [TOPICS.fires, TOPICS.commands_dead_letters, TOPICS.changelog])
@pytest.mark.parametrize("portion", [0.0, 0.5, 1.0])
async def test_a_successor_decides_a_failed_run_again_to_the_same_bytes(topic: str, portion: float) -> None:
    """Whatever portion of the append that failed is in Kafka."""
    outlet, calm = MemoryOutlet(), MemoryOutlet()
    run = [*EVERYTHING, add(3, NOON_MS, "i", of=1), record(4, NOON_MS, b"not json either"), add(5, NOON_MS, "j")]
    outlet.refuse(topic, portion=portion)
    with pytest.raises(LaneFailure):
        await new_lane(outlet).take(run)
    outlet.accept(topic)
    successor = take_over(outlet)
    await successor.take(run)
    await new_lane(calm).take(run)
    for sent in (TOPICS.fires, TOPICS.commands_dead_letters):
        assert {one.content for one in outlet.read(sent)} == {one.content for one in calm.read(sent)}
    assert restore(outlet, MemoryStore()).rows == restore(calm, MemoryStore()).rows  # type: ignore[attr-defined]


async def test_a_broker_that_fails_amid_slices_is_not_held_against_the_record() -> None:
    """A strike is for a fold that raised: a record must not be set aside because Kafka was away twice."""
    outlet, store = MemoryOutlet(), many_open_rounds(CLOSINGS_A_SLICE + 10)
    outlet.refuse(TOPICS.fires)
    with pytest.raises(LaneFailure):
        await new_lane(outlet, store).take([tick(5, NOON_MS + 60_000)])
    assert [key for key, _ in changes(outlet)] == []


async def test_death_in_the_middle_is_no_lane_failure() -> None:
    """Nothing in a dead process catches anything; the fakes behave like that too."""
    outlet = MemoryOutlet()
    outlet.die_at(0)
    with pytest.raises(Killed):
        await new_lane(outlet).take(EVERYTHING)
    assert all(not log for log in outlet.logs.values())


# -- slices


def many_open_rounds(count: int, *, changed: int = 0, deadline_ms: int = NOON_MS + 60_000) -> MemoryStore:
    """A store with this many open rounds that are due at one instant, behind watermark 0."""
    row = OpenRound(
        rules_version=1,
        changed_offset=changed,
        opened_offset=0,
        opened_at_ms=NOON_MS,
        last_add_at_ms=NOON_MS,
        deadline_ms=deadline_ms,
        number_of_participants=2,
        callback="c",
        params=b"[]",
        wait_ms=60_000,
        max_wait_ms=None,
        linger_ms=60_000,
        conflict_count=0,
        arrived_count=1,
        first_arrivals=[Arrival("p", NOON_MS, None)],
    )
    value = encode_round(row)
    store = MemoryStore()
    rows: list[tuple[bytes, bytes | None]] = [(keys.group_row_key(b"%06d" % number), value) for number in range(count)]
    watermark = Watermark(offset=0, stream_time_ms=NOON_MS, topic_id=str(TOPIC_ID), partitions=1, rerouted={})
    store.write([*rows, (keys.WATERMARK_KEY, encode_other(watermark))], -1)
    return store


@pytest.mark.timeout(60)
async def test_a_hundred_thousand_groups_due_at_once_are_settled_in_slices() -> None:
    """Each slice is safe by itself, vouches for nothing that is still to come, and lets the loop have its turn."""
    count = 100_000
    outlet, store = MemoryOutlet(), many_open_rounds(count)
    lane = new_lane(outlet, store, hot_rows=1024)
    turns, done = [0], asyncio.Event()

    async def somebody_else() -> None:
        while not done.is_set():
            turns[0] += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(somebody_else())
    await lane.take([tick(5, NOON_MS + 60_000), add(6, NOON_MS + 60_000, "new", "p")])
    done.set()
    await beside
    offsets = [
        decode_watermark(b"", value or b"").offset for key, value in changes(outlet) if key == keys.WATERMARK_KEY
    ]
    fired = [one.key for one in outlet.read(TOPICS.fires)]
    assert fired == sorted({b"%06d" % number for number in range(count)})
    assert len(offsets) == count // CLOSINGS_A_SLICE + 1
    assert set(offsets[:-1]) == {4}  # all that is before the record whose time has come
    assert offsets[-1] == lane.watermark == 6
    assert turns[0] >= len(offsets) - 1
    assert {row_in(store, "000000").reason, row_in(store, f"{count - 1:06d}").reason} == {"timeout"}


async def test_a_slice_vouches_only_for_what_has_been_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between two slices: the record whose time closed them is folded again, and closes the rest."""
    monkeypatch.setattr(lane_module, "CLOSINGS_A_SLICE", 2)
    outlet = MemoryOutlet()
    lane = new_lane(outlet)
    await lane.take([add(number, NOON_MS, f"g{number}") for number in range(5)])
    outlet.die_at(2)
    with pytest.raises(Killed):
        await lane.take([add(5, NOON_MS + 60_000, "late", "p", of=1)])
    outlet.live_again()
    mark = watermark_in(outlet)
    assert mark is not None
    assert (mark.offset, mark.stream_time_ms) == (4, NOON_MS + 60_000)
    successor = take_over(outlet)
    assert successor.watermark == 4
    await successor.take([add(5, NOON_MS + 60_000, "late", "p", of=1)])
    fired = {(fire["group_key"], fire["reason"], fire["closed_offset"]) for fire in fires_in(outlet)}
    assert fired == {*((f"g{number}", "timeout", 5) for number in range(5)), ("late", "complete", 5)}


async def test_records_before_the_one_that_is_sliced_are_safe_with_the_first_slice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their rows and fires travel with it, and the watermark says so."""
    monkeypatch.setattr(lane_module, "CLOSINGS_A_SLICE", 1)
    outlet = MemoryOutlet()
    lane = new_lane(outlet)
    await lane.take([add(0, NOON_MS, "a"), add(1, NOON_MS, "b")])
    before = len(changes(outlet))
    await lane.take([add(2, NOON_MS + 1, "c", of=1), tick(3, NOON_MS + 60_000)])
    later = [
        decode_watermark(b"", value or b"").offset
        for key, value in changes(outlet)[before:]
        if key == keys.WATERMARK_KEY
    ]
    assert later == [2, 2, 3]
    assert [fire["group_key"] for fire in fires_in(outlet)] == ["c", "a", "b"]


async def test_a_zombie_before_the_slices_does_not_undo_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its run ended behind the same record; were its open rows believed, a successor would close their rounds once more."""
    monkeypatch.setattr(lane_module, "CLOSINGS_A_SLICE", 2)
    opened = [add(number, NOON_MS, f"g{number}") for number in range(5)]
    outlet, zombies = MemoryOutlet(), MemoryOutlet()
    await new_lane(zombies).take(opened)
    owner = new_lane(outlet)
    await owner.take(opened)
    outlet.die_at(3)  # the rows of the second slice: those of the first are safe
    with pytest.raises(Killed):
        await owner.take([tick(5, NOON_MS + 60_000)])
    outlet.live_again()
    outlet.write(TOPICS.changelog, 0, [[(one.key, one.value, one.headers)] for one in zombies.read(TOPICS.changelog)])
    successor = take_over(outlet)
    assert [type(row_in(successor.store, f"g{number}")) for number in range(5)] == [ClosedRound] * 2 + [OpenRound] * 3


# -- takeover


async def test_a_successor_goes_on_behind_the_watermark() -> None:
    """With the rows, stream time and deadlines of its predecessor."""
    outlet = MemoryOutlet()
    await new_lane(outlet).take([add(0, NOON_MS), add(1, NOON_MS + 5, "h", of=5)])
    successor = take_over(outlet)
    assert (successor.watermark, successor.fold.stream_time_ms) == (1, NOON_MS + 5)
    assert successor.earliest_due_ms == NOON_MS + 60_000
    assert successor.folded_topic == (TOPIC_ID, 1)
    await successor.take([tick(2, NOON_MS + 60_005)])
    assert [fire["group_key"] for fire in fires_in(outlet)] == ["g", "h"]


async def test_a_lane_without_a_watermark_begins_before_the_first_record() -> None:
    """A new deployment: nothing is known, no topic has been folded."""
    lane = new_lane(MemoryOutlet())
    assert (lane.watermark, lane.folded_topic, lane.strike) == (-1, None, None)


async def test_records_at_or_below_the_watermark_are_dropped() -> None:
    """They come again after a rebalance; they have been folded."""
    outlet = MemoryOutlet()
    lane = new_lane(outlet)
    await lane.take([add(0, NOON_MS, of=9), add(1, NOON_MS, participant="q", of=9)])
    written = len(changes(outlet))
    await lane.take([add(0, NOON_MS, of=9), add(1, NOON_MS, participant="q", of=9)])
    assert len(changes(outlet)) == written
    await lane.take([add(1, NOON_MS, participant="x", of=9), add(2, NOON_MS, participant="r", of=9)])
    assert row_in(lane.store).arrived_count == 3


async def test_rows_that_are_ahead_of_the_watermark_are_not_changed_twice() -> None:
    """The rows of a run without its watermark: the records are folded again, the rows know them already."""
    outlet = MemoryOutlet()
    run = [add(0, NOON_MS, of=2), add(1, NOON_MS, participant="q", of=2), add(2, NOON_MS, "h", of=9)]
    outlet.die_at(1, 0.7)
    with pytest.raises(Killed):
        await new_lane(outlet).take(run)
    outlet.live_again()
    assert watermark_in(outlet) is None
    successor = take_over(outlet)
    await successor.take(run)
    assert len({one.value for one in outlet.read(TOPICS.fires)}) == 1
    assert (row_in(successor.store).reason, row_in(successor.store, "h").arrived_count) == ("complete", 1)
    assert successor.fold.counts.replayed >= 1


async def test_participants_that_no_group_names_are_deleted_after_a_takeover() -> None:
    """A deletion was cut short by a crash; the rest is found by looking at one key a round."""
    outlet, store = MemoryOutlet(), MemoryStore()
    arrival = encode_other(Arrival("", NOON_MS, None))
    orphans = [keys.participant_row_key(b"gone", 3, f"p{number}") for number in range(20)]
    own = keys.participant_row_key(b"g", 0, "q")
    store.write([(key, arrival) for key in (*orphans, own)], -1)
    store.write([(keys.group_row_key(b"g"), encode_round(new_round()))], -1)
    lane = new_lane(outlet, store)
    await lane.take([tick(5, NOON_MS)])
    assert [key for key in store.rows if key[:1] == b"P"] == [own]
    assert {key for key, value in changes(outlet) if value is None} == set(orphans)


def new_round() -> OpenRound:
    """An open round of group `g` that nobody has changed since offset 0."""
    return decode_round(b"", many_open_rounds(1).get(keys.group_row_key(b"000000")) or b"")  # type: ignore[return-value]


# -- strikes


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the fold raise on records whose value holds the word boom."""

    def decode(key: bytes | None, value: bytes | None, headers: Any = None) -> Any:
        if value is not None and b"boom" in value:
            raise RuntimeError("the fold has a bug")
        return decode_command(key, value, headers)

    monkeypatch.setattr(fold_module, "decode_command", decode)


BOOM = record(1, NOON_MS + 1, b'{"boom":1}', b"k", headers=[("h", b"v")])
RUN_WITH_BOOM = [add(0, NOON_MS, of=1), BOOM, add(2, NOON_MS + 2, "h", of=1)]


@pytest.mark.interpreted
@pytest.mark.usefixtures("marked")
async def test_a_record_that_makes_the_fold_raise_leaves_a_strike_and_stops_the_lane() -> None:
    """The strike is the only thing that is written: of the run nothing is acknowledged and nothing is sent."""
    outlet, store = MemoryOutlet(), MemoryStore()
    with pytest.raises(LaneFailure, match="offset 1: RuntimeError"):
        await new_lane(outlet, store).take(RUN_WITH_BOOM)
    ((key, value),) = changes(outlet)
    assert key == keys.STRIKE_KEY
    strike = decode_strike(keys.STRIKE_KEY, value or b"")
    assert (strike.offset, "the fold has a bug" in strike.error) == (1, True)
    assert (outlet.read(TOPICS.fires), outlet.read(TOPICS.commands_dead_letters), store.rows) == ([], [], {})


@pytest.mark.interpreted
@pytest.mark.usefixtures("marked")
async def test_the_second_time_it_is_set_aside_and_the_lane_goes_on() -> None:
    """A dead letter with everything, and the records on both sides are folded as if it had not been there."""
    outlet = MemoryOutlet()
    with pytest.raises(LaneFailure):
        await new_lane(outlet).take(RUN_WITH_BOOM)
    successor = take_over(outlet)
    await successor.take(RUN_WITH_BOOM)
    (letter,) = letters_in(outlet)
    (stored,) = outlet.read(TOPICS.commands_dead_letters)
    assert (letter["wfm_stage"], letter["wfm_error"]) == ("apply", "apply_failed")
    assert (letter["__dlq.errors.topic"], letter["__dlq.errors.offset"]) == (TOPICS.commands, "1")
    assert "the fold has a bug" in letter["__dlq.errors.message"]
    assert (stored.key, stored.value, stored.headers[0]) == (b"k", b'{"boom":1}', ("h", b"v"))
    assert [fire["group_key"] for fire in fires_in(outlet)] == ["g", "h"]
    assert successor.watermark == 2


@pytest.mark.interpreted
@pytest.mark.usefixtures("marked")
async def test_a_record_that_is_set_aside_still_moves_time() -> None:
    """As any record does, whatever is wrong with it."""
    outlet = MemoryOutlet()
    run = [add(0, NOON_MS), record(1, NOON_MS + 60_000, b"boom"), add(2, NOON_MS, "h")]
    with pytest.raises(LaneFailure):
        await new_lane(outlet).take(run)
    successor = take_over(outlet)
    await successor.take(run)
    assert [(fire["group_key"], fire["reason"]) for fire in fires_in(outlet)] == [("g", "timeout")]
    assert row_in(successor.store, "h").opened_at_ms == NOON_MS + 60_000


@pytest.mark.interpreted
@pytest.mark.usefixtures("marked")
async def test_another_record_that_raises_gets_a_strike_of_its_own() -> None:
    """Each is judged twice."""
    outlet = MemoryOutlet()
    run = [BOOM, record(2, NOON_MS, b"boom too")]
    for _ in range(2):
        with pytest.raises(LaneFailure):
            await take_over(outlet).take(run)
    assert [letter["__dlq.errors.offset"] for letter in letters_in(outlet)] == ["1"]
    await take_over(outlet).take(run)
    assert [letter["__dlq.errors.offset"] for letter in letters_in(outlet)] == ["1", "2"]


@pytest.mark.interpreted
async def test_a_strike_is_no_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the fold does not raise again, say after an upgrade, the record is obeyed."""
    outlet = MemoryOutlet()
    run = [add(0, NOON_MS, of=1)]
    with monkeypatch.context() as broken:
        broken.setattr(fold_module, "decode_command", lambda *_: 1 / 0)
        with pytest.raises(LaneFailure):
            await new_lane(outlet).take(run)
    await take_over(outlet).take(run)
    assert (len(fires_in(outlet)), letters_in(outlet)) == (1, [])


@pytest.mark.interpreted
@pytest.mark.usefixtures("marked")
async def test_a_strike_is_kept_if_only_kafka_has_it() -> None:
    """The local store is as it was; the successor's restore brings the strike along."""
    outlet, store = MemoryOutlet(), MemoryStore()
    with pytest.raises(LaneFailure):
        await new_lane(outlet, store).take([BOOM])
    assert store.get(keys.STRIKE_KEY) is None
    successor = take_over(outlet, store)
    assert successor.strike is not None
    assert successor.strike.offset == 1


@pytest.mark.interpreted
async def test_a_half_done_change_of_a_record_that_raises_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fold changes rows in place; what a raising record has touched is read anew from the store."""
    outlet = MemoryOutlet()
    lane = new_lane(outlet)
    await lane.take([add(0, NOON_MS, of=9)])

    def settle_and_raise(fold: Any, group_key: bytes, row: OpenRound, offset: int) -> None:
        fold.rows.put(group_key, row)
        raise RuntimeError("after the change")

    run = [add(1, NOON_MS, participant="q", of=9)]
    monkeypatch.setattr(fold_module.Fold, "_settle", settle_and_raise)
    with pytest.raises(LaneFailure):
        await lane.take(run)
    successor = take_over(outlet)
    await successor.take(run)
    assert row_in(successor.store).arrived_count == 1
    assert [letter["wfm_error"] for letter in letters_in(outlet)] == ["apply_failed"]


# -- damaged rows


def damage(store: Store, row_key: bytes, value: bytes = b"\x01damaged!") -> None:
    """Put nonsense into a row."""
    store.write([(row_key, value)], store.changelog_offset)


async def twice(outlet: MemoryOutlet, store: MemoryStore, run: Sequence[Any]) -> Lane:
    """Take a run that stops the first lane, and is taken by the second."""
    with pytest.raises(LaneFailure):
        await new_lane(outlet, store).take(run)
    successor = take_over(outlet, store)
    await successor.take(run)
    return successor


async def test_a_damaged_row_is_set_aside_and_its_record_is_obeyed() -> None:
    """The row's bytes are kept as a dead letter, its key is free, and the add opens a round."""
    outlet, store = MemoryOutlet(), MemoryStore()
    damage(store, keys.group_row_key(b"g"))
    successor = await twice(outlet, store, [add(3, NOON_MS), add(4, NOON_MS, "h", of=1)])
    (letter,) = letters_in(outlet)
    (stored,) = outlet.read(TOPICS.commands_dead_letters)
    assert (letter["wfm_stage"], letter["wfm_error"]) == ("apply", "damaged_row")
    assert letter["__dlq.errors.topic"] == TOPICS.changelog
    assert (stored.key, stored.value) == (keys.group_row_key(b"g"), b"\x01damaged!")
    assert row_in(successor.store).opened_offset == 3
    assert successor.watermark == 4
    assert restore(outlet, MemoryStore()).get(keys.group_row_key(b"g")) == store.get(keys.group_row_key(b"g"))


async def test_a_damaged_row_that_is_due_does_not_stop_the_others() -> None:
    """It is met by its time, not by a record of its own; the rest closes as it should."""
    outlet, store = MemoryOutlet(), MemoryStore()
    first = new_lane(outlet, store)
    await first.take([add(0, NOON_MS, "a"), add(1, NOON_MS, "b")])
    value = store.get(keys.group_row_key(b"a")) or b""
    damage(store, keys.group_row_key(b"a"), value[:9] + b"\xc1")
    await twice(outlet, store, [tick(2, NOON_MS + 60_000)])
    assert [fire["group_key"] for fire in fires_in(outlet)] == ["b"]
    assert [letter["wfm_error"] for letter in letters_in(outlet)] == ["damaged_row"]


async def test_two_damaged_rows_in_one_record_are_both_set_aside() -> None:
    """One strike is enough for the record that meets them."""
    outlet, store = MemoryOutlet(), MemoryStore()
    await new_lane(outlet, store).take([add(0, NOON_MS, "a"), add(1, NOON_MS, "b")])
    for group in (b"a", b"b"):
        value = store.get(keys.group_row_key(group)) or b""
        damage(store, keys.group_row_key(group), value[:9] + b"\xc1")
    successor = await twice(outlet, store, [tick(2, NOON_MS + 60_000)])
    assert [letter["wfm_error"] for letter in letters_in(outlet)] == ["damaged_row"] * 2
    assert successor.watermark == 2


async def test_a_damaged_participant_of_a_large_group_is_set_aside() -> None:
    """Only that participant's row is gone."""
    outlet, store = MemoryOutlet(), MemoryStore()
    await new_lane(outlet, store).take([add(n, NOON_MS, participant=f"p{n}", of=99) for n in range(10)])
    damage(store, keys.participant_row_key(b"g", 0, "p9"))
    successor = await twice(outlet, store, [add(10, NOON_MS, participant="p9", of=99)])
    assert [letter["wfm_error"] for letter in letters_in(outlet)] == ["damaged_row"]
    assert row_in(successor.store).arrived_count >= 10


async def test_a_damaged_group_row_of_a_large_group_does_not_keep_a_lane_from_being_taken_over() -> None:
    """It is set aside when a record meets it, like any other; until then the lane must live."""
    outlet, store = MemoryOutlet(), MemoryStore()
    await new_lane(outlet, store).take([add(n, NOON_MS, participant=f"p{n}", of=99) for n in range(10)])
    damage(store, keys.group_row_key(b"g"))
    successor = await twice(outlet, store, [add(10, NOON_MS, of=99)])
    assert [letter["wfm_error"] for letter in letters_in(outlet)] == ["damaged_row"]
    assert row_in(successor.store).opened_offset == 10


async def test_a_row_in_a_format_to_come_is_a_damaged_row() -> None:
    """After a downgrade the lane does not guess."""
    outlet, store = MemoryOutlet(), MemoryStore()
    damage(store, keys.group_row_key(b"g"), b"\x02" + encode_round(new_round())[1:])
    await twice(outlet, store, [add(3, NOON_MS)])
    assert "its format is 02" in letters_in(outlet)[0]["__dlq.errors.message"]


# -- misplaced commands

PARTITIONS = 3
ELSEWHERE = next(name for name in "abcdef" if partition_for(name.encode(), PARTITIONS) == 1)
HERE = next(name for name in "abcdef" if partition_for(name.encode(), PARTITIONS) == 0)


def misplacing_lane(outlet: MemoryOutlet, store: Store | None = None, partition: int = 0) -> Lane:
    """A lane of a topic with three partitions."""
    return new_lane(outlet, store, partition=partition, partitions=PARTITIONS)


async def test_a_misplaced_command_is_sent_to_where_its_group_lives() -> None:
    """Same value and headers, its origin in a header, an event_id if it had none; here nothing changes."""
    outlet, store = MemoryOutlet(), MemoryStore()
    lost = add(7, NOON_MS, ELSEWHERE, headers=[("trace", b"1")])
    await misplacing_lane(outlet, store).take([lost])
    (copy,) = outlet.read(TOPICS.commands, 1)
    assert (copy.key, copy.value) == (ELSEWHERE.encode(), lost.value)
    assert copy.headers == (("trace", b"1"), ("wfm_rerouted", b"0:7"), ("wfm_event_id", b"rerouted-0-7"))
    assert list(store.rows) == [keys.WATERMARK_KEY]


async def test_an_event_id_of_its_own_is_kept() -> None:
    """The sender's retries are recognised by it on the right partition too."""
    outlet = MemoryOutlet()
    await misplacing_lane(outlet).take([add(7, NOON_MS, ELSEWHERE, event_id="e"), remove(8, NOON_MS, ELSEWHERE)])
    mine, given = outlet.read(TOPICS.commands, 1)
    assert [name for name, _ in mine.headers] == ["wfm_rerouted"]
    assert given.headers == (("wfm_rerouted", b"0:8"), ("wfm_event_id", b"rerouted-0-8"))


async def test_a_re_send_is_safe_before_rows_are_appended() -> None:
    """Like a fire."""
    outlet = MemoryOutlet()
    outlet.hold(TOPICS.commands)
    taking = asyncio.create_task(misplacing_lane(outlet).take([add(0, NOON_MS, ELSEWHERE), add(1, NOON_MS, HERE)]))
    await outlet.begun(TOPICS.commands)
    await let_it_run()
    assert outlet.read(TOPICS.changelog) == []
    outlet.release(TOPICS.commands)
    await taking


async def test_commands_for_several_partitions_each_go_home() -> None:
    """In log order for each of them."""
    outlet = MemoryOutlet()
    names = [name for name in "abcdefghijkl" if partition_for(name.encode(), PARTITIONS) != 0]
    await misplacing_lane(outlet).take([add(number, NOON_MS, name) for number, name in enumerate(names)])
    for home in (1, 2):
        wanted = [name.encode() for name in names if partition_for(name.encode(), PARTITIONS) == home]
        assert [one.key for one in outlet.read(TOPICS.commands, home)] == wanted
    assert outlet.read(TOPICS.commands, 0) == []


def resent(offset: int, origin: str, participant: str = "p", group: str = HERE) -> Any:
    """An add that another lane has re-sent to this one."""
    headers = [("wfm_rerouted", origin.encode()), ("wfm_event_id", f"rerouted-{origin.replace(':', '-')}".encode())]
    return add(offset, NOON_MS, group, participant, of=99, headers=headers)


async def test_copies_of_a_re_sent_command_are_dropped() -> None:
    """A source that crashed sends again; it sends in order, so what is at or below the largest taken is a copy."""
    outlet = MemoryOutlet()
    lane = misplacing_lane(outlet)
    await lane.take([resent(0, "1:5", "p"), resent(1, "1:9", "q"), resent(2, "1:5", "r"), resent(3, "1:9", "s")])
    assert row_in(lane.store, HERE).arrived_count == 2
    await lane.take([resent(4, "2:5", "t"), resent(5, "1:10", "u")])
    assert row_in(lane.store, HERE).arrived_count == 4


async def test_a_successor_remembers_what_has_been_re_sent() -> None:
    """It stands in the watermark's row."""
    outlet = MemoryOutlet()
    await misplacing_lane(outlet).take([resent(0, "1:5"), resent(1, "2:7", "q")])
    mark = watermark_in(outlet)
    assert mark is not None
    assert mark.rerouted == {1: 5, 2: 7}
    successor = take_over(outlet, partitions=PARTITIONS)
    await successor.take([resent(2, "1:5", "copy")])
    assert row_in(successor.store, HERE).arrived_count == 2


async def test_what_was_re_sent_and_is_misplaced_again_is_set_aside() -> None:
    """The counts of partitions disagree; sending it round and round would help nobody."""
    outlet = MemoryOutlet()
    await misplacing_lane(outlet).take([resent(0, "1:5", group=ELSEWHERE)])
    (letter,) = letters_in(outlet)
    assert (letter["wfm_stage"], letter["wfm_error"], letter["wfm_rerouted"]) == ("route", "misplaced", "1:5")
    assert "murmur2_random" in letter["__dlq.errors.message"]
    assert outlet.read(TOPICS.commands, 1) == []


async def test_a_command_that_became_too_large_to_be_re_sent_is_set_aside() -> None:
    """One refused record never ends the worker: its headers may have filled the record up to the topic's limit."""
    outlet = MemoryOutlet(largest={TOPICS.commands: COMMANDS_MAX_BYTES})
    full = add(0, NOON_MS, ELSEWHERE, headers=[("h", b"x" * (COMMANDS_MAX_BYTES - 400))])
    await misplacing_lane(outlet).take([full, add(1, NOON_MS, HERE, of=1)])
    assert [letter["wfm_error"] for letter in letters_in(outlet)] == ["misplaced"]
    assert [fire["group_key"] for fire in fires_in(outlet)] == [HERE]


# -- foreign writers


def foreign_row(watermark: int, group: str = "g", *, arrived: int = 42) -> Any:
    """A zombie's row."""
    row = new_round()
    row.arrived_count = arrived
    return keys.group_row_key(group.encode()), encode_round(row), [run_header(watermark)]


async def test_a_foreign_writer_is_written_over() -> None:
    """Every key that it touched gets our row again, then our watermark stands last."""
    outlet = MemoryOutlet()
    lane = new_lane(outlet)
    await lane.take([add(0, NOON_MS, of=9), add(1, NOON_MS, "h", of=9)])
    outlet.write(TOPICS.changelog, 0, [[foreign_row(0), foreign_row(0, "unknown")]])
    before = outlet.end(TOPICS.changelog)
    await lane.heal(before, reader(outlet))
    healed = [(one.key, one.value, one.headers) for one in outlet.read(TOPICS.changelog) if one.offset >= before]
    assert [key for key, _, _ in healed] == [
        keys.group_row_key(b"g"),
        keys.group_row_key(b"unknown"),
        keys.WATERMARK_KEY,
    ]
    assert decode_round(b"", healed[0][1] or b"") == row_in(lane.store)
    assert healed[1][1] is None
    assert {headers for _, _, headers in healed} == {(run_header(1),)}
    assert lane.counts.healed == 1


async def test_after_healing_the_changelog_says_what_the_lane_says_even_when_compacted() -> None:
    """Compaction keeps the last row of a key: ours."""
    outlet = MemoryOutlet()
    lane = new_lane(outlet)
    await lane.take([add(0, NOON_MS, of=9), add(1, NOON_MS, "h", of=9)])
    outlet.write(TOPICS.changelog, 0, [[foreign_row(0)]])
    await lane.heal(outlet.end(TOPICS.changelog), reader(outlet))
    outlet.compact(TOPICS.changelog)
    rows = restore(outlet, MemoryStore())
    assert isinstance(rows, MemoryStore)
    assert rows.rows == lane.store.rows  # type: ignore[attr-defined]


async def test_no_foreign_writer_means_nothing_is_read_or_written() -> None:
    """The check runs every second."""
    outlet = MemoryOutlet()
    lane = new_lane(outlet)
    await lane.take([add(0, NOON_MS)])
    calls = outlet.calls
    await lane.heal(outlet.end(TOPICS.changelog), no_keys)
    await lane.heal(0, no_keys)
    assert outlet.calls == calls


async def test_an_append_that_lands_behind_a_foreign_one_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    """The lane knows which offset its next append must get; the gap stays until it is healed."""
    outlet = MemoryOutlet()
    lane = new_lane(outlet)
    await lane.take([add(0, NOON_MS, of=9)])
    gap = outlet.end(TOPICS.changelog)
    outlet.write(TOPICS.changelog, 0, [[foreign_row(0)]])
    await lane.take([add(1, NOON_MS, "h", of=9)])
    assert "foreign_writer_found" in caplog.text
    assert lane.changelog_end == gap
    await lane.heal(outlet.end(TOPICS.changelog), reader(outlet))
    assert lane.changelog_end == outlet.end(TOPICS.changelog)
    rows = restore(outlet, MemoryStore())
    assert row_in(rows).arrived_count == 1


async def test_a_zombies_store_does_not_say_that_it_has_read_what_its_successor_wrote() -> None:
    """It gets the lane back later: what stands between its own rows must be restored then, or groups are lost for ever."""
    outlet, kept = MemoryOutlet(), MemoryStore()
    log = [add(number, NOON_MS, f"g{number}", of=9) for number in range(6)]
    zombie = new_lane(outlet, kept)
    await zombie.take(log[:2])
    owner = take_over(outlet)
    await owner.take(log[2:])
    await zombie.take(log[2:3])
    await zombie.heal(outlet.end(TOPICS.changelog), reader(outlet))
    await zombie.take(log[3:4])
    await owner.heal(outlet.end(TOPICS.changelog), reader(outlet))
    again = take_over(outlet, kept)
    assert again.watermark == 5
    assert all(row_in(kept, f"g{number}") is not None for number in range(6))


async def test_what_a_foreign_writer_is_ahead_is_taken_over() -> None:
    """It read the same commands, so its rows are what this lane would come to; nothing is written, nothing is folded again."""
    outlet = MemoryOutlet()
    log = [add(number, NOON_MS, f"g{number}", of=9) for number in range(3)]
    owner, ahead = new_lane(outlet), new_lane(outlet)
    await ahead.take(log)
    end = outlet.end(TOPICS.changelog)
    await owner.heal(end, reader(outlet))
    assert owner.store.rows == ahead.store.rows  # type: ignore[attr-defined]
    assert (owner.watermark, owner.fold.stream_time_ms, owner.waiting) == (2, NOON_MS, 3)
    assert owner.is_sole_writer_until(end)
    assert await owner.take(log)
    assert outlet.end(TOPICS.changelog) == end


async def test_rows_behind_those_of_a_writer_that_is_ahead_are_written_again() -> None:
    """Compaction would keep the older ones, and its newer watermark: the next restore would know neither."""
    outlet = MemoryOutlet()
    log = [add(number, NOON_MS, "g", f"p{number}", of=9) for number in range(3)]
    owner = new_lane(outlet)
    await new_lane(outlet).take(log)
    await owner.take(log[:1])
    await owner.heal(outlet.end(TOPICS.changelog), reader(outlet))
    assert owner.watermark == 2
    assert row_in(owner.store).arrived_count == 3
    assert owner.is_sole_writer_until(outlet.end(TOPICS.changelog))
    outlet.compact(TOPICS.changelog)
    rows = restore(outlet, MemoryStore())
    assert rows.rows == owner.store.rows  # type: ignore[attr-defined]


async def test_rows_that_a_restore_has_judged_are_not_judged_again() -> None:
    """It had read what stands before them: here a row of a further run, which the one behind it must not replace."""
    outlet, store = MemoryOutlet(), MemoryStore()
    await new_lane(outlet).take([add(0, NOON_MS, of=9)])
    outlet.write(TOPICS.changelog, 0, [[foreign_row(9, arrived=9)]])
    outlet.write(TOPICS.changelog, 0, [[foreign_row(7, arrived=7)]])
    restored = restored_until(outlet, store, 0)
    lane = new_lane(outlet, store, restored_until=restored.end)
    lane.changelog_end = restored.own_until
    await lane.heal(restored.end, reader(outlet))
    assert row_in(lane.store).arrived_count == 9
    outlet.compact(TOPICS.changelog)
    assert row_in(restore(outlet, MemoryStore())).arrived_count == 9


async def test_a_heal_waits_for_the_run_that_is_out() -> None:
    """Its rows are about to be appended; a heal between them would write over them with older ones."""
    outlet = MemoryOutlet()
    lane = new_lane(outlet)
    await lane.take([add(0, NOON_MS, of=9)])
    outlet.write(TOPICS.changelog, 0, [[foreign_row(0)]])
    outlet.hold(TOPICS.changelog)
    taking = asyncio.create_task(lane.take([add(1, NOON_MS, participant="q", of=9)]))
    await outlet.begun(TOPICS.changelog)
    healing = asyncio.create_task(lane.heal(outlet.end(TOPICS.changelog), reader(outlet)))
    await let_it_run()
    assert not healing.done()
    outlet.release(TOPICS.changelog)
    await asyncio.gather(taking, healing)
    assert row_in(restore(outlet, MemoryStore())).arrived_count == 2


async def test_a_foreign_strike_is_taken_away() -> None:
    """A zombie that failed must not have an innocent record set aside here."""
    outlet = MemoryOutlet()
    lane = new_lane(outlet)
    await lane.take([add(0, NOON_MS)])
    outlet.write(TOPICS.changelog, 0, [[(keys.STRIKE_KEY, b"\x01\x92\x09\xa1x", [run_header(0)])]])
    await lane.heal(outlet.end(TOPICS.changelog), reader(outlet))
    assert restore(outlet, MemoryStore()).get(keys.STRIKE_KEY) is None


# -- what a lane refuses


async def test_a_rejected_command_is_a_dead_letter_with_its_origin() -> None:
    """Every header of the contract, and the record as it came."""
    outlet = MemoryOutlet()
    await new_lane(outlet).take([record(4, NOON_MS, b"[]", b"k", headers=[("h", b"\xff")])])
    (stored,) = outlet.read(TOPICS.commands_dead_letters)
    assert (stored.key, stored.value) == (b"k", b"[]")
    assert stored.headers[0] == ("h", b"\xff")
    found = {name: value.decode() for name, value in stored.headers[1:]}
    assert found.pop("__dlq.errors.message")
    assert found == {
        "__dlq.errors.topic": TOPICS.commands,
        "__dlq.errors.partition": "0",
        "__dlq.errors.offset": "4",
        "__dlq.errors.group": TOPICS.worker_group,
        "__dlq.errors.delivery.count": "1",
        "wfm_stage": "decode",
        "wfm_error": "not_an_object",
    }


async def test_a_fire_goes_to_the_partition_of_its_lane_with_its_group_as_key() -> None:
    """And without headers: the value says it all."""
    outlet = MemoryOutlet()
    await misplacing_lane(outlet, partition=1).take([add(0, NOON_MS, ELSEWHERE, of=1)])
    (stored,) = outlet.read(TOPICS.fires, 1)
    assert (stored.key, stored.headers) == (ELSEWHERE.encode(), ())


async def test_each_fire_and_letter_is_a_unit_of_its_own() -> None:
    """So that the outlet may cut them into batches wherever it likes; only a group's rows belong together."""
    seen: list[tuple[str, list[int]]] = []

    class Watched(MemoryOutlet):
        async def append(self, topic: str, partition: int, units: Any) -> Any:
            seen.append((topic, [len(unit) for unit in units]))
            return await super().append(topic, partition, units)

    run = [
        *(add(n, NOON_MS, participant=f"p{n}", of=12) for n in range(12)),
        record(12, NOON_MS, b""),
        record(13, NOON_MS, b"x"),
    ]
    await new_lane(Watched()).take(run)
    assert (TOPICS.commands_dead_letters, [1, 1]) in seen
    assert (TOPICS.fires, [1]) in seen
    assert (TOPICS.changelog, [9, 1]) in seen


def test_a_lane_failure_names_partition_and_cause() -> None:
    """The last line of a worker's log is what an operator reads first."""

    async def fail() -> None:
        outlet = MemoryOutlet()
        outlet.refuse(TOPICS.fires)
        await misplacing_lane(outlet, partition=1).take([add(0, NOON_MS, ELSEWHERE, of=1)])

    with pytest.raises(LaneFailure, match=r"partition 1: Refused\('t.fires takes nothing'\)"):
        asyncio.run(fail())


def test_what_a_lane_refuses_has_a_code_of_the_contract() -> None:
    """`apply_failed` and the codes of the fold are stable: they are alerted on."""
    for code in ("apply_failed", "damaged_row", "misplaced"):
        assert InvalidCommand(code, "m").stage in ("apply", "route")


def test_a_closed_row_knows_its_round() -> None:
    """What `row_in` hands to these tests is one of the two states there are."""

    async def closed() -> Any:
        store = MemoryStore()
        await new_lane(MemoryOutlet(), store).take([add(0, NOON_MS, of=1)])
        return row_in(store)

    assert isinstance(asyncio.run(closed()), ClosedRound)
