"""What time the broker has, learned from the append times that it stamps.

An append time that has been seen is in the broker's past, so each observation is a lower bound: the estimate is the largest of the
recent ones and runs behind the broker by about one round trip, never ahead of it. Local time is monotonic, so setting the
machine's clock, or its being wrong, has no effect. Observations grow old, so that a broker clock that was set back is followed.
"""

from __future__ import annotations

from typing import Final

WINDOW_MS: Final = 30_000


class BrokerClock:
    """The broker's time as a function of this process's monotonic time."""

    __slots__ = ("_current", "_previous", "_window_start_ms")

    def __init__(self) -> None:
        self._current: float | None = None
        self._previous: float | None = None
        self._window_start_ms = 0.0

    def observe(self, appended_at_ms: int, monotonic_ms: float) -> None:
        """Note that the broker stamped `appended_at_ms` at or before the local moment `monotonic_ms`."""
        if monotonic_ms - self._window_start_ms >= WINDOW_MS:
            self._previous, self._current, self._window_start_ms = self._current, None, monotonic_ms
        ahead = appended_at_ms - monotonic_ms
        if self._current is None or ahead > self._current:
            self._current = ahead

    def now_ms(self, monotonic_ms: float) -> int | None:
        """Return the broker's time at a local moment, or None while nothing has been observed."""
        known = [ahead for ahead in (self._current, self._previous) if ahead is not None]
        return int(monotonic_ms + max(known)) if known else None
