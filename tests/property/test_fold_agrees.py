"""The worker's fold says what the dumb reference says, over logs that nobody would write by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from property.logs import crowded, logs, places
from scenarios.folds import assert_agree
from scenarios.transcript import TOPIC_ID, LogRecord

THOROUGH = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.timeout(600)  # to shrink a disagreement takes longer than to find none
@THOROUGH
@given(log=logs(), place=places(), commit_every=st.integers(1, 7))
def test_fires_refusals_and_resends_are_equal_to_the_byte(
    log: list[LogRecord], place: dict[str, Any], commit_every: int
) -> None:
    """However a log is cut into runs, the worker's fold makes of it what the reference makes."""
    assert_agree(log, commit_every=commit_every, **place)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("commit_every", [1, 10, 400])
@pytest.mark.parametrize(
    ("groups", "participants"), [(1, 400), (3, 250), (60, 8)], ids=["one big group", "big groups", "many groups"]
)
def test_crowds_are_judged_alike(seed: int, commit_every: int, groups: int, participants: int) -> None:
    """Rounds of hundreds of participants, and more groups than the worker keeps in memory, whatever a run holds."""
    log = crowded(seed, groups=groups, participants=participants)
    outcome = assert_agree(log, commit_every=commit_every, topic_id=TOPIC_ID, partition=0, partitions=1)
    assert outcome.fires
