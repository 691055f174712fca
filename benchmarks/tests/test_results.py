"""The shape of `latest.json`, which others read."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("psutil", reason="what measures needs benchmarks/requirements.txt")

from benchmarks.documents import NotMeasured, fill
from benchmarks.results import Comparison, table
from benchmarks.trial import Outcome


def outcome(adds_per_s: float, cpu: float, rss: float) -> Outcome:
    return Outcome(
        adds=1000,
        adds_per_s=adds_per_s,
        adds_per_s_whole=adds_per_s,
        cpu_us_per_add=cpu,
        peak_rss_mib=rss,
        first_fire_s=1.0,
        latencies_ms=[4, 5, 30],
        copies=0,
    )


@pytest.fixture
def document() -> dict[str, Any]:
    """Two rounds of ourselves and one peer; another is missing."""
    comparison = Comparison(mode="full")
    for ours, theirs in (((100_000, 10, 200), (50_000, 30, 500)), ((120_000, 12, 220), (40_000, 40, 500))):
        comparison.add("wait_for_me", outcome(*ours))
        comparison.add("kafka_streams_at_least_once", outcome(*theirs))
    comparison.add("quix_streams", outcome(1, 1, 1))
    comparison.drop("quix_streams", "round 2: it ended with 1:\n\nlong story")
    return comparison.as_json()


def test_systems_have_a_figure_a_round(document: dict[str, Any]) -> None:
    """In the order of the rounds, with pooled latencies."""
    ours = document["systems"]["wait_for_me"]
    assert (ours["adds_per_s"], ours["cpu_us_per_add"], ours["peak_rss_mib"]) == (
        [100_000, 120_000],
        [10, 12],
        [200, 220],
    )
    assert (ours["latency_ms"]["p50"], ours["latency_ms"]["samples"]) == (5, 6)


def test_ratios_are_medians_of_ours_to_theirs_within_a_round(document: dict[str, Any]) -> None:
    """Since a machine's speed drifts between rounds."""
    assert document["ratios"] == {"kafka_streams_at_least_once": {"adds_per_s": 2.5, "cpu": 0.3167, "rss": 0.42}}


def test_what_could_not_be_measured_is_named_on_one_line(document: dict[str, Any]) -> None:
    """With the reason, in the file and in the table; what it had measured is gone."""
    assert document["missing"] == {"quix_streams": "round 2: it ended with 1: long story"}
    assert "quix_streams" not in document["systems"]
    assert "| Quix Streams | not measured: round 2" in table(document)


def test_targets_say_whether_they_are_met(document: dict[str, Any]) -> None:
    """Those of peers that were there."""
    assert {target["name"]: target["met"] for target in document["targets"]} == {
        "adds/s to Kafka Streams at least once": True,
        "CPU to the same": True,
        "peak RSS to the same": True,
        "add -> fire at 1,000 adds/s, p50": True,
        "add -> fire at 1,000 adds/s, p99": True,
    }


def test_figures_are_written_between_their_marks() -> None:
    """What has not been measured stays as it is and is named."""

    def missing() -> str:
        raise NotMeasured("no file")

    text = "a\n<!-- figures: one -->\nold\n<!-- end -->\nb\n<!-- figures: two -->\nkept\n<!-- end -->\n"
    filled, problems = fill(text, {"one": lambda: "new", "two": missing})
    assert filled == text.replace("old", "new")
    assert problems == ["two: no file"]
