"""Seconds, as users write them, in whole milliseconds."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

_MS_CACHE_SIZE: Final = 4096
_ms_by_seconds: Final[dict[float, int]] = {}


def to_ms(seconds: float) -> int:
    """Return the decimal value as it is written, in whole milliseconds, rounded up: 1.1 is 1100, 0.0001 is 1."""
    ms = _ms_by_seconds.get(seconds)
    return _remember_ms(seconds) if ms is None else ms


def _remember_ms(seconds: float) -> int:
    if len(_ms_by_seconds) >= _MS_CACHE_SIZE:  # a hostile stream of ever new waits must not grow the worker
        _ms_by_seconds.clear()
    ms = _ms_by_seconds[seconds] = math.ceil(Fraction(repr(seconds)) * 1000)
    return ms
