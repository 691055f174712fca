"""What each exit code of `wait-for-me` and of the worker means; scripts and supervisors rely on these numbers."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """A number that a caller can act on without reading a message."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    WAITED_TOO_LONG = 4
    INTERNAL_ERROR = 70  # the worker stops without acking; nothing is lost, start it again
    BROKER_OUT_OF_REACH = 75
    BAD_CONFIGURATION = 78  # a wrong setting or a refused cluster: starting it again does not help
