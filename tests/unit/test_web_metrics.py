"""The metrics: readable by Prometheus, right, and complete."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fakes import NOON_MS, TOPICS, MemoryOutlet, add, new_lane, record, remove, tick
from wait_for_me_app.core.deadlines import Deadlines, entry
from wait_for_me_app.exposition import Histogram
from wait_for_me_app.metrics import (
    NAMES,
    Counters,
    CountingOutlet,
    LaneTotals,
    family_of,
)
from web_world import WebWorld, served, web_settings


async def test_every_name_is_exported_with_help_and_type_and_nothing_else_is() -> None:
    """What dashboards rest on is what Prometheus' own parser reads."""
    world = WebWorld(web_settings())
    await world.add("g", "p")
    async with served(world) as ask:
        await ask("/livez")
        answer = await ask("/metrics")
    families = {one.name: one for one in text_string_to_metric_families(answer.text)}
    read = {f"{name}_total" if family.type == "counter" else name: family for name, family in families.items()}
    assert set(read) == set(NAMES)
    assert {name: family.type for name, family in read.items()} == {name: kind for name, (kind, _) in NAMES.items()}
    assert all(family.documentation for family in read.values())


async def test_what_the_lanes_did_is_what_is_counted() -> None:
    """Opened, joined, late, removed, fired, set aside, by reason and stage."""
    outlet, counters = MemoryOutlet(), Counters()
    lane = new_lane(outlet)
    lane.outlet, lane.on_fired = CountingOutlet(outlet, TOPICS, counters), counters.note_fires
    totals = LaneTotals(lambda: {0: lane})
    at = NOON_MS
    await lane.take(
        [add(0, at, "g", "a"), add(1, at, "g", "b"), add(2, at, "g", "c"), add(3, at, "r", "a"), remove(4, at, "r")]
    )
    await lane.take([add(5, at, "t", "a"), record(6, at, b"{", b"g"), tick(7, at + 60_000)])
    totals.look()
    assert {name: totals.sum(name) for name in ("opened", "joined", "late", "rejected", "records")} == {
        "opened": 3, "joined": 1, "late": 1, "rejected": 1, "records": 8,
    }  # fmt: skip
    assert [totals.closed(reason) for reason in ("complete", "timeout", "removed")] == [1, 1, 1]
    assert counters.dead_letters == {"decode": 1}
    assert counters.fire_lateness.count == 1
    assert {reason: waits.count for reason, waits in counters.group_wait.items()} == {"complete": 1, "timeout": 1}
    assert lane.waiting == 0


async def test_counters_do_not_shrink_when_a_lane_moves_away_or_is_loaded_again() -> None:
    """Prometheus would take that for a restart, and count everything anew."""
    outlet = MemoryOutlet()
    lanes = {0: new_lane(outlet)}
    totals = LaneTotals(lambda: lanes)
    await lanes[0].take([add(0, NOON_MS)])
    totals.look()
    lanes[0]._load()
    totals.look()
    assert totals.sum("opened") == 1
    assert lanes[0].waiting == 1
    del lanes[0]
    totals.look()
    assert totals.sum("opened") == 1


async def test_open_rounds_found_at_a_take_over_are_counted_as_waiting() -> None:
    """The gauge is right from the first moment; closed rows that linger are not counted."""
    outlet = MemoryOutlet()
    first = new_lane(outlet)
    await first.take([add(0, NOON_MS, "open", "a"), add(1, NOON_MS, "shut", "a"), add(2, NOON_MS, "shut", "b")])
    assert new_lane(outlet, first.store).waiting == 1


def test_histograms_are_cumulative() -> None:
    """An observation on a bound belongs to it."""
    histogram = Histogram((1.0, 10.0))
    for value in (0.5, 1.0, 5.0, 50.0):
        histogram.observe(value)
    samples = {(one.name, one.labels.get("le")): one.value for one in histogram.samples("x")}
    assert samples == {
        ("x_bucket", "1"): 2,
        ("x_bucket", "10"): 3,
        ("x_bucket", "+Inf"): 4,
        ("x_sum", None): 56.5,
        ("x_count", None): 4,
    }


@pytest.mark.parametrize("name", sorted(NAMES))
def test_names_have_our_prefix_a_base_unit_and_total_where_they_only_grow(name: str) -> None:
    """Prometheus' rules for names."""
    kind, meaning = NAMES[name]
    assert name.startswith(("wait_for_me_", "process_"))
    assert (kind == "counter") == name.endswith("_total")
    assert meaning.endswith((".", "0."))
    assert family_of(f"{name}_count" if kind == "histogram" else name) == name


def test_the_first_entries_of_the_deadline_index_are_in_order_and_reading_them_changes_nothing() -> None:
    """A page is read from the heap without sorting it."""
    times = [(7919 * n) % 1000 for n in range(500)]
    deadlines = Deadlines(entry(ms, b"g%d" % n) for n, ms in enumerate(times))
    before = list(deadlines._heap)
    assert [int.from_bytes(one[:8], "big") for one in deadlines.first_entries(50)] == sorted(times)[:50]
    assert len(deadlines.first_entries(9999)) == 500
    assert deadlines._heap == before
    assert Deadlines().first_entries(5) == []
