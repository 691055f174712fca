"""How many attempts of a callback may begin in a second. Pure; time is passed in.

A token bucket that holds what one second brings, and at least one. It is kept as the time at which the bucket will be
full again, so nothing has to be refilled.
"""

from __future__ import annotations

import math
from typing import Final

_SECOND_MS: Final = 1000.0
_ROUNDING_MS: Final = 1e-6


class Rate:
    """One bucket."""

    __slots__ = ("_full_at_ms", "_interval_ms", "_span_ms")

    def __init__(self, per_second: float) -> None:
        self._interval_ms = _SECOND_MS / per_second
        self._span_ms = max(self._interval_ms, _SECOND_MS) + _ROUNDING_MS
        self._full_at_ms = -math.inf

    def wait_ms(self, steady_ms: int) -> int:
        """Return in how many whole milliseconds there is a token; 0 when there is one.

        >>> rate = Rate(2)
        >>> rate.take(0), rate.take(0), rate.wait_ms(0)
        (None, None, 500)
        """
        missing_ms = max(self._full_at_ms, steady_ms) + self._interval_ms - self._span_ms - steady_ms
        return max(0, math.ceil(missing_ms))

    def take(self, steady_ms: int) -> None:
        """Spend a token."""
        self._full_at_ms = max(self._full_at_ms, steady_ms) + self._interval_ms
