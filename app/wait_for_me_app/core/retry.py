"""When a failed attempt is tried again, and when it is given up. A policy returns a decision; somebody else waits.

The waits double from the first to the longest and are then shortened at random, so that a thousand fires that failed
together do not come back together: wait number k lies between (1 - jitter) x backoff(k) and backoff(k). The randomness
is passed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

MAX_ATTEMPTS: Final = 1_000
_DOUBLINGS: Final = 60  # beyond any longest wait; keeps the number small


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAgain:
    """There will be another attempt, after this long."""

    wait_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """There will be no other attempt."""

    attempts: int


Decision = TryAgain | GiveUp


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How many attempts a callback has, and how far apart they are."""

    attempts: int = 10
    first_wait_ms: int = 1_000
    longest_wait_ms: int = 3_600_000
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise ValueError(f"attempts is {self.attempts}: give 1 to {MAX_ATTEMPTS}")
        if not 0 <= self.first_wait_ms <= self.longest_wait_ms:
            raise ValueError(
                f"the waits are {self.first_wait_ms} to {self.longest_wait_ms} ms: give a first wait of 0 or more that is "
                "not above the longest"
            )
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter is {self.jitter}: give 0 to 1")

    def after(self, attempt: int, roll: float) -> Decision:
        """Return what follows the failure of attempt number `attempt`, counted from 1; `roll` is random in [0, 1).

        >>> RetryPolicy(attempts=3, first_wait_ms=1000).after(2, roll=0.0)
        TryAgain(wait_ms=2000)
        """
        if attempt >= self.attempts:
            return GiveUp(attempts=attempt)
        return TryAgain(wait_ms=math.ceil(self.backoff_ms(attempt) * (1 - self.jitter * roll)))

    def backoff_ms(self, attempt: int) -> int:
        """Return the longest wait after attempt number `attempt`."""
        doublings = min(max(attempt, 1) - 1, _DOUBLINGS)
        return min(self.longest_wait_ms, self.first_wait_ms << doublings)

    def longest_span_ms(self, time_limit_ms: int) -> int:
        """Return how long all attempts take at most, when each lasts up to its time limit."""
        waits = sum(self.backoff_ms(attempt) for attempt in range(1, self.attempts))
        return waits + self.attempts * time_limit_ms
