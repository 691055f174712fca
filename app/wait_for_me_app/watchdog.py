"""Ends a worker whose event loop stood still for half its session timeout, before it sends anything more.

Such a worker may have been declared dead and its lanes given away; what it still holds in memory is a zombie's. The check runs in a
thread of its own, and once more on the loop itself right after a pause, since a process that was stopped (SIGSTOP, a frozen virtual
machine) wakes in both places at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

EXIT_CODE: Final = 70


class Watchdog:
    """Watches one event loop; `start()` in the loop's thread, `stop()` before a planned end."""

    def __init__(self, *, limit_seconds: float, end: Callable[[float], None] | None = None) -> None:
        self._limit = limit_seconds
        self._end = end or _end_process
        self._stopped = threading.Event()
        self._last_turn = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.longest_stall_seconds = 0.0

    def start(self) -> None:
        """Begin to watch the running loop."""
        self._last_turn = time.monotonic()
        self._turn(asyncio.get_running_loop())
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def check(self) -> None:
        """End the process if the loop has stood still too long; call it before anything is sent."""
        if not self._stopped.is_set() and (stood := time.monotonic() - self._last_turn) > self._limit:
            self._end(stood)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self.check()
        now = time.monotonic()
        self.longest_stall_seconds = max(self.longest_stall_seconds, now - self._last_turn - _INTERVAL_SECONDS)
        self._last_turn = now
        if not self._stopped.is_set():
            loop.call_later(_INTERVAL_SECONDS, self._turn, loop)

    def _watch(self) -> None:
        while not self._stopped.wait(_INTERVAL_SECONDS):
            self.check()


_INTERVAL_SECONDS: Final = 0.1


def _end_process(stood_seconds: float) -> None:
    log.critical("loop_stood_still", extra={"seconds": round(stood_seconds, 3)})
    os._exit(EXIT_CODE)
