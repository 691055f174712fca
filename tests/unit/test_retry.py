"""When a failed attempt is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wait_for_me_app.core.retry import GiveUp, RetryPolicy, TryAgain

policies = st.builds(
    lambda attempts, first, more, jitter: RetryPolicy(
        attempts=attempts, first_wait_ms=first, longest_wait_ms=first + more, jitter=jitter
    ),
    st.integers(1, 1000),
    st.integers(0, 10_000),
    st.integers(0, 10_000_000),
    st.floats(0, 1),
)
rolls = st.floats(0, 1, exclude_max=True)


def test_the_waits_double_up_to_the_longest() -> None:
    """1 s, 2 s, 4 s, and never more than the longest wait."""
    policy = RetryPolicy(attempts=7, first_wait_ms=1_000, longest_wait_ms=10_000)
    waits = [policy.after(attempt, 0.0) for attempt in range(1, 8)]
    assert waits == [*(TryAgain(wait_ms=ms) for ms in (1_000, 2_000, 4_000, 8_000, 10_000, 10_000)), GiveUp(attempts=7)]


def test_one_attempt_means_that_a_failure_is_final() -> None:
    """With `attempts=1` nothing is ever tried again."""
    assert RetryPolicy(attempts=1).after(1, 0.5) == GiveUp(attempts=1)


@given(policies, st.integers(1, 1000), rolls)
def test_a_wait_lies_between_the_backoff_and_what_jitter_leaves_of_it(
    policy: RetryPolicy, attempt: int, roll: float
) -> None:
    """Attempts are never closer together than (1 - jitter) x backoff, nor further apart than the backoff."""
    decision = policy.after(attempt, roll)
    if attempt >= policy.attempts:
        assert decision == GiveUp(attempts=attempt)
    else:
        assert isinstance(decision, TryAgain)
        assert (1 - policy.jitter) * policy.backoff_ms(attempt) - 1 <= decision.wait_ms <= policy.backoff_ms(attempt)


@given(policies, rolls, st.integers(1, 86_400_000))
def test_all_attempts_fit_into_the_longest_span(policy: RetryPolicy, roll: float, limit_ms: int) -> None:
    """What the span promises is an upper bound of every real course."""
    attempts = range(1, policy.attempts)
    waits = [policy.after(attempt, roll) for attempt in attempts]
    real = sum(wait.wait_ms for wait in waits if isinstance(wait, TryAgain)) + policy.attempts * limit_ms
    assert real <= policy.longest_span_ms(limit_ms)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"attempts": 0}, "attempts is 0: give 1 to 1000"),
        ({"attempts": 1001}, "attempts is 1001"),
        ({"first_wait_ms": -1}, "give a first wait of 0 or more"),
        ({"first_wait_ms": 11, "longest_wait_ms": 10}, "not above the longest"),
        ({"jitter": 1.5}, "jitter is 1.5: give 0 to 1"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_with_the_remedy(wrong: dict[str, float], what: str) -> None:
    """The message says what to give instead."""
    with pytest.raises(ValueError, match=what):
        RetryPolicy(**wrong)  # type: ignore[arg-type]
