"""What a callback may raise to say more than that it has failed. Anything else that it raises is a failure, tried again
by its policy.

raise RetryAfter(120, "the quota is used up")       try again, but not before so many seconds
raise SetAside("no such distribution")              it will not get better: a dead letter now, without further attempts
"""

from __future__ import annotations

import math
from typing import Final

from wait_for_me.errors import STAGE_OF_CODE

CODES: Final = frozenset(code for code, stage in STAGE_OF_CODE.items() if stage == "callback")


class RetryAfter(Exception):
    """The attempt has failed, and the next must not come before `seconds` are over."""

    def __init__(self, seconds: float, message: str = "") -> None:
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"RetryAfter({seconds}): give seconds from 0 on")
        super().__init__(message or f"asked to wait {seconds:g} s")
        self.seconds = seconds

    @property
    def wait_ms(self) -> int:
        """The wait in whole milliseconds."""
        return math.ceil(self.seconds * 1000)


class SetAside(Exception):
    """The attempt has failed for good: the fire becomes a dead letter with this code."""

    def __init__(self, message: str, code: str = "callback_failed") -> None:
        if code not in CODES:
            raise ValueError(f"{code!r} is no code of a callback: take one of {', '.join(sorted(CODES))}")
        super().__init__(message)
        self.code = code
