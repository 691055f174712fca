"""Ctrl-C, SIGTERM and SIGHUP are noted when they come and obeyed between two steps.

An exception in the middle of a step could forget a child that has just been started; this way each step is whole.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Final, Self

OBEYED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """Somebody wants the demo to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Interruption:
    """Notes the first of the signals while its context lasts."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in OBEYED}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def wanted(self) -> Interrupted | None:
        """The interruption that is wanted, if a signal has come."""
        return None if self._number is None else Interrupted(self._number)

    def obey(self) -> None:
        """Raise `Interrupted` if a signal has come."""
        if (interrupted := self.wanted) is not None:
            raise interrupted

    def _note(self, number: int, _: FrameType | None) -> None:
        self._number = self._number or number
