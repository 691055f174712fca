"""Rates, percentiles and promises."""

from __future__ import annotations

import pytest
from benchmarks.figures import Target, latency_summary, steady_rate, whole_rate


def test_the_steady_rate_leaves_out_the_first_and_the_last_tenth() -> None:
    """A slow start and a slow end do not count."""
    times = [0.0] + [1000.0 + number for number in range(1000)] + [60_000.0]
    assert steady_rate(times, weight=5) == pytest.approx(5000, rel=0.01)
    assert whole_rate(times, weight=5) == pytest.approx(1002 * 5 / 60)


def test_the_whole_rate_may_begin_before_the_first_event() -> None:
    """When the load began."""
    assert whole_rate([2000.0, 3000.0], weight=1, started_ms=1000.0) == pytest.approx(1.0)


def test_percentiles_are_values_that_occurred() -> None:
    """Nothing is interpolated."""
    summary = latency_summary([float(value) for value in range(1, 101)])
    assert (summary["p50"], summary["p99"], summary["max"]) == (50, 99, 100)


@pytest.mark.parametrize(
    ("got", "at_most", "met"), [(1.9, True, True), (2.1, True, False), (2.0, False, True), (1.9, False, False)]
)
def test_a_promise_is_met_or_not(got: float, at_most: bool, met: bool) -> None:
    """The promised value itself is good enough."""
    assert Target(name="x", wanted=2.0, got=got, at_most=at_most).as_json()["met"] is met
