"""The worker's fold says what the dumb reference says, over logs that nobody would write by hand."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from property.logs import logs, places
from scenarios.folds import assert_agree
from scenarios.transcript import LogRecord

THOROUGH = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@THOROUGH
@given(log=logs(), place=places(), commit_every=st.integers(1, 7))
def test_fires_refusals_and_resends_are_equal_to_the_byte(
    log: list[LogRecord], place: dict[str, Any], commit_every: int
) -> None:
    """However a log is cut into runs, the worker's fold makes of it what the reference makes."""
    assert_agree(log, commit_every=commit_every, **place)
