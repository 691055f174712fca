"""What the doctor says of waits and retention; the rest of it is tested on a real Kafka."""

from __future__ import annotations

from wait_for_me_app.settings import Settings
from wait_for_me_app.views.doctor import judge_waits

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def test_a_wait_beyond_retention_is_named_with_the_number_to_set() -> None:
    """It still ends as it must; what is lost is its history, and the way back from a lost changelog."""
    found = judge_waits(Settings(), longest_ms=3 * DAY_MS, kept_ms=2 * DAY_MS)
    assert (found.check, found.verdict) == ("retention", "warn")
    assert f"to {3 * DAY_MS} or more" in found.cure
    assert "changelog is lost" in found.says


def test_a_wait_beyond_what_the_settings_say_is_named() -> None:
    """`topics check` can only judge what it is told."""
    found = judge_waits(Settings(longest_group_wait_seconds=60), longest_ms=HOUR_MS, kept_ms=7 * DAY_MS)
    assert found.verdict == "warn"
    assert "WAIT_FOR_ME_LONGEST_GROUP_WAIT_SECONDS" in found.says
    assert "Set it to 3600 or more" in found.cure


def test_waits_that_fit_are_well_and_for_ever_is_long_enough() -> None:
    """-1 keeps everything."""
    assert judge_waits(Settings(), longest_ms=HOUR_MS, kept_ms=DAY_MS).verdict == "ok"
    assert judge_waits(Settings(), longest_ms=7 * DAY_MS, kept_ms=-1).verdict == "ok"
