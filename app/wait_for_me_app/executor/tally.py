"""What the schedule counts for whoever watches it: attempts, dead letters, times. No decision depends on it.

Callbacks are counted by name only if they are registered, so the number of names is the operator's and not a producer's.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from wait_for_me_app.exposition import Histogram

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class Tally:
    """Counts of one executor process; they only grow."""

    def __init__(self) -> None:
        self.attempts: Counter[tuple[str, str]] = Counter()
        """By callback and outcome: `done`, or the code of a failure."""
        self.dead_letters: Counter[str] = Counter()
        self.attempt_seconds = Histogram(SECONDS)
        self.fire_to_start_seconds = Histogram(SECONDS)

    def attempt(self, callback: str, outcome: str, took_ms: int) -> None:
        """Count an attempt that has ended or was given up."""
        self.attempts[callback, outcome] += 1
        self.attempt_seconds.observe(took_ms / 1000)

    def fire_to_start_ms(self, ms: int) -> None:
        """Note how long after its fire a first attempt has begun."""
        self.fire_to_start_seconds.observe(max(0, ms) / 1000)

    def dead(self, code: str) -> None:
        """Count a fire that was set aside."""
        self.dead_letters[code] += 1
