"""The broker's time, from what it has stamped: never ahead, and no slave of this machine's clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wait_for_me_app.broker_clock import WINDOW_MS, BrokerClock

NOON_MS = 1_795_521_600_000


def test_without_an_observation_the_time_is_unknown() -> None:
    """The sweep then sends one tick to find out."""
    assert BrokerClock().now_ms(1_000) is None


def test_time_runs_on_from_an_observation() -> None:
    """By the local monotonic clock, wherever that began."""
    clock = BrokerClock()
    clock.observe(NOON_MS, 5_000_000.25)
    assert clock.now_ms(5_000_000.25) == NOON_MS
    assert clock.now_ms(5_001_000.25) == NOON_MS + 1_000


@given(
    skew=st.integers(-(10**12), 10**12),
    seen=st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 900)), min_size=1, max_size=20),
    later=st.integers(0, 5_000),
)
def test_the_estimate_is_never_ahead_of_the_broker_and_behind_by_the_best_delay(
    skew: int, seen: list[tuple[int, int]], later: int
) -> None:
    """Each observation is late by its own delay; the least late one counts. A tick sent by this clock is not early."""
    clock = BrokerClock()
    moments = sorted((moment + delay, moment) for moment, delay in seen)
    for local_ms, stamped_ms in moments:
        clock.observe(stamped_ms + skew, float(local_ms))
    now_ms = moments[-1][0] + later
    estimate = clock.now_ms(float(now_ms))
    assert estimate == now_ms + skew - min(delay for _, delay in seen)


def test_a_slow_answer_does_not_set_the_clock_back() -> None:
    """It only says less than what is known."""
    clock = BrokerClock()
    clock.observe(NOON_MS, 100.0)
    clock.observe(NOON_MS + 10, 5_000.0)
    assert clock.now_ms(5_000.0) == NOON_MS + 4_900


def test_a_broker_clock_that_was_set_back_is_followed_after_two_windows() -> None:
    """Old observations are forgotten, or every tick would be too early for ever."""
    clock = BrokerClock()
    clock.observe(NOON_MS, 0.0)
    back_ms = NOON_MS - 3_600_000
    for step in range(1, 5):
        clock.observe(back_ms + step * WINDOW_MS // 2, step * WINDOW_MS / 2)
    assert clock.now_ms(2.0 * WINDOW_MS) == back_ms + 2 * WINDOW_MS


def test_a_window_that_has_just_begun_does_not_forget_the_one_before() -> None:
    """One slow answer at its beginning must not be all that is known."""
    clock = BrokerClock()
    clock.observe(NOON_MS, 0.0)
    clock.observe(NOON_MS, WINDOW_MS + 1.0)
    assert clock.now_ms(WINDOW_MS + 1.0) == NOON_MS + WINDOW_MS + 1


def test_a_broker_clock_that_was_set_forward_is_followed_at_once() -> None:
    """The larger one is the better lower bound."""
    clock = BrokerClock()
    clock.observe(NOON_MS, 0.0)
    clock.observe(NOON_MS + 3_600_000, 10.0)
    assert clock.now_ms(10.0) == NOON_MS + 3_600_000


def test_a_long_silence_changes_nothing() -> None:
    """An idle worker goes on with the last that it has seen."""
    clock = BrokerClock()
    clock.observe(NOON_MS, 0.0)
    assert clock.now_ms(86_400_000.0) == NOON_MS + 86_400_000
