"""Whatever a crash leaves out is decided again, to the same bytes.

A log is folded by a row of short lives. Each dies somewhere among its effects: before an append, in the middle of one (whole units
of it are written, in order, the others are not), or between two steps. The next life has the local store as it was, an older one,
or none. What reaches Kafka in the end must be what one life without a crash sends.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes import TOPICS, Killed, MemoryOutlet, RecordedStore, gap_of, new_lane, restore
from property.logs import crowded, logs, places
from scenarios.transcript import MIDNIGHT, TOPIC_ID, LogRecord
from wait_for_me_app import lane as lane_module
from wait_for_me_app.core import fold as fold_module
from wait_for_me_app.core.rows import ClosedRound, OpenRound
from wait_for_me_app.faust_lanes.intake import FetchedRecord
from wait_for_me_app.lane import Lane
from wait_for_me_app.storage import keys, working_set
from wait_for_me_app.storage.row_codec import decode_round, decode_watermark
from wait_for_me_app.storage.store import MemoryStore, Store
from wait_for_me_app.storage.working_set import WorkingSet

OFTEN = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
POINTS = ("K1", "K4", "K3", "K6")
HERE: dict[str, Any] = {"topic_id": TOPIC_ID, "partition": 0, "partitions": 1, "trust_create_time": False}


@dataclass(frozen=True, kw_only=True)
class Death:
    """Where a life ends, and what is left of its store."""

    append: int | None = None
    """The append in which it dies, counted in this life; None: at a step between appends."""
    portions: tuple[float, ...] = (0.0,)
    point: str = "K1"
    passes: int = 1
    steps_back: int | None = 0
    """How many writes of the local store are lost; None: the store is gone."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Limits that are small here, so that what they do happens in a log of forty records."""

    inline_arrivals: int = 1
    closings_a_slice: int = 2
    deletions_a_run: int = 2
    hot_rows: int = 2
    ahead_ms: int | None = None
    """How far the sweep looks beyond stream time, whenever it can; None: there is no sweep."""


deaths = st.builds(
    Death,
    append=st.none() | st.integers(0, 12),
    portions=st.lists(st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), min_size=1, max_size=3).map(tuple),
    point=st.sampled_from(POINTS),
    passes=st.integers(1, 8),
    steps_back=st.none() | st.integers(0, 3),
)
sizes = st.builds(
    Size,
    inline_arrivals=st.sampled_from([1, 2, 8]),
    closings_a_slice=st.sampled_from([1, 2, 1500]),
    deletions_a_run=st.sampled_from([1, 2, 2000]),
    hot_rows=st.sampled_from([1, 2, 8192]),
    ahead_ms=st.sampled_from([None, 0, 5, 100_000]),
)
cuts = st.lists(st.integers(1, 12), min_size=1, max_size=5)


class Steps:
    """Stands for `crash_point`: dies at the chosen pass of the chosen step."""

    def __init__(self) -> None:
        self.name, self.left = "", 0

    def __call__(self, name: str) -> None:
        if name == self.name:
            self.left -= 1
            if self.left == 0:
                raise Killed


@contextmanager
def sized(size: Size) -> Iterator[Steps]:
    """Run with small limits and with steps that a test can stop at."""
    steps = Steps()
    with pytest.MonkeyPatch.context() as patch:
        for module in (fold_module, working_set):
            patch.setattr(module, "INLINE_ARRIVALS", size.inline_arrivals)
        patch.setattr(working_set, "DELETIONS_A_RUN", size.deletions_a_run)
        patch.setattr(lane_module, "CLOSINGS_A_SLICE", size.closings_a_slice)
        patch.setattr(lane_module, "crash_point", steps)
        patch.setattr(logging.getLogger("wait_for_me_app"), "disabled", True)
        patch.setattr(logging.getLogger("wait_for_me_app.lane"), "disabled", True)
        yield steps


def as_fetched(log: Sequence[LogRecord]) -> list[FetchedRecord]:
    """The log as a lane gets it."""
    return [
        FetchedRecord(one.offset, one.timestamp_ms, one.timestamp_type, one.key, one.value, one.headers) for one in log
    ]


def lane_of(outlet: MemoryOutlet, store: Store, place: dict[str, Any], size: Size) -> Lane:
    """A lane that takes the partition over from what is in the changelog."""
    restore(outlet, store, place["partition"])
    lane = new_lane(
        outlet,
        store,
        partition=place["partition"],
        partitions=place["partitions"],
        identity={"trust_create_time": place["trust_create_time"]},
        hot_rows=size.hot_rows,
    )
    if size.ahead_ms is not None:
        ahead_ms = size.ahead_ms
        outlet.while_appending = lambda: lane.has_due(lane.fold.stream_time_ms + ahead_ms)
    return lane


def runs(log: Sequence[FetchedRecord], after: int, cut: Sequence[int]) -> Iterator[Sequence[FetchedRecord]]:
    """Cut what is behind a watermark into runs."""
    rest, turn = [one for one in log if one.offset > after], 0
    while rest:
        length = cut[turn % len(cut)]
        yield rest[:length]
        rest, turn = rest[length:], turn + 1


async def live(lane: Lane, log: Sequence[FetchedRecord], cut: Sequence[int]) -> None:
    """Take everything that is behind the lane's watermark."""
    for run in runs(log, lane.watermark, cut):
        await lane.take(run)


async def live_and_die(
    outlet: MemoryOutlet, lane: Lane, log: Sequence[FetchedRecord], cut: Sequence[int], death: Death, steps: Steps
) -> bool:
    """Live until death, or until the log ends; return whether death came."""
    if death.append is None:
        steps.name, steps.left = death.point, death.passes
    else:
        outlet.die_at(death.append, *death.portions)
    try:
        await live(lane, log, cut)
    except Killed:
        await asyncio.sleep(0)  # appends that were under way beside the one that died come to their own end
        return True
    finally:
        outlet.live_again()
        steps.name = ""
    return False


@dataclass
class Result:
    """What is in Kafka and in the rows when all is done."""

    fires: list[tuple[bytes | None, bytes | None]]
    others: dict[str, set[Any]]
    watermark: Any
    rows: dict[bytes, Any]

    def agrees_with(self, other: Result) -> None:
        """Assert that both say the same; copies do not count."""
        assert set(self.fires) == set(other.fires)
        assert self.others == other.others
        assert self.watermark == other.watermark
        assert self.rows == other.rows

    def has_no_round_with_two_fires(self) -> None:
        """Assert that copies of a fire are equal byte for byte."""
        distinct = set(self.fires)
        assert len({json.loads(value or b"")["fire_id"] for _, value in distinct}) == len(distinct)


def result(outlet: MemoryOutlet, store: Store, place: dict[str, Any]) -> Result:
    """Read everything back: what was sent, and the rows that have not been freed."""
    sent = [(record.key, record.value) for record in outlet.read(TOPICS.fires, place["partition"])]
    others = {
        f"{topic} {partition}": {record.content for record in log}
        for (topic, partition), log in outlet.logs.items()
        if topic in (TOPICS.commands, TOPICS.commands_dead_letters) and log
    }
    value = store.get(keys.WATERMARK_KEY)
    watermark = decode_watermark(keys.WATERMARK_KEY, value) if value else None
    return Result(sent, others, watermark, living_rows(store, watermark.stream_time_ms if watermark else 0))


def living_rows(store: Store, stream_time_ms: int) -> dict[bytes, Any]:
    """Rows that count, with the participants that have rows of their own; freed ones may or may not be deleted yet."""
    found: dict[bytes, Any] = {}
    rows = WorkingSet(store)
    for row_key, value in store.items(keys.GROUP):
        group_key, row = keys.group_key_of(row_key), decode_round(row_key, value)
        if isinstance(row, ClosedRound) and row.due_ms > stream_time_ms:
            found[group_key] = row
        elif isinstance(row, OpenRound):
            later = list(rows.later_arrivals(group_key, row.opened_offset, 1000))
            known = [rows.participant(group_key, row.opened_offset, one.participant_key) for one in later]
            found[group_key] = (row, later, known)
    return found


async def without_a_crash(log: Sequence[FetchedRecord], place: dict[str, Any]) -> Result:
    """One life, one record a run."""
    outlet, store = MemoryOutlet(), MemoryStore()
    await live(lane_of(outlet, store, place, Size()), log, [1])
    return result(outlet, store, place)


async def with_crashes(
    log: Sequence[FetchedRecord],
    place: dict[str, Any],
    cut: Sequence[int],
    ends: Sequence[Death],
    size: Size,
    steps: Steps,
) -> list[Result]:
    """Live and die as ordered, then once to the end; return what the last store says, and what one restored anew says."""
    outlet, store = MemoryOutlet(), RecordedStore()
    for death in ends:
        lane = lane_of(outlet, store, place, size)
        await live_and_die(outlet, lane, log, cut, death, steps)
        store = RecordedStore() if death.steps_back is None else store.as_it_was(death.steps_back)
    await live(lane_of(outlet, store, place, size), log, cut)
    anew = restore(outlet, MemoryStore(), place["partition"])
    return [result(outlet, store, place), result(outlet, anew, place)]


def check_replay(
    log: list[LogRecord], place: dict[str, Any], cut: Sequence[int], ends: Sequence[Death], size: Size
) -> None:
    """Fold with crashes and without, and compare."""
    fetched = as_fetched(log)
    with sized(size) as steps:
        expected = asyncio.run(without_a_crash(fetched, place))
        for got in asyncio.run(with_crashes(fetched, place, cut, ends, size, steps)):
            got.has_no_round_with_two_fires()
            got.agrees_with(expected)


@pytest.mark.timeout(600)  # to shrink a disagreement takes longer than to find none
@OFTEN
@given(log=logs(), place=places(), cut=cuts, ends=st.lists(deaths, max_size=4), size=sizes)
def test_lives_that_die_anywhere_add_up_to_one_that_does_not(
    log: list[LogRecord], place: dict[str, Any], cut: list[int], ends: list[Death], size: Size
) -> None:
    """The same fires, dead letters, re-sent commands and rows, to the byte, whatever was lost and wherever runs were cut."""
    check_replay(log, place, cut, ends, size)


def closing_in_one_millisecond() -> list[LogRecord]:
    """A group without linger that ends and begins again while the broker's clock stands still."""
    now = int(MIDNIGHT.timestamp() * 1000)

    def one(offset: int, participant: str, group: str = "g") -> LogRecord:
        value = {
            "type": "add",
            "group_key": group,
            "participant_key": participant,
            "number_of_participants_in_group": 2,
            "execute_after_waiting": "c",
            "wait_time_in_seconds": 1,
            "linger_in_seconds": 0,
        }
        return LogRecord(offset=offset, timestamp_ms=now, key=group.encode(), value=json.dumps(value).encode())

    return [one(0, "p"), one(1, "x", "h"), one(2, "x", "i"), one(3, "q"), one(4, "x", "j"), one(5, "x", "k")]


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_freed_row_is_not_deleted_while_records_that_it_remembers_are_read_again(length: int) -> None:
    """A row that was freed in the same millisecond knows of records behind the watermark: deleting it would replay them."""
    torn = Death(append=1, portions=(0.9,), steps_back=None)
    ends = [Death(append=99), torn]
    log = as_fetched(closing_in_one_millisecond())
    with sized(Size(inline_arrivals=8, closings_a_slice=1500, deletions_a_run=2000)) as steps:
        expected = asyncio.run(without_a_crash(log, HERE))

        async def lives() -> Result:
            outlet, store = MemoryOutlet(), RecordedStore()
            first = lane_of(outlet, store, HERE, Size())
            await live_and_die(outlet, first, log, [6], torn, steps)
            second = MemoryStore()
            await live(lane_of(outlet, second, HERE, Size()), log, [length])
            return result(outlet, second, HERE)

        got = asyncio.run(lives())
    assert ends
    got.has_no_round_with_two_fires()
    got.agrees_with(expected)


@pytest.mark.parametrize("portion", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps_back", [0, 2, None])
def test_a_death_in_every_append_of_a_crowded_log_changes_nothing(portion: float, steps_back: int | None) -> None:
    """Not at random but at each append in turn, with rounds of dozens of participants."""
    log = crowded(7, length=160, groups=3, participants=24)
    ends = [Death(append=number, portions=(portion,) * 3, steps_back=steps_back) for number in range(24)]
    check_replay(log, HERE, [40], ends, Size(inline_arrivals=8, closings_a_slice=3, deletions_a_run=20, hot_rows=2))


# -- a zombie: the old owner does not know yet that it is one


@st.composite
def overlaps(draw: st.DrawFn) -> list[tuple[str, int]]:
    """What the zombie (Z) and the new owner (O) do, in which order: take a run of so many records, or heal (0)."""
    return draw(st.lists(st.tuples(st.sampled_from("ZO"), st.integers(0, 6)), max_size=10))


async def with_a_zombie(
    log: Sequence[FetchedRecord],
    place: dict[str, Any],
    first: int,
    overlap: Sequence[tuple[str, int]],
    size: Size,
    ending: str,
) -> Result:
    """A lane has two owners for a while; then a third goes on from what they left."""
    outlet, kept = MemoryOutlet(), MemoryStore()
    zombie = lane_of(outlet, kept, place, size)
    if log[:first]:
        await zombie.take(log[:first])
    owner = lane_of(outlet, MemoryStore(), place, size)
    for who, length in [*overlap, ("O", 0)]:
        lane = zombie if who == "Z" else owner
        if length:
            rest = [one for one in log if one.offset > lane.watermark]
            await lane.take(rest[:length])
        else:
            await lane.heal(outlet.end(TOPICS.changelog, place["partition"]), lambda p, start: gap_of(outlet, p, start))
    if ending == "compacted":
        outlet.compact(TOPICS.changelog, place["partition"])
    store = kept if ending == "zombie's store" else MemoryStore()
    await live(lane_of(outlet, store, place, size), log, [5])
    return result(outlet, store, place)


@pytest.mark.timeout(600)
@OFTEN
@given(
    log=logs(),
    place=places(),
    first=st.integers(0, 6),
    overlap=overlaps(),
    size=sizes,
    ending=st.sampled_from(["restored", "compacted", "zombie's store"]),
)
def test_a_zombie_changes_nothing(
    log: list[LogRecord],
    place: dict[str, Any],
    first: int,
    overlap: list[tuple[str, int]],
    size: Size,
    ending: str,
) -> None:
    """Rows that an owner of yesterday appends are ignored or written over; its own store is of use again later."""
    fetched = as_fetched(log)
    with sized(size):
        expected = asyncio.run(without_a_crash(fetched, place))
        got = asyncio.run(with_a_zombie(fetched, place, first, overlap, size, ending))
        got.has_no_round_with_two_fires()
        got.agrees_with(expected)
